"""Cloning: fitted point by point to a known model, does a fixed-point model reproduce it when it is iterated?

Small potentials are trained in mode ``direct``, p = G(p*) at the reference density and total charge, on densities,
energies and forces that come from exact solutions of charge equilibration.  Then they are compared with these on other
structures twice: point by point, as they were trained, and by their own self-consistent solution.  A map with a small
error at every point can still be wrong at its fixed point, where errors are multiplied by (1 - J)^-1, or have none.

The Fermi level is not among the labels.  At a given level a change of the geometry changes the charge of G(p*), and
the derivative of its energy is not the force, not even for the known model itself; at a given charge it is.  So the
level of a clone is defined up to a constant, which its comparison leaves out.

The clone has the known model's Gaussians. Clones of atoms alone leave self-interactions out of energy and field, so
that charge equilibration is among those they can represent: p_loc = -χ/η, one matrix -1/η per atom, and a non-local
energy bilinear in Δp and v. Clones with bonds keep them, and their energy is that of the response
(`readout.variational`): split charges are among those, and charge equilibration where all elements may conduct.
There is no repulsion: nothing but the self-consistent density is to be learnt.
"""

from .compare import Comparison, Errors, compare
from .options import ARCHITECTURES, CloningOptions
from .report import table
from .run import Clone, clone

__all__ = ["ARCHITECTURES", "Clone", "CloningOptions", "Comparison", "Errors", "clone", "compare", "table"]
