"""The compensating jellium slab against integrals, charged planes and its own derivatives."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from figures import at_most
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
    average = np.trapezoid(found.field[:, :, 0].numpy(), heights, axis=0) / (BOUNDS[1] - BOUNDS[0])
    at_most("self potential of the slab, relative", np.abs(found.own.numpy() / average - 1), 1e-6)


def test_energy_is_that_of_density_and_slab() -> None:
    """½ p·A' p with A = 0: -Q V·p + ½ J Q²; of a charge that fills the slab, nothing is left."""
    positions, density = points(), torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = tables(positions)
    charge = density[:, 0].sum()
    coupling = (found.field * density[:, None]).sum(dim=[0, 2])
    energy = 0.5 * (density[:, None] * apply_jellium(found, density, False)).sum(dim=[0, 2])
    assert torch.allclose(energy, -charge * coupling + 0.5 * found.own * charge**2, rtol=1e-12)
    heights = np.linspace(*BOUNDS, 801)
    layer = torch.zeros(801, 4, dtype=torch.float64)
    layer[:, 0] = 1.0 / 800
    layer[[0, -1], 0] *= 0.5
    planes = torch.tensor([[0.0, 0.0, z] for z in heights], dtype=torch.float64)
    slab = tables(planes)
    # potential of the layer itself, that of the jellium it is made like
    total = slab.field + apply_jellium(slab, layer, False)
    at_most("slab and its opposite, V and V/Å", total.abs(), 1e-4 * slab.own.abs().max().item())


def test_potential_is_relative_to_the_slab() -> None:
    """Averaged over the slab, potentials of density and slab vanish, whatever constant those of sheets contain."""
    source = torch.tensor([[0.0, 0.0, 9.0]], dtype=torch.float64)
    density = torch.tensor([[0.7, 0.0, 0.2, 0.0]], dtype=torch.float64)
    heights = np.linspace(*BOUNDS, 801)
    everywhere = torch.cat([source, torch.tensor([[0.0, 0.0, z] for z in heights], dtype=torch.float64)])
    found = tables(everywhere)
    p = torch.cat([density, torch.zeros(801, 4, dtype=torch.float64)])
    of_slab = apply_jellium(found, p, False)[1:, :, 0]
    # the laterally averaged potential of the source: a charged and a dipolar sheet
    t = everywhere[1:, 2:] - 9.0
    unit = -2 * math.pi * COULOMB / AREA
    of_source = unit * (0.7 * module.smeared_distance(t, WIDTHS) - 0.2 * torch.erf(t / (math.sqrt(2) * WIDTHS)))
    average = np.trapezoid((of_slab + of_source).numpy(), heights, axis=0) / (BOUNDS[1] - BOUNDS[0])
    at_most("average potential over the slab, V", np.abs(average), 1e-5)


def test_symmetric_and_transposed() -> None:
    found = tables(points())
    eye = torch.eye(28, dtype=torch.float64).reshape(28, 7, 4)
    matrix = torch.stack([apply_jellium(found, p, False) for p in eye], dim=-1)  # (7, m, 4, 28)
    for n in range(3):
        square = matrix[:, n].reshape(28, 28)
        assert torch.allclose(square, square.t(), rtol=0, atol=1e-12)
    weights = torch.randn(7, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = torch.einsum("imak,ima->k", matrix, weights).reshape(7, 4)
    assert torch.allclose(apply_jellium_transposed(found, weights, False), expected, rtol=0, atol=1e-11)


def test_derivatives_in_positions_strain_and_density() -> None:
    density = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

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
    density = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
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
