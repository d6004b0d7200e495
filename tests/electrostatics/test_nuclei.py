"""Potentials at the nuclei against sums written out in another way."""

import math

import numpy as np
import torch

from fp_potential.electrostatics import Electrostatics
from fp_potential.electrostatics.nuclei import potentials_at_nuclei
from fp_potential.graph import collate
from fp_potential.units import COULOMB
from structures import make_model, salt_water_box, to_graph, water_cluster

SIGMA = 1.2


def operator() -> Electrostatics:
    return Electrostatics(SIGMA, [1.5], 1.5, False, True)


def multipoles(n: int) -> torch.Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def potentials(graph, density: torch.Tensor) -> torch.Tensor:
    return potentials_at_nuclei(operator(), graph.positions, graph.cell, graph.pbc, graph.batch, density)


def test_open_structures_are_sums_of_error_functions() -> None:
    """A dipole is the limit of two charges."""
    graph = to_graph(water_cluster(2), make_model())
    density = multipoles(6)
    h = 1e-4

    def of_charge(points: np.ndarray, charges: np.ndarray, at: np.ndarray) -> float:
        r = np.maximum(np.linalg.norm(points - at, axis=1), 1e-9)
        return COULOMB * sum(q * math.erf(d / (math.sqrt(2) * SIGMA)) / d for q, d in zip(charges, r, strict=True))

    p, r = density.numpy(), graph.positions.numpy()
    cartesian = p[:, [3, 1, 2]]
    for i in range(6):
        expected = of_charge(r, p[:, 0], r[i])
        for axis in range(3):
            step = h * np.eye(3)[axis]
            expected += of_charge(r + step, cartesian[:, axis] / (2 * h), r[i])
            expected -= of_charge(r - step, cartesian[:, axis] / (2 * h), r[i])
        assert abs(potentials(graph, density)[i].item() - expected) < 1e-6


def test_periodic_structures_are_the_sum_over_waves() -> None:
    graph = to_graph(salt_water_box(), make_model())
    density = multipoles(20)
    p, r, cell = density.numpy(), graph.positions.numpy(), graph.cell[0].numpy()
    volume = abs(np.linalg.det(cell))
    numbers = np.stack(np.meshgrid(*[np.arange(-14, 15)] * 3), axis=-1).reshape(-1, 3)
    k = 2 * np.pi * numbers[np.any(numbers != 0, axis=1)] @ np.linalg.inv(cell).T
    k2 = (k**2).sum(1)
    factor = ((p[:, 0] - 1j * k @ p[:, [3, 1, 2]].T) * np.exp(-1j * k @ r.T)).sum(1)
    waves = 4 * np.pi * COULOMB / volume * np.exp(-0.5 * k2 * SIGMA**2) / k2 * factor
    expected = (np.exp(1j * r @ k.T) @ waves).real
    # what the cutoff leaves out of potentials of some 10 V
    assert np.abs(potentials(graph, density).numpy() - expected).max() < 3e-3
    narrow = Electrostatics(SIGMA, [1.5], 2.5, False, True)
    found = potentials_at_nuclei(narrow, graph.positions, graph.cell, graph.pbc, graph.batch, density)
    assert np.abs(found.numpy() - expected).max() < 1e-8


def test_structures_of_a_batch_do_not_see_each_other() -> None:
    model = make_model()
    graphs = [to_graph(water_cluster(2), model), to_graph(salt_water_box(), model), to_graph(water_cluster(1), model)]
    density = multipoles(29)
    one_by_one = [potentials(g, p) for g, p in zip(graphs, density.split([6, 20, 3]), strict=True)]
    assert torch.allclose(potentials(collate(graphs), density), torch.cat(one_by_one), rtol=0, atol=1e-12)
