"""The particle-mesh method against the exact sum over reciprocal vectors, and against torch-pme."""

import math
from pathlib import Path

import pytest
import torch
from ase.io import read
from torch import Tensor, nn

import coulomb_references as reference
from figures import at_most
from fp_potential.electrostatics import Electrostatics
from structures import salt_water_box

PERIODIC = torch.ones(1, 3, dtype=torch.bool)
WATER = Path(__file__).parents[3] / "examples" / "nacl_water" / "data" / "xtb_water_box16.extxyz.gz"

CELLS = {
    "orthogonal": [[9.0, 0, 0], [0, 10.0, 0], [0, 0, 11.5]],
    "triclinic": [[9.0, 0.4, -0.3], [3.1, 9.5, 0.2], [-2.4, 2.8, 10.0]],
    "elongated": [[4.1, 0, 0], [0.5, 5.2, 0], [0, 1.0, 33.0]],
}
#: smearing of the density, and of the receivers; the narrowest Gaussian sets the mesh
SMEARINGS = [(1.5, [1.5, 3.0]), (0.7, [0.7, 1.2]), (3.0, [2.0])]


def operator(method: str, accuracy: float, sigma: float = 1.5, widths: list[float] | None = None) -> Electrostatics:
    e = Electrostatics(sigma, [1.5, 3.0] if widths is None else widths, 2.0, False, True)
    e.set_kspace(method, accuracy)
    return e


def batch_of(positions: Tensor) -> Tensor:
    return torch.zeros(len(positions), dtype=torch.int64)


def random_ions(cell: Tensor, n: int, seed: int, charge: float = 0.0) -> tuple[Tensor, Tensor]:
    """Charges and dipoles anywhere in the cell, images included."""
    g = torch.Generator().manual_seed(seed)
    density = torch.randn(n, 4, dtype=torch.float64, generator=g) * torch.tensor([0.5, 0.3, 0.3, 0.3])
    density[:, 0] += charge / n - density[:, 0].mean()
    return (2.0 * torch.rand(n, 3, dtype=torch.float64, generator=g) - 0.5) @ cell, density


def water() -> tuple[Tensor, Tensor, Tensor]:
    """Cell, positions and densities of sixteen molecules as dynamics left them, with the charges of the data."""
    atoms = read(WATER, 0)
    g = torch.Generator().manual_seed(1)
    density = 0.05 * torch.randn(len(atoms), 4, dtype=torch.float64, generator=g)
    density[:, 0] = torch.tensor([-0.6 if z == 8 else 0.3 for z in atoms.numbers], dtype=torch.float64)
    return torch.tensor(atoms.cell.array), torch.tensor(atoms.positions), density


def evaluate(e: Electrostatics, positions: Tensor, cell: Tensor, density: Tensor, readout: Tensor) -> dict[str, Tensor]:
    """Field, energy and all first derivatives, also those of a read-out of the field."""
    x, p = positions.detach().clone().requires_grad_(True), density.detach().clone().requires_grad_(True)
    strain = torch.zeros(3, 3, dtype=x.dtype, requires_grad=True)
    deformation = torch.eye(3, dtype=x.dtype) + strain
    cache = e.prepare(x @ deformation, (cell @ deformation).unsqueeze(0), PERIODIC, batch_of(x), False)
    field = e.field(cache, p, False)
    energy = 0.5 * (p * e.potentials(cache, p, False)).sum()
    of_energy = torch.autograd.grad(energy, [x, strain, p], retain_graph=True)
    of_field = torch.autograd.grad((readout * field).sum(), [x, strain, p])
    out = {"energy": energy.reshape(1)}
    for n in range(field.shape[1]):
        out |= {f"potentials {n}": field[:, n, 0], f"gradients {n}": field[:, n, 1:]}
    for name, (forces, stress, potentials) in (("energy", of_energy), ("read-out", of_field)):
        out |= {f"forces of {name}": forces, f"stress of {name}": stress, f"density derivative of {name}": potentials}
    return {name: value.detach() for name, value in out.items()}


