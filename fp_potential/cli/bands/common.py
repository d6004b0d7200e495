"""What the tools share: the potential of a run, a crystal, k-points."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from fp_potential.bands import Hamiltonian, Pseudopotential
    from fp_potential.train.bands.data import BandSystem


class Asked(NamedTuple):
    """A potential, the Hamiltonian of a crystal, k-points and number of bands."""

    potential: Pseudopotential
    hamiltonian: Hamiltonian
    k: Tensor
    n_bands: int
    system: BandSystem  #: the run's, whose edges and names of files count
    named: list[tuple[int, str]]  #: special points of the path


def add_common(parser: argparse.ArgumentParser) -> None:
    """Arguments that say of what the bands are."""
    parser.add_argument("folder", metavar="run", help="folder of a run (fixedpoint train)")
    parser.add_argument("--checkpoint", default="latest", metavar="latest|best|stage_N", help="which one of the run")
    parser.add_argument(
        "--system",
        metavar="NAME",
        help="system of the run whose crystal, cutoff and bands to take (default: the first)",
    )
    parser.add_argument(
        "--structure",
        metavar="FILE",
        help="another crystal of the same species: a file that ASE reads, or system_X.par",
    )
    parser.add_argument("--max-ke", type=float, metavar="HARTREE", help="cutoff (default: that of the system)")
    parser.add_argument("--n-bands", type=int, metavar="N", help="number of bands (default: that of the system)")
    parser.add_argument("--kpoints", metavar="FILE", help="k-points as in kpoints_X.par (default: those of the system)")
    parser.add_argument(
        "--path", metavar="LGXWKG", help="a path through special points of the lattice, as ASE names them"
    )
    parser.add_argument("--points", type=int, default=101, metavar="N", help="points of it")


def asked(arguments: argparse.Namespace) -> Asked:
    """What `add_common` says.

    Raises:
        InputError: a folder, file, system or path that does not fit.
    """
    import torch

    from fp_potential.train.bands import full_bands as tools
    from fp_potential.train.errors import InputError, nearest

    problem = tools.load_problem(Path(arguments.folder), arguments.checkpoint)
    systems = {system.data.name: system.data for system in problem.systems}
    if arguments.system is not None and arguments.system not in systems:
        raise InputError(f"--system {arguments.system}: not in the run; {nearest(arguments.system, systems)}")
    system = systems[arguments.system or next(iter(systems))]
    potential = problem.module
    crystal = tools.crystal_of(Path(arguments.structure) if arguments.structure else None, system)
    named: list[tuple[int, str]] = []
    if arguments.kpoints:
        k = tools.points_of_file(Path(arguments.kpoints))
    elif arguments.path or arguments.structure:
        k, named = tools.points_on_path(crystal, arguments.path, arguments.points)
    else:
        k = torch.from_numpy(system.kpoints)
    max_ke = arguments.max_ke or system.max_ke
    hamiltonian = tools.hamiltonian_of(crystal, potential, max_ke, problem.config.model.basis)
    return Asked(potential, hamiltonian, k, arguments.n_bands or system.n_bands, system, named)
