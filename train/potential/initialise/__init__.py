"""Parameters from elsewhere: other potentials, mace-torch models, fits to labels."""
