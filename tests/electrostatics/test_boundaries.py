"""Every periodicity pattern against sums over pairs, and against electrostatics that can be written down."""

import math

import pytest
import torch
from torch import Tensor

import coulomb_references as reference
from figures import at_most
from fp_potential.electrostatics import Electrostatics
from fp_potential.units import COULOMB

SIGMA, WIDTHS = 1.2, [1.2, 2.0]
ACCURACY = 1e-9
#: what the methods are allowed to differ from the references by; figures above it are faults, not noise
LIMIT = 1e-8

PATTERNS = ["TTT", "TTF", "TFT", "FTT", "TFF", "FTF", "FFT", "FFF"]
METHODS = ["reciprocal", "mesh"]
CELL = torch.tensor([[6.0, 0.3, 0.0], [1.1, 5.5, 0.4], [-0.6, 0.9, 6.5]], dtype=torch.float64)


def operator(method: str, sigma: float = SIGMA, widths: list[float] = WIDTHS, **flags: bool) -> Electrostatics:
    settings = {"include_field_si": False, "include_self_energy": True, **flags}
    e = Electrostatics(sigma, widths, 2.0, **settings)
    e.set_kspace(method, ACCURACY)
    return e


def flags_of(pattern: str) -> list[bool]:
    return [letter == "T" for letter in pattern]


def solve(e: Electrostatics, positions: Tensor, cell: Tensor, pattern: str, density: Tensor) -> tuple[Tensor, Tensor]:
    """Field and E_C of one structure."""
    pbc = torch.tensor([flags_of(pattern)])
    batch = torch.zeros(len(positions), dtype=torch.int64)
    cache = e.prepare(positions, cell.unsqueeze(0), pbc, batch, False)
    energy = 0.5 * (density * e.potentials(cache, density, False)).sum()
    return e.field(cache, density, False), energy


