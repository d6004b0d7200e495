"""Training: configuration, data, statistics, losses, stages and the trainer."""
