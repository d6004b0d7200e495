"""The charge density of states on a grid of the cell, and files of it."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import torch
from torch import Tensor

from .crystal import Crystal
from .eigenvalues import Eigenstates
from .units import BOHR

FORMATS = (".cube", ".xsf")


def charge_density(
    states: Eigenstates, occupations: Tensor, k_weights: Tensor | None = None, shape: tuple[int, int, int] | None = None
) -> Tensor:
    """rho(r) = sum_k w_k sum_n f_n |psi_nk(r)|², electrons per Bohr³, on a grid ``(n1, n2, n3)`` of the cell.

    ``occupations`` ``(n_bands,)`` or ``(b, n_bands)`` of the bands (spin counted, 0 to 1 each), ``k_weights`` ``(b,)``
    (by default equal), divided by their sum. Each state of a degenerate group has the mean occupation of the group, so
    that the density does not depend on which states span it. Point (i, j, l) is at the fractions (i/n1, j/n2, l/n3).
    Without ``shape`` the grid is the smallest that holds every difference G - G': its values are exact, and their mean
    times the volume is the number of electrons.

    Raises ValueError if the grid is too small for the waves.
    """
    hamiltonian = states.hamiltonian
    integers = hamiltonian.basis.integers
    reach = integers.abs().amax(0)
    sizes = tuple((4 * reach + 1).tolist()) if shape is None else tuple(shape)
    if any(size < 2 * int(most) + 1 for size, most in zip(sizes, reach)):
        raise ValueError(f"a grid of {sizes} points does not hold the waves; take at least {(2 * reach + 1).tolist()}")
    weights = torch.ones(len(states.k), dtype=torch.float64) if k_weights is None else k_weights.to(torch.float64)
    weights = weights / weights.sum()
    by_state = states.traced(_by_state(states, occupations))
    density = torch.zeros(sizes, dtype=torch.float64)
    # waves are exp(-i (k + G) · r): the forward transform
    places = (integers % torch.tensor(sizes)).T
    for vectors, f, w in zip(states.vectors, by_state, weights):
        components = vectors.reshape(len(integers), -1, vectors.shape[1])
        for n in range(components.shape[2]):
            if f[n] == 0.0:
                continue
            for c in components[:, :, n].T:
                grid = torch.zeros(sizes, dtype=torch.complex128)
                grid[places[0], places[1], places[2]] = c
                density += w * f[n] * torch.fft.fftn(grid).abs() ** 2
    return density / hamiltonian.crystal.volume


def _by_state(states: Eigenstates, occupations: Tensor) -> Tensor:
    """Electrons in each state ``(b, n)``: both bands' where a state is two."""
    f = torch.as_tensor(occupations, dtype=torch.float64).expand(len(states.k), states.n_bands)
    result = torch.zeros_like(states.energies)
    columns = torch.arange(states.n_bands) // (2 if states.doubled else 1)
    return result.index_add_(1, columns, f)


def write_density(path: Path, crystal: Crystal, density: Tensor) -> None:
    """Write a density as a Gaussian cube (.cube) or XCrySDen (.xsf) file, by ASE; values per Bohr³, or per Å³ in xsf.

    Raises ValueError for another ending.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"a density is written as {' or '.join(FORMATS)}, not {path.name!r}")
    atoms = crystal.to_ase()
    if path.suffix == ".cube":
        ase.io.write(path, atoms, format="cube", data=density.numpy())
        return
    # grids of xsf files end with the first point of the next cell
    periodic = np.pad(density.numpy() / BOHR**3, [(0, 1)] * 3, mode="wrap")
    ase.io.write(path, atoms, format="xsf", data=periodic, span_vectors=np.asarray(atoms.cell))