def random_atoms(n: int, seed: int, charge: float) -> tuple[Tensor, Tensor]:
    """Positions in CELL and densities with this total charge."""
    g = torch.Generator().manual_seed(seed)
    density = torch.randn(n, 4, dtype=torch.float64, generator=g) * torch.tensor([0.5, 0.3, 0.3, 0.3])
    density[:, 0] += charge / n - density[:, 0].mean()
    return torch.rand(n, 3, dtype=torch.float64, generator=g) @ CELL, density


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("charge", [0.0, 1.0], ids=["neutral", "charged"])
@pytest.mark.parametrize("method", [*METHODS, "auto"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_fields_energy_forces_and_stress_are_sums_over_pairs(pattern: str, method: str, charge: float) -> None:
    """All of them by derivatives in positions and strain; forces also of a random read-out of the field."""
    positions, density = random_atoms(6, 5, charge)
    readout = torch.randn(6, len(WIDTHS), 4, dtype=torch.float64, generator=torch.Generator().manual_seed(6))

    def evaluate(ours: bool) -> list[Tensor]:
        x = positions.clone().requires_grad_(True)
        strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
        deformation = torch.eye(3, dtype=torch.float64) + strain
        strained, cell = x @ deformation, CELL @ deformation
        if ours:
            field, energy = solve(operator(method), strained, cell, pattern, density)
        else:
            pbc = flags_of(pattern)
            combined = [math.hypot(SIGMA, w) for w in WIDTHS]
            field = torch.stack([reference.received(strained, cell, pbc, density, w, False) for w in combined], dim=1)
            energy = reference.energy(strained, cell, pbc, density, SIGMA, True)
        of_energy = torch.autograd.grad(energy, [x, strain], retain_graph=True)
        of_field = torch.autograd.grad((readout * field).sum(), [x, strain])
        parts = [field[:, :, 0], field[:, :, 1:], energy.reshape(1), *of_energy, *of_field]
        return [p.detach() for p in parts]

    names = ["potentials", "gradients", "energy", "forces", "stress", "read-out, forces", "read-out, stress"]
    for name, found, expected in zip(names, evaluate(True), evaluate(False), strict=True):
        at_most(f"{pattern} {method}, {name} against pair sums, relative", relative(found, expected), LIMIT)


@pytest.mark.parametrize("sigma,widths", [(0.7, [0.7]), (1.5, [1.5, 3.0]), (3.0, [3.0])])
@pytest.mark.parametrize("kind", ["neutral", "charged", "dipolar"])
def test_molecules_on_the_mesh_are_the_open_formulas(kind: str, sigma: float, widths: list[float]) -> None:
    positions, density = random_atoms(9, 8, 1.0 if kind == "charged" else 0.0)
    if kind == "dipolar":
        density[:, 0] = 0.0
    closed = solve(operator("mesh", sigma, widths), positions, CELL, "FFF", density)
    free = solve(operator("open", sigma, widths), positions, CELL, "FFF", density)
    for found, expected in zip(closed, free, strict=True):
        at_most("molecules: mesh against open, relative", relative(found, expected), LIMIT)


@pytest.mark.parametrize(
    "pattern,method",
    [(pattern, method) for pattern in ("FFF", "TFF", "FTT") for method in METHODS] + [("FFF", "open")],
)
def test_vectors_of_open_axes_do_not_matter(pattern: str, method: str) -> None:
    positions, density = random_atoms(6, 9, 1.0)
    cells = [CELL.clone() for _ in range(4)]
    for axis, letter in enumerate(pattern):
        if letter == "F":
            cells[1][axis] *= 20.0
            cells[2][axis] = 0.0
            cells[3][axis] = torch.tensor([1.0, -2.0, 0.5])
    first, *others = [solve(operator(method), positions, cell, pattern, density) for cell in cells]
    for other in others:
        assert torch.allclose(other[0], first[0], rtol=0, atol=1e-12)
        assert torch.allclose(other[1], first[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("normal", [0, 1, 2])
def test_slab_is_the_periodic_sum_with_its_moments(normal: int, method: str) -> None:
    """E_TTF = E_TTT + (2 pi k_e / V) (D² - Q Theta - Q² L²/12 - Q² sigma²) of water, neutral and charged, dipolar."""
    g = torch.Generator().manual_seed(3)
    sites = torch.cartesian_prod(*[torch.tensor([0.0, 3.1], dtype=torch.float64)] * 3)
    oxygen = sites + 0.3 * torch.randn(8, 3, dtype=torch.float64, generator=g)
    bonds = torch.randn(8, 2, 3, dtype=torch.float64, generator=g)
    hydrogen = oxygen.unsqueeze(1) + 0.97 * bonds / bonds.norm(dim=2, keepdim=True)
    positions = torch.cat([oxygen.unsqueeze(1), hydrogen], dim=1).reshape(-1, 3)
    density = 0.05 * torch.randn(24, 4, dtype=torch.float64, generator=g)
    density[:, 0] += torch.tensor([-0.7, 0.35, 0.35], dtype=torch.float64).repeat(8)
    height = 40.0
    cell = torch.eye(3, dtype=torch.float64) * 6.2
    cell[normal, normal] = height
    pattern = "".join("F" if axis == normal else "T" for axis in range(3))
    z, d = positions[:, normal], density[:, [3, 1, 2][normal]]
    for charge in (0.0, -1.0):
        density[:, 0] += charge / 24 - density[:, 0].mean()
        q = density[:, 0]
        total, dipole, second = q.sum(), (q * z + d).sum(), (q * z * z + 2.0 * d * z).sum()
        moments = dipole**2 - total * second - total**2 * (height**2 / 12.0 + SIGMA**2)
        _, closed = solve(operator("reciprocal"), positions, cell, "TTT", density)
        _, slab = solve(operator(method), positions, cell, pattern, density)
        expected = closed + 2.0 * math.pi * COULOMB / torch.det(cell) * moments
        at_most(f"{method}: slab from the periodic energy and moments, relative", abs(slab / expected - 1.0), LIMIT)


def sheet(height: float, components: list[float]) -> tuple[Tensor, Tensor]:
    """Four atoms on a square of 6 Å in the plane z = height, each with this density."""
    xy = torch.cartesian_prod(*[torch.tensor([0.0, 3.0], dtype=torch.float64)] * 2)
    return torch.cat([xy, torch.full((4, 1), height)], dim=1), torch.tensor([components] * 4, dtype=torch.float64)


def probed(parts: list[tuple[Tensor, Tensor]], points: list[list[float]], pattern: str, method: str) -> Tensor:
    """(<v>, <grad v>) of the narrow receiver at points, of sheets or lines in a cell of 6 Å."""
    probes = torch.tensor(points, dtype=torch.float64)
    positions = torch.cat([*(p[0] for p in parts), probes])
    density = torch.cat([*(p[1] for p in parts), torch.zeros(len(probes), 4, dtype=torch.float64)])
    field, _ = solve(operator(method), positions, 6.0 * torch.eye(3, dtype=torch.float64), pattern, density)
    return field[-len(probes) :, 0]


#: of planes and lines of point-like charges at these distances nothing but the average is left
FAR = 12.0


@pytest.mark.parametrize("method", METHODS)
def test_charged_plane(method: str) -> None:
    """-2 pi k_e s |z| on both sides, from one charge per 9 Å²."""
    field = probed([sheet(1.0, [0.4, 0, 0, 0])], [[1.0, 2.0, 1.0 + FAR], [0.3, 0.2, 1.0 - FAR - 3.0]], "TTF", method)
    slope = 2.0 * math.pi * COULOMB * 0.4 / 9.0
    expected = torch.tensor([[-slope * FAR, 0, -slope, 0], [-slope * (FAR + 3.0), 0, slope, 0]], dtype=torch.float64)
    at_most(f"{method}: a charged plane, relative", (field - expected).abs() / (slope * FAR), LIMIT)


@pytest.mark.parametrize("method", METHODS)
def test_neutral_pair_of_planes(method: str) -> None:
    """No field outside, 4 pi k_e s between them, and that times their distance as the step."""
    planes = [sheet(0.0, [0.4, 0, 0, 0]), sheet(2.0 * FAR, [-0.4, 0, 0, 0])]
    field = probed(planes, [[1, 1, -FAR], [2, 0.5, FAR], [1, 1, 3.0 * FAR]], "TTF", method)
    slope = 4.0 * math.pi * COULOMB * 0.4 / 9.0
    expected = torch.zeros(3, 4, dtype=torch.float64)
    expected[0, 0], expected[2, 0], expected[1, 2] = slope * FAR, -slope * FAR, -slope
    at_most(f"{method}: a pair of planes, relative", (field - expected).abs() / (slope * FAR), LIMIT)


@pytest.mark.parametrize("method", METHODS)
def test_dipolar_layer(method: str) -> None:
    """A step of 4 pi k_e times the dipole per area."""
    field = probed([sheet(0.0, [0, 0, 0.5, 0])], [[1, 2, FAR], [0, 0, -FAR]], "TTF", method)
    step = 4.0 * math.pi * COULOMB * 0.5 / 9.0
    expected = torch.zeros(2, 4, dtype=torch.float64)
    expected[0, 0], expected[1, 0] = 0.5 * step, -0.5 * step
    at_most(f"{method}: a dipolar layer, relative", (field - expected).abs() / step, LIMIT)


@pytest.mark.parametrize("method", METHODS)
def test_wires(method: str) -> None:
    """-2 k_e lambda ln rho of a charged one, 2 k_e d / rho of one with dipoles across it."""
    z = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 3.0]], dtype=torch.float64)
    charged = (z, torch.tensor([[0.4, 0, 0, 0]] * 2, dtype=torch.float64))
    per_length = 2.0 * COULOMB * 0.4 / 3.0
    field = probed([charged], [[FAR, 0, 1.1], [0, -1.5 * FAR, 2.0]], "FFT", method)
    expected = per_length * torch.tensor(
        [[-math.log(FAR), 0, 0, -1 / FAR], [-math.log(1.5 * FAR), 1 / (1.5 * FAR), 0, 0]], dtype=torch.float64
    )
    at_most(f"{method}: a charged wire, relative", (field - expected).abs() / per_length, LIMIT)
    across = (z, torch.tensor([[0, 0.4, 0, 0]] * 2, dtype=torch.float64))
    field = probed([across], [[0, FAR, 0.5], [FAR, 0, 2.0]], "FFT", method)
    expected = per_length * torch.tensor([[1 / FAR, -1 / FAR**2, 0, 0], [0, 1 / FAR**2, 0, 0]], dtype=torch.float64)
    at_most(f"{method}: a wire of dipoles, relative", (field - expected).abs() * FAR / per_length, LIMIT)


#: positions in units of the cubic cell, charges, nearest distance, Madelung constant per pair of that distance
CRYSTALS = {
    "rock salt": ("fcc", [0.5, 0.5, 0.5], 0.5, 1.74756459463318),
    "caesium chloride": ("sc", [0.5, 0.5, 0.5], math.sqrt(0.75), 1.76267477307099),
    "zincblende": ("fcc", [0.25, 0.25, 0.25], math.sqrt(3.0) / 4.0, 1.63805505338879),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("crystal", list(CRYSTALS))
def test_madelung_constants(crystal: str, method: str) -> None:
    """Gaussians much narrower than their distance are points."""
    lattice, shift, nearest, madelung = CRYSTALS[crystal]
    edge = 4.0
    points = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]] if lattice == "fcc" else [[0, 0, 0]]
    cations = torch.tensor(points, dtype=torch.float64) + torch.tensor([0.013, 0.027, 0.041])
    positions = edge * torch.cat([cations, cations + torch.tensor(shift)])
    density = torch.zeros(2 * len(points), 4, dtype=torch.float64)
    density[:, 0] = torch.tensor([1.0] * len(points) + [-1.0] * len(points))
    e = operator(method, 0.16, [0.16], include_self_energy=False)
    _, energy = solve(e, positions, edge * torch.eye(3, dtype=torch.float64), "TTT", density)
    found = -energy.item() / len(points) * nearest * edge / COULOMB
    at_most(f"{method}: Madelung constants", abs(found - madelung), 1e-6)


