"""How a loop can end: the values of `loop.SolverResult.status`, of the output ``status`` and of the plugin.

CONVERGED           the residual is within the tolerance
MAX_STEPS           the largest number of applications was reached
DIVERGED            the residual grew again after every restart
UNSTABLE            the solution found is one that small changes lead away from
NO_CHARGE_RESPONSE  the constraint cannot be met: the charge does not follow the Fermi level
NO_FERMI_LEVEL      the constraint means nothing: no atom conducts, so there is no Fermi level to hold
"""

CONVERGED, MAX_STEPS, DIVERGED, UNSTABLE, NO_CHARGE_RESPONSE, NO_FERMI_LEVEL = 0, 1, 2, 3, 4, 5
