"""Bands at many k-points: one at a time in each process, so that the memory is that of one."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ....bands import HARTREE, Eigenstates, Hamiltonian, Pseudopotential, solve
from ....bands.symmetry import reduce_points, rotations
from ..evaluation import Results, SystemResult
from ..targets import System, deformation


def bands_at(
    hamiltonian: Hamiltonian,
    potential: Pseudopotential,
    k: Tensor,
    n_bands: int,
    processes: int = 1,
    symmetry: bool = False,
) -> Tensor:
    """The lowest ``n_bands`` bands ``(nk, n_bands)`` eV at ``k`` ``(nk, 3)``, without gradients.

    Points that time reversal makes equal are solved once, with ``symmetry`` those of the crystal's rotations too
    (spglib). Each of ``processes`` forked processes takes neighbouring points, and holds the states of one: an
    iterative solution begins with those of the neighbour.
    """
    reduced = reduce_points(k, rotations(hamiltonian.basis) if symmetry else None)
    number = min(processes, len(reduced.points))
    parts = [reduced.points[place] for place in torch.arange(len(reduced.points)).tensor_split(max(1, number))]
    work = _Work(hamiltonian, potential, n_bands)
    if number <= 1:
        found = [work(part) for part in parts]
    else:
        with warnings.catch_warnings():
            # newer Pythons warn of a fork beside threads: the children run none of torch's
            warnings.simplefilter("ignore", DeprecationWarning)
            with multiprocessing.get_context("fork").Pool(number, _one_thread, (work,)) as pool:
                found = [torch.from_numpy(part) for part in pool.map(_in_child, [part.numpy() for part in parts], 1)]
    return torch.cat(found)[reduced.index]


class _Work:
    """Bands of one part of the k-points, in their order."""

    def __init__(self, hamiltonian: Hamiltonian, potential: Pseudopotential, n_bands: int) -> None:
        self.hamiltonian, self.potential, self.n_bands = hamiltonian, potential, n_bands

    def __call__(self, k: Tensor) -> Tensor:
        """Energies ``(len(k), n_bands)`` eV."""
        states: Eigenstates | None = None
        energies = []
        with torch.no_grad():
            for point in k:
                states = solve(self.hamiltonian, self.potential, point[None], self.n_bands, start=states)
                energies.append(HARTREE * states.listed(states.energies))
        return torch.cat(energies)


_WORK: list[_Work] = []


def _one_thread(work: _Work) -> None:
    torch.set_num_threads(1)
    _WORK[:] = [work]


def _in_child(k: np.ndarray) -> np.ndarray:
    energies: np.ndarray = _WORK[0](torch.from_numpy(k)).numpy()
    return energies


def evaluate(
    systems: Sequence[System], potential: Pseudopotential, processes: int = 1, symmetry: bool = False
) -> Results:
    """Bands of all systems (`bands_at`) in the order of their references, and their deformation potentials."""
    found = []
    for system in systems:
        energies = bands_at(system.hamiltonian, potential, system.k, system.data.n_bands, processes, symmetry)
        if system.data.band_order is not None:
            energies = energies.gather(1, torch.from_numpy(system.data.band_order))
        with torch.no_grad():
            table = deformation(system, potential, system.data.transitions)
        found.append(SystemResult(system, energies, table))
    return Results(found)
