"""Neural pseudopotentials fitted to band structures, as a learned model of the trainer."""
