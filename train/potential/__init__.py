"""Training of the potential: its problem, batches, losses, errors and statistics."""
