"""The trainer of any learned model: stages, optimisers, Monte Carlo, averages, checkpoints, log, processes."""
