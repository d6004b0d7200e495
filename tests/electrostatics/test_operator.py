"""The Coulomb operator against erf formulas, graph-longrange, and its own transpose."""

import math

import pytest
import torch

from figures import at_most
from fp_potential.electrostatics import Electrostatics
from fp_potential.units import COULOMB, GRADIENT_FEATURE, SCALAR_FEATURE

SIGMA, WIDTHS = 1.5, [1.5, 3.0]


def operator(factor: float = 2.0, **flags: bool) -> Electrostatics:
    settings = {"include_field_si": False, "include_self_energy": True, **flags}
    return Electrostatics(SIGMA, WIDTHS, factor, **settings)


def random_system(n: int, seed: int, cell: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    density = torch.randn(n, 4, dtype=torch.float64, generator=g) * torch.tensor([0.5, 0.3, 0.3, 0.3])
    positions = torch.rand(n, 3, dtype=torch.float64, generator=g)
    if cell is None:
        return positions * 6.0, density, torch.eye(3, dtype=torch.float64)[None], torch.zeros(1, 3, dtype=torch.bool)
    return positions @ cell, density, cell[None], torch.ones(1, 3, dtype=torch.bool)


CELL = torch.tensor([[7.0, 0.0, 0.0], [1.1, 6.5, 0.0], [-0.6, 0.9, 8.0]], dtype=torch.float64)


@pytest.mark.parametrize("distance", [0.9, 2.4, 7.0])
def test_pair_of_charges_is_the_erf_formula(distance: float) -> None:
    es = operator()
    positions = torch.tensor([[0.0, 0, 0], [0, 0, distance]], dtype=torch.float64)
    density = torch.tensor([[0.7, 0, 0, 0], [-0.4, 0, 0, 0]], dtype=torch.float64)
    batch = torch.zeros(2, dtype=torch.int64)
    cache = es.prepare(positions, torch.eye(3)[None].double(), torch.zeros(1, 3, dtype=torch.bool), batch)
    field = es.field(cache, density, False)
    for n, width in enumerate(WIDTHS):
        w = math.sqrt(SIGMA**2 + width**2)
        expected = -0.4 * COULOMB * math.erf(distance / (math.sqrt(2) * w)) / distance
        at_most("pair of charges against erf, relative", abs(field[0, n, 0].item() / expected - 1.0), 1e-12)
    energy = 0.5 * (density * es.potentials(cache, density, False)).sum().item()
    w = math.sqrt(2) * SIGMA
    pair = -0.28 * COULOMB * math.erf(distance / (math.sqrt(2) * w)) / distance
    own = 0.5 * COULOMB * (0.7**2 + 0.4**2) / (SIGMA * math.sqrt(math.pi))
    assert energy == pytest.approx(pair + own, rel=1e-12)


def test_dipole_is_the_limit_of_two_charges() -> None:
    es, h = operator(), 1e-3
    pbc, cell = torch.zeros(1, 3, dtype=torch.bool), torch.eye(3, dtype=torch.float64)[None]
    d, at = torch.tensor([0.2, -0.5, 0.3], dtype=torch.float64), torch.tensor([1.0, 0.4, -0.8], dtype=torch.float64)
    probe = torch.zeros(1, 3, dtype=torch.float64)
    unit = d / d.norm()
    charges = torch.cat([probe, (at + unit * h / 2)[None], (at - unit * h / 2)[None]])
    q = torch.zeros(3, 4, dtype=torch.float64)
    q[1, 0], q[2, 0] = d.norm() / h, -d.norm() / h
    three = es.prepare(charges, cell, pbc, torch.zeros(3, dtype=torch.int64))
    p = torch.zeros(2, 4, dtype=torch.float64)
    p[1, 1:] = d[[1, 2, 0]]
    two = es.prepare(torch.cat([probe, at[None]]), cell, pbc, torch.zeros(2, dtype=torch.int64))
    assert torch.allclose(es.field(three, q, False)[0], es.field(two, p, False)[0], atol=1e-6)


@pytest.mark.parametrize("flags", [{}, {"include_field_si": True}, {"include_self_energy": False}])
def test_periodic_sum_of_a_large_box_is_open(flags: dict) -> None:
    """A neutral cluster without dipole in a large box: images and background matter as 1/L^5 or less."""
    es = operator(1.2, **flags)
    positions = torch.tensor(
        [[0.0, 0, 0], [1.4, 0, 0], [-1.4, 0, 0], [0, 1.4, 0], [0, -1.4, 0], [0, 0, 1.4], [0, 0, -1.4]]
    )
    positions = positions.double()
    density = torch.zeros(7, 4, dtype=torch.float64)
    density[:, 0] = torch.tensor([-0.6, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    batch = torch.zeros(7, dtype=torch.int64)
    cell = 40.0 * torch.eye(3, dtype=torch.float64)[None]
    closed = es.prepare(positions, cell, torch.ones(1, 3, dtype=torch.bool), batch)
    free = es.prepare(positions, cell, torch.zeros(1, 3, dtype=torch.bool), batch)
    difference = es.field(closed, density, False) - es.field(free, density, False)
    # neutral: the potentials agree up to the constant 2 pi k_e / 3V sum q (r² + ...) of the missing k = 0 term
    assert (difference[:, :, 1:]).abs().max() < 2e-5
    assert (difference[:, :, 0] - difference[:1, :, 0]).abs().max() < 2e-5
    energies = [0.5 * (density * es.potentials(c, density, False)).sum() for c in (closed, free)]
    assert abs(energies[0] - energies[1]) < 1e-5


@pytest.mark.parametrize("cell", [None, CELL, CELL[[1, 0, 2]]], ids=["open", "periodic", "left-handed"])
def test_transpose(cell: torch.Tensor | None) -> None:
    es = operator()
    positions, density, box, pbc = random_system(6, 3, cell)
    cache = es.prepare(positions, box, pbc, torch.zeros(6, dtype=torch.int64))
    weights = torch.randn(6, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    left = (weights * es.field(cache, density, False)).sum()
    right = (es.apply_transposed(cache, weights, False) * density).sum()
    assert left.item() == pytest.approx(right.item(), rel=1e-12)


@pytest.mark.parametrize("cell", [CELL, CELL[[1, 0, 2]], torch.diag(torch.tensor([6.0, 9.0, 14.0])).double()])
def test_against_graph_longrange(cell: torch.Tensor, graph_longrange) -> None:
    """Features and energy of random charges and dipoles, relative 1e-6, with the same cutoff of the k-sum."""
    es = operator(1.5)
    positions, density, box, pbc = random_system(8, 7, cell)
    batch = torch.zeros(8, dtype=torch.int64)
    cache = es.prepare(positions, box, pbc, batch)
    scale = torch.tensor([[SCALAR_FEATURE] + [GRADIENT_FEATURE * w] * 3 for w in WIDTHS], dtype=torch.float64)
    ours = es.field(cache, density, False) * scale
    energy = 0.5 * (density * es.potentials(cache, density, False)).sum()
    # its volume has the sign of the determinant; give it the right-handed description of the same lattice
    right = box if torch.det(box[0]) > 0 else -box
    their_energy, features = graph_longrange(positions, density, right, es.kspace_cutoff)
    at_most("Coulomb energy against graph-longrange, relative", (energy / their_energy - 1.0).abs(), 1e-6)
    scalars, vectors = features[:, :2], features[:, 2:].reshape(8, 2, 3)
    for found, theirs in ((ours[:, :, 0], scalars), (ours[:, :, 1:], vectors)):
        error = (found - theirs).abs() / theirs.abs().max()
        at_most("field features against graph-longrange, relative", error, 1e-6)


def test_mixed_batch_equals_one_by_one() -> None:
    es = operator()
    a, b = random_system(5, 1, CELL), random_system(4, 2, None)
    batch = torch.tensor([0] * 5 + [1] * 4)
    density = torch.cat([a[1], b[1]])
    both = es.prepare(torch.cat([a[0], b[0]]), torch.cat([a[2], b[2]]), torch.cat([a[3], b[3]]), batch)
    together = es.field(both, density, False)
    apart = [
        es.field(es.prepare(s[0], s[2], s[3], torch.zeros(len(s[0]), dtype=torch.int64)), s[1], False) for s in (a, b)
    ]
    assert torch.allclose(together, torch.cat(apart), rtol=0, atol=1e-12)
