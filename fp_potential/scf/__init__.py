"""Fixed-point solvers for any map, the charge constraint and the adjoint."""