def compare(accuracy: float, sigma: float, widths: list[float], cell: Tensor, x: Tensor, p: Tensor, label: str) -> None:
    """Relative rms errors in the dtype of ``x``, against the exact sum in float64."""
    g = torch.Generator().manual_seed(9)
    readout = torch.randn(len(x), len(widths), 4, dtype=torch.float64, generator=g)
    mesh = operator("mesh", accuracy, sigma, widths)
    exact = operator("reciprocal", accuracy, sigma, widths)
    found = evaluate(mesh, x, cell, p, readout.to(x.dtype))
    expected = evaluate(exact, x.double(), cell.double(), p.double(), readout.to(x.dtype).double())
    for name, value in found.items():
        error = (value.double() - expected[name]).norm() / expected[name].norm()
        at_most(f"mesh, {label}, {name.rstrip(' 0123456789')}: error / {accuracy:g}", error / accuracy, 1.0)


@pytest.mark.parametrize("accuracy", [1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8])
@pytest.mark.parametrize("sigma,widths", SMEARINGS, ids=["1.5-3.0", "0.7", "3.0"])
@pytest.mark.parametrize("shape", list(CELLS))
def test_errors_are_below_the_accuracy_asked_for(
    shape: str, sigma: float, widths: list[float], accuracy: float
) -> None:
    cell = torch.tensor(CELLS[shape], dtype=torch.float64)
    x, p = random_ions(cell, 40, 2, charge=0.0 if shape == "triclinic" else 1.0)
    compare(accuracy, sigma, widths, cell, x, p, "float64")


@pytest.mark.parametrize("accuracy", [1e-3, 1e-5, 1e-8])
@pytest.mark.parametrize("sigma,widths", SMEARINGS[:2], ids=["1.5-3.0", "0.7"])
def test_errors_in_water(sigma: float, widths: list[float], accuracy: float) -> None:
    cell, x, p = water()
    compare(accuracy, sigma, widths, cell, x, p, "water")


@pytest.mark.parametrize("accuracy", [1e-3, 1e-4, 1e-5, 2e-6])
@pytest.mark.parametrize("shape", list(CELLS))
def test_errors_in_single_precision(shape: str, accuracy: float) -> None:
    cell = torch.tensor(CELLS[shape], dtype=torch.float64)
    x, p = random_ions(cell, 40, 3)
    compare(accuracy, 1.5, [1.5, 3.0], cell.float(), x.float(), p.float(), "float32")


@pytest.mark.parametrize("accuracy", [1e-3, 1e-5, 1e-7])
def test_ripple_of_the_energy_under_translation(accuracy: float) -> None:
    """Moving everything by fractions of the spacing changes the energy by less than the accuracy."""
    cell = torch.tensor(CELLS["triclinic"], dtype=torch.float64)
    x, p = random_ions(cell, 20, 4)
    e = operator("mesh", accuracy)
    energies = []
    for k in range(12):
        shift = 0.09 * k * torch.tensor([1.0, 0.7, -0.4], dtype=torch.float64)
        cache = e.prepare(x + shift, cell.unsqueeze(0), PERIODIC, batch_of(x), False)
        energies.append(0.5 * (p * e.potentials(cache, p, False)).sum())
    spread = torch.stack(energies)
    at_most(f"mesh, ripple of the energy / {accuracy:g}", (spread.max() - spread.min()) / spread[0].abs() / accuracy, 1)


def test_wrapping_and_order_of_atoms_do_not_matter() -> None:
    cell = torch.tensor(CELLS["triclinic"], dtype=torch.float64)
    x, p = random_ions(cell, 20, 5)
    e = operator("mesh", 1e-5)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(6))
    moved = (x + torch.tensor([3.0, -2.0, 1.0], dtype=torch.float64) @ cell)[order]
    first = e.field(e.prepare(x, cell.unsqueeze(0), PERIODIC, batch_of(x), False), p, False)
    second = e.field(e.prepare(moved, cell.unsqueeze(0), PERIODIC, batch_of(x), False), p[order], False)
    assert torch.allclose(second, first[order], rtol=0, atol=1e-11)


def test_cells_of_either_handedness() -> None:
    cell = torch.tensor(CELLS["triclinic"], dtype=torch.float64)
    x, p = random_ions(cell, 20, 5)
    fields = []
    for c in (cell, cell[[1, 0, 2]]):
        e = operator("mesh", 1e-8)
        fields.append(e.field(e.prepare(x, c.unsqueeze(0), PERIODIC, batch_of(x), False), p, False))
    assert (fields[0] - fields[1]).norm() < 1e-8 * fields[0].norm()


PATTERNS = ["TTT", "TTF", "TFF", "FFF"]


