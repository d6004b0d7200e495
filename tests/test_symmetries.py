"""Symmetries of the converged model: energy to 1e-9 relative, vectors and densities with it."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from figures import at_most
from fp_potential.graph import collate
from fp_potential.model import FixedPointPotential
from structures import evaluate, make_model, salt_water, salt_water_box, to_graph, water_cluster

RELATIVE = 1e-9


def energy(model: FixedPointPotential, atoms, **inputs) -> float:
    return evaluate(model, to_graph(atoms, model, **inputs), compute_forces=False)["energy"].item()


def same(what: str, found: object, expected: object) -> None:
    """Energies agree to 1e-9 relative."""
    a, b = np.asarray(found, dtype=float), np.asarray(expected, dtype=float)
    at_most(f"energy, relative: {what}", np.abs(a / b - 1.0), RELATIVE)


@pytest.fixture(params=["periodic", "slab", "wire", "open"])
def atoms(request: pytest.FixtureRequest):
    if request.param == "open":
        return water_cluster()
    return salt_water({"periodic": "TTT", "slab": "TFT", "wire": "FTF"}[request.param])


def test_rotation(model: FixedPointPotential, atoms) -> None:
    rotation = Rotation.from_rotvec([0.4, -1.1, 0.7]).as_matrix()
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ rotation.T)
    turned.positions = atoms.positions @ rotation.T
    inputs = {} if atoms.pbc.any() else {"external_field": np.array([0.02, 0.05, -0.04])}
    turned_inputs = {k: v @ rotation.T for k, v in inputs.items()}
    a = evaluate(model, to_graph(atoms, model, total_charge=0.2, **inputs))
    b = evaluate(model, to_graph(turned, model, total_charge=0.2, **turned_inputs))
    r = torch.tensor(rotation)
    same("rotation", b["energy"], a["energy"])
    assert torch.allclose(b["forces"], a["forces"] @ r.T, atol=1e-8)
    assert torch.allclose(b["density"][:, 0], a["density"][:, 0], atol=1e-9)
    assert torch.allclose(b["density"][:, [3, 1, 2]], a["density"][:, [3, 1, 2]] @ r.T, atol=1e-9)
    assert torch.allclose(b["strain_gradient"], r @ a["strain_gradient"] @ r.T, atol=1e-7)
    assert a["density"][:, 1:].abs().max() > 1e-3


def test_translation_permutation_wrapping(model: FixedPointPotential, atoms) -> None:
    reference = energy(model, atoms)
    moved = atoms.copy()
    moved.translate([0.37, -1.9, 2.2])
    same("translation", energy(model, moved), reference)
    if atoms.pbc.any():
        moved.wrap()
        same("wrapping", energy(model, moved), reference)
    order = np.random.default_rng(0).permutation(len(atoms))
    same("permutation", energy(model, atoms[order]), reference)


@pytest.mark.parametrize(("pbc", "copies"), [("TTT", (2, 2, 2)), ("TFT", (2, 1, 2)), ("FTF", (1, 3, 1))])
def test_supercell(model: FixedPointPotential, pbc: str, copies: tuple[int, int, int]) -> None:
    """Charged, too: the zero of the potential of charged slabs and wires depends on no length."""
    cell, factor = salt_water(pbc), int(np.prod(copies))
    one = evaluate(model, to_graph(cell, model, total_charge=0.1))
    many = evaluate(model, to_graph(cell.repeat(copies), model, total_charge=0.1 * factor))
    same("supercell", many["energy"], factor * one["energy"])
    assert torch.allclose(many["forces"][: len(cell)], one["forces"], atol=1e-7)
    assert many["fermi_level"].item() == pytest.approx(one["fermi_level"].item(), abs=1e-7)


@pytest.mark.parametrize("pbc", ["TTT", "TTF", "TFF"])
def test_left_handed_cell(model: FixedPointPotential, pbc: str) -> None:
    right = salt_water(pbc)
    right.set_cell(np.where(right.pbc[:, None], right.cell.array, np.diag([0.0, 9.0, 7.0])))
    left = right.copy()
    left.set_cell(right.cell.array[[1, 0, 2]])
    left.pbc = right.pbc[[1, 0, 2]]
    a, b = evaluate(model, to_graph(right, model)), evaluate(model, to_graph(left, model))
    assert np.linalg.det(left.cell.array) < 0 < np.linalg.det(right.cell.array)
    same("left-handed cell", b["energy"], a["energy"])
    assert torch.allclose(a["strain_gradient"], b["strain_gradient"], atol=1e-8)


@pytest.mark.parametrize("pbc", ["TTF", "TFF"])
def test_which_axis_is_open(model: FixedPointPotential, pbc: str) -> None:
    """Cartesian axes and cell vectors in another order: the same energy, forces and strain derivative with them."""
    atoms = salt_water(pbc)
    reference = evaluate(model, to_graph(atoms, model, total_charge=0.2))
    for order in ([1, 2, 0], [2, 0, 1], [2, 1, 0]):
        turned = atoms.copy()
        turned.set_cell(atoms.cell.array[order][:, order])
        turned.positions, turned.pbc = atoms.positions[:, order], atoms.pbc[order]
        found = evaluate(model, to_graph(turned, model, total_charge=0.2))
        same("another axis open", found["energy"], reference["energy"])
        assert torch.allclose(found["forces"], reference["forces"][:, order], atol=1e-8)
        expected = reference["strain_gradient"][:, order][:, :, order]
        assert torch.allclose(found["strain_gradient"], expected, atol=1e-7)


@pytest.mark.parametrize("pbc", ["TTF", "TFT", "FTT", "TFF", "FTF", "FFT", "FFF"])
def test_vectors_of_open_axes_do_not_matter(model: FixedPointPotential, pbc: str) -> None:
    """Charged: there is no vacuum that energies could depend on."""
    atoms = salt_water(pbc)
    reference = evaluate(model, to_graph(atoms, model, total_charge=0.2))
    for scale in (0.3, 1.0, 50.0):
        boxed = atoms.copy()
        boxed.set_cell(np.where(atoms.pbc[:, None], atoms.cell.array, scale * salt_water_box().cell.array))
        found = evaluate(model, to_graph(boxed, model, total_charge=0.2))
        same("vector of an open axis", found["energy"], reference["energy"])
        assert torch.allclose(found["forces"], reference["forces"], atol=1e-10)
        assert torch.allclose(found["strain_gradient"], reference["strain_gradient"], atol=1e-9)


@pytest.mark.parametrize("constant_charge", [True, False])
def test_a_result_does_not_depend_on_its_batch(model: FixedPointPotential, constant_charge: bool) -> None:
    structures = [salt_water_box(), water_cluster(2), salt_water("TFT"), water_cluster(4, seed=9), salt_water("FTF")]
    structures.append(salt_water_box(5, triclinic=False))
    charges = [0.0, 1.0, 0.2, -0.3, 0.1, 0.5]
    graphs = [to_graph(s, model, total_charge=q, fermi_level=-2 + q) for s, q in zip(structures, charges, strict=True)]
    together = evaluate(model, collate(graphs), constant_charge=constant_charge)
    apart = [evaluate(model, g, constant_charge=constant_charge) for g in graphs]
    for key in ("energy", "scf_steps", "fermi_level", "total_charge", "strain_gradient"):
        single = torch.cat([a[key] for a in apart])
        assert torch.allclose(together[key].double(), single.double(), rtol=RELATIVE, atol=1e-9), key
    same("batch of six", together["energy"], torch.cat([a["energy"] for a in apart]))
    assert torch.allclose(together["forces"], torch.cat([a["forces"] for a in apart]), atol=1e-9)


def test_energy_is_smooth_where_a_neighbour_crosses_the_cutoff() -> None:
    model = make_model(4)
    from ase import Atoms

    energies = []
    distances = model.cutoff + np.linspace(-2e-3, 2e-3, 5)
    for d in distances:
        energies.append(energy(model, Atoms("OH", [[0, 0, 0], [0, 0, d]])))
    second = np.diff(energies, 2)
    assert np.abs(second).max() < 1e-7


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_symmetric_sites_polarise_only_with_the_skip_path(scale: float) -> None:
    """An isolated ion in a field: h^1 = 0, so the default update induces no dipole."""
    from ase import Atoms

    model = make_model(1, fixedpoint_update_config={"polarize_symmetric_sites": scale > 0})
    if scale == 0.0:
        with torch.no_grad():
            model.solver.density_map.response.scalars.skip_bias.zero_()
    out = evaluate(model, to_graph(Atoms("Na", [[0, 0, 0]]), model, total_charge=1.0, external_field=[0, 0, 0.1]))
    dipole = out["density"][0, [3, 1, 2]]
    if scale > 0:
        # d = -α grad v: against the gradient, along the physical field
        assert dipole[2] < -1e-4 and dipole[:2].abs().max() < 1e-12
    else:
        assert dipole.abs().max() < 1e-12


@pytest.mark.parametrize("charge", [-1.0, 0.0, 0.5, 3.0])
def test_returned_charge_is_the_requested_one(model: FixedPointPotential, charge: float) -> None:
    for atoms in (salt_water_box(), water_cluster()):
        out = evaluate(model, to_graph(atoms, model, total_charge=charge), scf_tolerance=1e-4)
        at_most("total charge against the requested one, e", (out["density"][:, 0].sum() - charge).abs(), 1e-10)
        truncated = evaluate(model, to_graph(atoms, model, total_charge=charge), num_scf_steps=1)
        at_most("total charge against the requested one, e", (truncated["density"][:, 0].sum() - charge).abs(), 1e-10)
