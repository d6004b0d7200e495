"""How a calculation can fail, and what is said then."""

#: what to do, by the output `status` of an archive
STATUS = {
    1: "the step limit was reached: raise num_scf_steps or loosen scf_tolerance",
    2: "the residual diverged: check the structure and the total charge, or use solver='linear' with less mixing",
    3: "the solution is unstable: the model's charges are too soft here; retrain it",
    4: "the charge does not respond to the Fermi level: this model cannot hold a charge here; retrain it",
}
#: status of a Fermi level held where there is none
NO_FERMI_LEVEL = 5


class SCFNotConverged(RuntimeError):
    """The self-consistent loop failed; the message names the residual, the tolerance and what to change."""


class NoFermiLevel(ValueError):
    """A Fermi level is to be held where none exists."""
