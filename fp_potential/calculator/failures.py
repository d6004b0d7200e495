"""How a calculation can fail, and what is said then."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import torch
from ase import Atoms

from ..distances import closest, pair_lengths
from ..graph import neighbour_list
from ..options import SCFOptions
from ..periodicity import cell_of_graph

#: what to do, by the output `status` of an archive
STATUS = {
    1: "the step limit was reached: raise num_scf_steps or loosen scf_tolerance",
    2: "the residual diverged: check the structure and the total charge, or use solver='linear' with less mixing",
    3: "the solution is unstable: the model's charges are too soft here; retrain it",
    4: "the charge does not respond to the Fermi level: this model cannot hold a charge here; retrain it, unless the "
    "structure is one that it was not made for",
}
#: status of a Fermi level held where there is none
NO_FERMI_LEVEL = 5
#: residuals that rounding leaves, over the rounding error of a component of the density, and the least of these
ROUNDING, SMALLEST = 30.0, 1e-3


class SCFNotConverged(RuntimeError):
    """The self-consistent loop failed; the message names the residual, the tolerance and what to change."""


class NoFermiLevel(ValueError):
    """A Fermi level is to be held where none exists."""


class OutsideTraining(ValueError):
    """A calculation far outside the training of its model, with ``outside="error"``."""


def say_far(found: Mapping[str, str], outside: str, said: set[str]) -> None:
    """Say that a calculation is far outside the training, once for each kind among ``found`` that is not in ``said``.

    Raises:
        OutsideTraining: ``outside`` is error.
    """
    if outside == "ignore":
        return
    for kind, sentence in found.items():
        if outside == "error":
            raise OutsideTraining(f"{sentence}; outside='warn' or 'ignore' goes on")
        if kind not in said:
            said.add(kind)
            warnings.warn(
                f"far outside the training of this model: {sentence}; what it predicts there is a guess", stacklevel=5
            )


def failure(out: Mapping[str, torch.Tensor], scf: SCFOptions, atoms: Atoms, cutoff: float) -> str:
    """What is said of a loop, or its adjoint, that failed; empty for one that did not.

    Args:
        out: outputs of the archive.
        scf: what the loop ran with.
        atoms: the structure, and ``cutoff`` of its neighbour list, Å.
    """
    status = int(out["status"][0])
    if status == 0:
        finite = all(bool(torch.isfinite(out[name]).all()) for name in ("energy", "forces") if name in out)
        return (
            "" if finite else f"energy or forces are not finite; {_structure(atoms, cutoff) or 'check the structure'}"
        )
    adjoint = float(out["adjoint_residual"][0])
    said = f"adjoint residual {adjoint:.2e}"
    reached = adjoint
    if "residual" in out:
        reached = float(out["residual"][0])
        said = f"residual {reached:.2e}, {said} after {int(out['scf_steps'][0])} applications"
    advice = _precision(out, scf, reached) or _structure(atoms, cutoff) or STATUS[status]
    return f"SCF not converged: {said}, scf_tolerance {scf.scf_tolerance:.1e}; {advice}"


def _precision(out: Mapping[str, torch.Tensor], scf: SCFOptions, reached: float) -> str:
    """Whether the tolerance is below what this arithmetic can reach."""
    if "density" not in out or int(out["status"][0]) > 2:
        return ""
    density = out["density"]
    least = torch.finfo(density.dtype).eps * max(SMALLEST, float(density.abs().mean()))
    if not (scf.scf_tolerance < least or reached <= ROUNDING * least):
        return ""
    name = str(density.dtype).removeprefix("torch.")
    better = "" if name == "float64" else ", or export the model with --dtype float64"
    return (
        f"scf_tolerance {scf.scf_tolerance:.1e} cannot be reached in {name}, whose rounding errors leave residuals of "
        f"about {max(reached if reached <= ROUNDING * least else 0.0, ROUNDING * least):.0e} here: raise it{better}"
    )


def _structure(atoms: Atoms, cutoff: float) -> str:
    """Whether atoms are closer than in anything that exists."""
    positions, cell, pbc = atoms.positions, atoms.cell.array, atoms.pbc
    pairs, cells = neighbour_list(positions, cell, pbc, cutoff)
    return closest(np.asarray(atoms.numbers), pairs, pair_lengths(positions, cell_of_graph(cell, pbc), pairs, cells))
