"""How a loop can end."""

#: values of `SolverResult.status`
CONVERGED, MAX_STEPS, DIVERGED, UNSTABLE, NO_CHARGE_RESPONSE = 0, 1, 2, 3, 4