def test_charged_cells_drop_the_average_and_nothing_else() -> None:
    """TTT with a charge: the energy does not know the smearing of a background."""
    positions, density = random_atoms(6, 5, 2.0)
    found = solve(operator("mesh"), positions, CELL, "TTT", density)[1]
    expected = reference.energy(positions, CELL, [True] * 3, density, SIGMA, True)
    at_most("charged cell on the mesh, relative", abs(found / expected - 1.0), LIMIT)


@pytest.mark.parametrize("method", ["reciprocal", "mesh", "auto"])
def test_batches_of_all_patterns(method: str) -> None:
    """What a structure gets does not depend on the others."""
    e = operator(method)
    systems = [(*random_atoms(3 + k % 3, k, 0.5), pattern) for k, pattern in enumerate(PATTERNS)]
    alone = [solve(e, x, CELL, pattern, p)[0] for x, p, pattern in systems]
    batch = torch.cat([torch.full((len(x),), k) for k, (x, _, _) in enumerate(systems)])
    pbc = torch.tensor([flags_of(pattern) for _, _, pattern in systems])
    cells = CELL.expand(len(systems), 3, 3)
    cache = e.prepare(torch.cat([x for x, _, _ in systems]), cells, pbc, batch, False)
    together = e.field(cache, torch.cat([p for _, p, _ in systems]), False)
    assert torch.allclose(together, torch.cat(alone), rtol=0, atol=1e-11)
