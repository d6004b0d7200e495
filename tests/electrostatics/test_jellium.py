"""The compensating jellium slab against integrals, charged planes and its own derivatives."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from figures import at_most
from fp_potential.electrostatics import Electrostatics
from fp_potential.electrostatics import jellium as module
from fp_potential.electrostatics.jellium import (
    Jellium,
    apply_jellium,
    apply_jellium_transposed,
    prepare_jellium,
    slab_normal,
)
from fp_potential.units import COULOMB

BOUNDS = [-1.5, 4.0]
WIDTHS = torch.tensor([2.1, 3.4, 1.7], dtype=torch.float64)
CELL = torch.tensor([[5.0, 0.3, 0.0], [-1.0, 6.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
TTF = torch.tensor([True, True, False])
AREA = 30.3


def points(n: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 8.0 * torch.randn(n, 3, generator=generator, dtype=torch.float64)


def tables(positions: torch.Tensor, **changes) -> Jellium:
    settings = {"cell": CELL, "pbc": TTF, "bounds": BOUNDS, "widths": WIDTHS}
    return prepare_jellium(positions, **(settings | changes))


def multipoles(n: int) -> torch.Tensor:
    return torch.randn(n, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_integrals_of_the_smeared_distance() -> None:
    """F is the average of |t + W ξ|, and each function the integral of the one before."""
    for w in (0.4, 1.7):
        width = torch.tensor(w, dtype=torch.float64)

        def value(name: str, t: float, width: torch.Tensor = width) -> float:
            return getattr(module, name)(torch.tensor(t, dtype=torch.float64), width).item()

        for t in (-3.0, 0.0, 0.7, 6.0):
            average = quad(lambda x, t=t, w=w: abs(t + w * x) * norm.pdf(x), -12, 12, points=[-t / w], limit=200)[0]
            at_most("smeared distance against quadrature, Å", abs(value("smeared_distance", t) - average), 1e-9)
            for f, g in (
                ("smeared_distance", "integrated_distance"),
                ("integrated_distance", "twice_integrated_distance"),
            ):
                integral = quad(lambda u, f=f: value(f, u), 0.0, t, epsabs=1e-12)[0]
                at_most(f"{g} against quadrature", abs(value(g, t) - integral), 1e-9)


def test_field_is_that_of_many_charged_planes() -> None:
    """-2π k_e |z| of each plane, averaged over the Gaussians of the slab and of the receiver."""
    positions = points()
    found = tables(positions)
    planes, step = np.linspace(*BOUNDS, 1501, retstep=True)
    weight = np.full(planes.shape, step)
    weight[[0, -1]] *= 0.5
    nodes = np.linspace(-8, 8, 1501)
    of_node = norm.pdf(nodes) / norm.pdf(nodes).sum()
    for n, w in enumerate(WIDTHS.tolist()):
        for i, z in enumerate(positions[:, 2].tolist()):
            offset = z + w * nodes[:, None] - planes
            potential = -2 * math.pi * COULOMB / (AREA * (BOUNDS[1] - BOUNDS[0])) * (np.abs(offset) @ weight @ of_node)
            slope = -2 * math.pi * COULOMB / (AREA * (BOUNDS[1] - BOUNDS[0])) * (np.sign(offset) @ weight @ of_node)
            # components (0, y, z, x)
            expected = np.array([potential, 0.0, slope, 0.0])
            at_most("unit jellium against planes, V and V/Å", np.abs(found.field[i, n].numpy() - expected), 2e-4)


def test_own_is_the_average_over_the_slab() -> None:
    """Half of it is the self energy: the slab, of many planes, in its own potential."""
    heights = np.linspace(*BOUNDS, 801)
    positions = torch.tensor([[0.3, -0.2, z] for z in heights], dtype=torch.float64)
    found = tables(positions)
    average = np.trapezoid(found.potential[:, 0].numpy(), heights) / (BOUNDS[1] - BOUNDS[0])
    at_most("self potential of the slab, relative", abs(found.own.item() / average - 1), 1e-6)


def test_energy_is_that_of_density_and_slab() -> None:
    """½ p·A' p with A = 0: -Q V·p + ½ J Q²."""
    found, density = tables(points()), multipoles(7)
    charge, coupling = density[:, 0].sum(), (found.potential * density).sum()
    energy = 0.5 * (density * apply_jellium(found, density, False)[:, -1]).sum()
    assert torch.allclose(energy, -charge * coupling + 0.5 * found.own * charge**2, rtol=1e-12)


