"""Other programs for the same work as `fp_potential.electrostatics`, as functions to be timed.

Every function returns None where its package is not installed.  None of the packages is needed by anything else here.
"""

import math
import sys
import types
import warnings
from collections.abc import Callable

import numpy as np
import torch
import vesin
from torch import Tensor

from fp_potential.units import COULOMB

#: real-space cutoff (Å) of Ewald methods for point charges, and the width of their screening
CUTOFF, SCREENING = 6.0, 1.2


def pairs(positions: Tensor, cell: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All ordered pairs within CUTOFF: atoms i and j, lattice translations and distances, in the order of i."""
    lists = vesin.NeighborList(cutoff=CUTOFF, full_list=True)
    i, j, shifts, distances = lists.compute(
        points=positions.numpy(), box=cell.numpy(), periodic=True, quantities="ijSd"
    )
    order = np.argsort(i, kind="stable")
    return i[order], j[order], shifts[order], distances[order]


def torch_pme(
    positions: Tensor, cell: Tensor, charges: Tensor, width: float | None, spacing: float
) -> Callable[[], Tensor] | None:
    """Potentials by its PME (4 nodes): of point charges, or of Gaussians (``width``: combined) without any pairs."""
    try:
        import torchpme
    except ImportError:
        return None
    if width is None:
        i, j, _, d = pairs(positions, cell)
        indices, distances = torch.tensor(np.stack([i, j], axis=1).astype(np.int64)), torch.tensor(d)
    else:
        indices, distances = torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, dtype=torch.float64)
    potential = torchpme.CoulombPotential(smearing=SCREENING if width is None else width)
    calculator = torchpme.PMECalculator(potential, mesh_spacing=spacing, full_neighbor_list=True).to(torch.float64)
    return lambda: 2.0 * COULOMB * calculator(charges.unsqueeze(1), cell, positions, indices, distances)[:, 0]


def nvalchemi(positions: Tensor, cell: Tensor, charges: Tensor, spacing: float) -> Callable[[], Tensor] | None:
    """Energies of point charges by the PME of nvalchemi-toolkit-ops (order 5)."""
    try:
        from nvalchemiops.torch.interactions.electrostatics.pme import particle_mesh_ewald
    except ImportError:
        return None
    i, j, shifts, _ = pairs(positions, cell)
    starts = np.searchsorted(i, np.arange(len(positions) + 1))
    neighbours = {
        "neighbor_list": torch.tensor(np.stack([i, j]).astype(np.int32)),
        "neighbor_ptr": torch.tensor(starts.astype(np.int32)),
        "neighbor_shifts": torch.tensor(shifts.astype(np.int32)),
    }
    alpha = 1.0 / (math.sqrt(2.0) * SCREENING)
    box = cell.unsqueeze(0)
    return lambda: particle_mesh_ewald(
        positions, charges, box, alpha=alpha, mesh_spacing=spacing, spline_order=5, **neighbours
    )


class GraphLongrange:
    """Field features and energy of Gaussian charges and dipoles by graph-longrange's sum over reciprocal vectors."""

    def __init__(self, sigma: float, widths: list[float], cutoff: float) -> None:
        # it imports scatter helpers of mace for its boundary corrections, which the periodic path never calls
        names = ("mace", "mace.tools", "mace.tools.scatter")
        stand_in = {name: types.ModuleType(name) for name in names if name not in sys.modules}
        if "mace.tools.scatter" in stand_in:
            stand_in["mace.tools.scatter"].scatter_sum = None  # type: ignore[attr-defined]
            stand_in["mace.tools.scatter"].scatter_mean = None  # type: ignore[attr-defined]
        sys.modules.update(stand_in)
        try:
            with torch.serialization.safe_globals([slice]):
                from graph_longrange.energy import GTOElectrostaticEnergy
                from graph_longrange.features import GTOElectrostaticFeatures
                from graph_longrange.kspace import compute_k_vectors_flat
        finally:
            for name in stand_in:
                sys.modules.pop(name, None)
        shared = {
            "density_max_l": 1,
            "density_smearing_width": sigma,
            "kspace_cutoff": cutoff,
            "pbc_handling": "pbc",
        }
        self.cutoff = cutoff
        self.k_vectors = compute_k_vectors_flat
        self.energy = GTOElectrostaticEnergy(**shared, include_self_interaction=True)
        self.features = GTOElectrostaticFeatures(
            **shared, feature_max_l=1, feature_smearing_widths=widths, include_self_interaction=False
        )

    @classmethod
    def installed(cls, sigma: float, widths: list[float], cutoff: float) -> "GraphLongrange | None":
        """The modules in float64, or None."""
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return cls(sigma, widths, cutoff)
        except ImportError:
            return None
        finally:
            torch.set_default_dtype(before)

    def work(self, positions: Tensor, cell: Tensor, densities: list[Tensor], readout: Tensor) -> tuple[Tensor, Tensor]:
        """Preparation, features of every density and the energy of the first: read-out of all, and forces of that."""
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            x = positions.clone().requires_grad_(True)
            box = cell.unsqueeze(0)
            batch = torch.zeros(len(x), dtype=torch.int64)
            k = self.k_vectors(self.cutoff, box, 2.0 * math.pi * torch.linalg.inv(box).transpose(1, 2))
            volume, pbc = torch.det(box), torch.ones(1, 3, dtype=torch.bool)
            cache = self.features.precompute_geometry(*k, x, batch, volume, pbc)
            total = self.energy(*k, densities[0], x, batch, volume, pbc).sum()
            for density in densities:
                total = total + (readout * self.features.forward_dynamic(cache, density)).sum()
            return total.detach(), torch.autograd.grad(total, x)[0]
        finally:
            torch.set_default_dtype(before)