def tiny(pattern: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    cell = torch.tensor([[4.0, 0.1, 0.0], [0.6, 3.7, 0.0], [-0.3, 0.5, 4.4]], dtype=torch.float64)
    x, p = random_ions(cell, 3, 7)
    return cell, 0.5 * x, p, torch.tensor([[letter == "T" for letter in pattern]])


def rough() -> Electrostatics:
    """Forces are the gradient of the mesh's energy, whatever its accuracy."""
    return operator("mesh", 1e-3)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_derivatives_against_finite_differences(pattern: str) -> None:
    """Of energy and field, in positions, cell and density."""
    cell, x, p, pbc = tiny(pattern)
    e = rough()

    def outputs(positions: Tensor, box: Tensor, density: Tensor) -> tuple[Tensor, Tensor]:
        cache = e.prepare(positions, box.unsqueeze(0), pbc, batch_of(positions), False)
        return e.field(cache, density, False), (density * e.potentials(cache, density, False)).sum()

    inputs = [t.clone().requires_grad_(True) for t in (x, cell, p)]
    assert torch.autograd.gradcheck(outputs, inputs, eps=1e-4, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_second_derivatives_against_finite_differences(pattern: str) -> None:
    """A loss of forces has derivatives in positions, density and cell; one of the stress has them except in wires."""
    cell, x, p, pbc = tiny(pattern)
    e = rough()
    readout = torch.randn(3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    differentiable = [x, p, cell] if pattern in ("TTT", "TTF") else [x, p]

    def gradients(*inputs: Tensor) -> tuple[Tensor, ...]:
        positions, density = inputs[:2]
        box = inputs[2] if len(inputs) > 2 else cell
        cache = e.prepare(positions, box.unsqueeze(0), pbc, batch_of(positions), False)
        value = (density * e.potentials(cache, density, False)).sum()
        value = value + (readout * e.field(cache, density, False)).sum()
        return torch.autograd.grad(value, inputs, create_graph=True)

    inputs = [t.clone().requires_grad_(True) for t in differentiable]
    assert torch.autograd.gradcheck(gradients, inputs, eps=1e-4, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("method", ["reciprocal", "mesh"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_transpose(pattern: str, method: str) -> None:
    cell, x, p, pbc = tiny(pattern)
    e = operator(method, 1e-4)
    cache = e.prepare(x, cell.unsqueeze(0), pbc, batch_of(x), False)
    weights = torch.randn(3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    left = (weights * e.field(cache, p, False)).sum().item()
    right = (e.apply_transposed(cache, weights, False) * p).sum().item()
    assert left == pytest.approx(right, rel=1e-12)


class Everything(nn.Module):
    """What the exported model calls."""

    def __init__(self, electrostatics: Electrostatics) -> None:
        super().__init__()
        self.electrostatics = electrostatics

    def forward(self, x: Tensor, cell: Tensor, pbc: Tensor, batch: Tensor, p: Tensor, w: Tensor) -> list[Tensor]:
        cache = self.electrostatics.prepare(x, cell, pbc, batch, False)
        field = self.electrostatics.field(cache, p, False)
        potentials = self.electrostatics.potentials(cache, p, False)
        return [field, potentials, self.electrostatics.apply_transposed(cache, w, False)]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_scripted_operator_is_the_same(pattern: str) -> None:
    cell, x, p, pbc = tiny(pattern)
    module = Everything(operator("mesh", 1e-5))
    scripted = torch.jit.script(module)
    weights = torch.randn(3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    results = []
    for f in (module, scripted):
        positions, box = x.clone().requires_grad_(True), cell.clone().requires_grad_(True)
        parts = f(positions, box.unsqueeze(0), pbc, batch_of(x), p, weights)
        wanted = [positions] if pattern == "FFF" else [positions, box]
        derivatives = torch.autograd.grad(sum((part**2).sum() for part in parts), wanted)
        results.append([*parts, *derivatives])
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-11)


def test_net_force_of_the_mesh_is_below_its_error() -> None:
    """Derivatives of splines do not cancel exactly; what is left is of the size of the error of a force."""
    cell = torch.tensor(CELLS["orthogonal"], dtype=torch.float64)
    x, p = random_ions(cell, 40, 2)
    x.requires_grad_(True)
    e = operator("mesh", 1e-4)
    cache = e.prepare(x, cell.unsqueeze(0), PERIODIC, batch_of(x), False)
    (forces,) = torch.autograd.grad(0.5 * (p * e.potentials(cache, p, False)).sum(), x)
    at_most("mesh, net force / (1e-4 rms √N)", forces.sum(0).norm() / forces.norm() / 1e-4, 1.0)


def test_bad_input_is_named() -> None:
    cell = torch.tensor(CELLS["orthogonal"], dtype=torch.float64).unsqueeze(0)
    x, _ = random_ions(cell[0], 8, 2)
    batch = batch_of(x)
    e = operator("mesh", 1e-5)
    nan = x.clone()
    nan[3, 1] = math.nan
    with pytest.raises(ValueError, match="position"):
        e.prepare(nan, cell, PERIODIC, batch, False)
    flat = cell.clone()
    flat[0, 2] = flat[0, 0] + flat[0, 1]
    with pytest.raises(ValueError, match="volume"):
        e.prepare(x, flat, PERIODIC, batch, False)
    with pytest.raises(ValueError, match="kspace_accuracy"):
        operator("mesh", 1e-6).prepare(x.float(), cell.float(), PERIODIC, batch, False)
    with pytest.raises(ValueError, match="kspace_accuracy"):
        operator("mesh", 1e-15)
    with pytest.raises(ValueError, match="method"):
        operator("pppm", 1e-5)
    for method, reason in (("mesh", "points"), ("auto", "points"), ("reciprocal", "waves")):
        with pytest.raises(ValueError, match=reason):
            operator(method, 1e-5).prepare(x, 1e3 * cell, PERIODIC, batch, False)


def test_against_graph_longrange(graph_longrange) -> None:
    """The energy of water, with its charges and dipoles."""
    atoms = salt_water_box()
    cell, x = torch.tensor(atoms.cell.array), torch.tensor(atoms.positions)
    _, p = random_ions(cell, len(x), 3)
    e = operator("mesh", 1e-8)
    cache = e.prepare(x, cell.unsqueeze(0), PERIODIC, batch_of(x), False)
    energy = 0.5 * (p * e.potentials(cache, p, False)).sum()
    theirs, _ = graph_longrange(x, p, cell.unsqueeze(0), e.kspace_cutoff)
    at_most("mesh against graph-longrange, energy, relative", abs(energy / theirs - 1.0), 1e-7)


@pytest.mark.parametrize("pattern", ["TTT", "TTF"])
def test_charges_against_torch_pme(pattern: str) -> None:
    """Its Ewald sum with no pair in the list is the smeared one; for slabs by a correction for dipole and vacuum."""
    torchpme = pytest.importorskip("torchpme")
    cell = torch.tensor([[6.0, 0, 0], [1.0, 5.5, 0], [0, 0, 7.0 if pattern == "TTT" else 60.0]], dtype=torch.float64)
    x, p = random_ions(torch.diag(torch.tensor([6.0, 5.5, 7.0], dtype=torch.float64)), 12, 4)
    p[:, 1:] = 0.0
    pbc = torch.tensor([letter == "T" for letter in pattern])
    e = operator("mesh", 1e-8, 1.5, [2.0])
    found = e.field(e.prepare(x, cell.unsqueeze(0), pbc.unsqueeze(0), batch_of(x), False), p, False)[:, 0, 0]
    potential = torchpme.CoulombPotential(smearing=2.5)
    calculator = torchpme.EwaldCalculator(potential, lr_wavelength=0.9).to(torch.float64)
    pairs, distances = torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, dtype=torch.float64)
    theirs = 2.0 * reference.COULOMB * calculator(p[:, :1], cell, x, pairs, distances, periodic=pbc)[:, 0]
    at_most(f"mesh against torch-pme, {pattern}, charges, relative", (found - theirs).norm() / theirs.norm(), 1e-7)


def test_dipoles_against_torch_pme() -> None:
    torchpme = pytest.importorskip("torchpme")
    cell = torch.tensor(CELLS["triclinic"], dtype=torch.float64)
    x, p = random_ions(cell, 12, 4)
    p[:, 0] = 0.0
    e = operator("mesh", 1e-8, 1.5, [2.0])
    found = e.field(e.prepare(x, cell.unsqueeze(0), PERIODIC, batch_of(x), False), p, False)[:, 0, [3, 1, 2]]
    calculator = torchpme.CalculatorDipole(torchpme.PotentialDipole(smearing=2.5), lr_wavelength=0.9).to(torch.float64)
    pairs, vectors = torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, 3, dtype=torch.float64)
    theirs = 2.0 * reference.COULOMB * calculator(p[:, [3, 1, 2]], cell, x, pairs, vectors)
    at_most("mesh against torch-pme, dipoles, relative", (found - theirs).norm() / theirs.norm(), 1e-7)