def test_against_a_grid_of_charges() -> None:
    """Minus the total charge on a grid of Gaussians that fills the slab: the same energy, potentials and forces.

    The grid's potentials have the zero of charged sheets, the jellium's the average over the slab: a constant apart.
    """
    operator = Electrostatics(1.6, [1.5, 3.0], 1.5, False, True)
    cell, bounds = torch.diag(torch.tensor([6.0, 6.0, 0.0], dtype=torch.float64)), [-1.5, 2.5]
    atoms = torch.tensor([[0.2, 0.3, 0.9], [3.1, 2.0, -2.0], [1.0, 4.0, 5.5]], dtype=torch.float64).requires_grad_(True)
    density, batch = multipoles(3), torch.zeros(3, dtype=torch.int64)
    inside, spacing = np.arange(0, 6, 0.75), 0.1
    heights = np.arange(bounds[0] + spacing / 2, bounds[1], spacing)
    sites = torch.tensor(np.stack(np.meshgrid(inside, inside, heights), -1).reshape(-1, 3))
    grid = torch.zeros(len(sites), 4, dtype=torch.float64)
    grid[:, 0] = -density[:, 0].sum() / len(sites)

    def energy_and_field(positions: torch.Tensor, p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        of = torch.zeros(len(p), dtype=torch.int64)
        cache = operator.prepare(positions, cell[None], TTF[None], of)
        # with the own part of every site: the grid stands for a continuum
        field = operator.field(cache, p, False)[:3]
        return 0.5 * (p * operator.potentials(cache, p, False)).sum(), field

    expected, field = energy_and_field(torch.cat([atoms, sites]), torch.cat([density, grid]))
    (force,) = torch.autograd.grad(expected, atoms)
    operator.set_jellium(bounds)
    found, of_slab = energy_and_field(atoms, density)
    (own_force,) = torch.autograd.grad(found, atoms)
    at_most("slab against a grid, energy, eV", abs((found - expected).item()), 2e-3)
    at_most("slab against a grid, forces, eV/Å", (own_force - force).abs(), 2e-3)
    apart = (of_slab - field).detach()
    at_most("slab against a grid, gradients, V/Å", apart[:, :, 1:].abs(), 2e-3)
    at_most("slab against a grid, potentials but for a constant, V", (apart[:, :, 0] - apart[0, 0, 0]).abs(), 2e-3)
    assert apart[0, 0, 0].abs() > 1.0
    cache = operator.prepare(atoms.detach(), cell[None], TTF[None], batch)
    weights = torch.randn(3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    forward = (operator.field(cache, density, False) * weights).sum()
    assert torch.allclose(forward, (operator.apply_transposed(cache, weights, False) * density).sum(), rtol=1e-10)


def test_one_slab_at_a_time() -> None:
    operator = Electrostatics(1.6, [1.5], 1.5, False, True)
    operator.set_jellium(BOUNDS)
    everywhere = torch.tensor([True, True, True])
    with pytest.raises(ValueError, match="one structure with two periodic axes"):
        operator.prepare(points(3) / 8, 5 * torch.eye(3)[None], everywhere[None], torch.zeros(3, dtype=torch.int64))


def test_potential_is_relative_to_the_slab() -> None:
    """Averaged over the slab, potentials of density and slab vanish, whatever constant those of sheets contain."""
    source = torch.tensor([[0.0, 0.0, 9.0]], dtype=torch.float64)
    density = torch.tensor([[0.7, 0.0, 0.2, 0.0]], dtype=torch.float64)
    heights = np.linspace(*BOUNDS, 801)
    everywhere = torch.cat([source, torch.tensor([[0.0, 0.0, z] for z in heights], dtype=torch.float64)])
    found = tables(everywhere)
    p = torch.cat([density, torch.zeros(801, 4, dtype=torch.float64)])
    of_slab = apply_jellium(found, p, False)[1:, -1, 0]
    # the laterally averaged potential of the source: a charged and a dipolar sheet
    t, width = everywhere[1:, 2] - 9.0, WIDTHS[-1]
    unit = -2 * math.pi * COULOMB / AREA
    of_source = unit * (0.7 * module.smeared_distance(t, width) - 0.2 * torch.erf(t / (math.sqrt(2) * width)))
    average = np.trapezoid((of_slab + of_source).numpy(), heights) / (BOUNDS[1] - BOUNDS[0])
    at_most("average potential over the slab, V", abs(average), 1e-5)


def test_symmetric_and_transposed() -> None:
    found = tables(points())
    eye = torch.eye(28, dtype=torch.float64).reshape(28, 7, 4)
    matrix = torch.stack([apply_jellium(found, p, False) for p in eye], dim=-1)  # (7, m, 4, 28)
    square = matrix[:, -1].reshape(28, 28)
    assert torch.allclose(square, square.t(), rtol=0, atol=1e-12)
    weights = torch.randn(7, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = torch.einsum("imak,ima->k", matrix, weights).reshape(7, 4)
    assert torch.allclose(apply_jellium_transposed(found, weights, False), expected, rtol=0, atol=1e-11)


def test_derivatives_in_positions_strain_and_density() -> None:
    density = multipoles(3)

    def energy(r: torch.Tensor, strain: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        eps = 0.5 * (strain + strain.t())
        found = tables(r + r @ eps, cell=CELL + CELL @ eps)
        return (p[:, None] * apply_jellium(found, p, False)).sum()

    inputs = (points(3) / 4, torch.zeros(3, 3, dtype=torch.float64), density)
    inputs = tuple(x.requires_grad_(True) for x in inputs)
    assert torch.autograd.gradcheck(energy, inputs) and torch.autograd.gradgradcheck(energy, inputs)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_any_axis_may_be_open(order: tuple[int, ...]) -> None:
    """Cell vectors and Cartesian axes in another order: the same slab along another axis, of either handedness."""
    positions, axes = points(), list(order)
    found = tables(positions)
    other = tables(positions[:, axes], cell=CELL[axes][:, axes], pbc=TTF[axes])
    cartesian = found.field[:, :, [0, 3, 1, 2]]
    turned = torch.cat([cartesian[:, :, :1], cartesian[:, :, 1:][:, :, axes]], dim=2)[:, :, [0, 2, 3, 1]]
    assert torch.allclose(other.field, turned, rtol=0, atol=1e-12)
    normal, area = slab_normal(CELL[axes][:, axes], TTF[axes])
    assert area.item() == pytest.approx(AREA) and normal.argmax().item() == axes.index(2)


def test_scripted_and_in_single_precision() -> None:
    positions = points()
    density = multipoles(7)
    found = tables(positions)
    expected = apply_jellium(found, density, False)
    prepare, apply = torch.jit.script(prepare_jellium), torch.jit.script(apply_jellium)
    scripted = apply(prepare(positions, CELL, TTF, BOUNDS, WIDTHS), density, False)
    assert torch.equal(scripted, expected)
    weights = expected.clone()
    assert torch.equal(
        torch.jit.script(apply_jellium_transposed)(found, weights, False),
        apply_jellium_transposed(found, weights, False),
    )
    single = apply_jellium(tables(positions.float(), cell=CELL.float()), density.float(), False)
    assert single.dtype == torch.float32
    at_most("single against double precision, relative", (single - expected).abs() / expected.abs().max(), 2e-6)
