"""The potential's fixed-point problem: density map, Fermi level, solver, observables, forces by the adjoint."""
