"""The calculator on slabs and wires: forces, stress, fields, responses, a compensating jellium."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError

from figures import at_most
from fp_potential.calculator import FixedPointCalculator
from structures import salt_water

TIGHT = {"scf_tolerance": 1e-11}
JELLIUM = {"compensating_jellium": True, "jellium_slab_bounds": (-2.0, 1.5)}
STEP = 1e-4


@pytest.fixture(scope="module")
def archive(archive_of):
    return archive_of()


def with_calculator(atoms: Atoms, archive, **arguments) -> Atoms:
    atoms = atoms.copy()
    atoms.calc = FixedPointCalculator(archive, **({"total_charge": 0.3, "scf_options": TIGHT} | arguments))
    return atoms


def with_volume(pbc: str) -> Atoms:
    """A structure whose open axes have vectors, skewed and of no special length."""
    atoms = salt_water(pbc)
    atoms.set_cell(np.where(atoms.pbc[:, None], atoms.cell.array, 9.0 * np.eye(3) + 0.3))
    return atoms


def difference(atoms: Atoms, change) -> float:
    """Derivative of the energy by a change of a structure, ``change(structure, ±STEP)``."""
    energies = []
    for step in (STEP, -STEP):
        changed = atoms.copy()
        change(changed, step)
        changed.calc = atoms.calc
        energies.append(changed.get_potential_energy())
    return (energies[0] - energies[1]) / (2 * STEP)


def strain(component: tuple[int, int]):
    def change(atoms: Atoms, step: float) -> None:
        eps = np.zeros((3, 3))
        eps[component] += 0.5 * step
        eps[component[::-1]] += 0.5 * step
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + eps), scale_atoms=False)
        atoms.positions = atoms.positions @ (np.eye(3) + eps)

    return change


def displacement(atom: int, axis: int):
    def change(atoms: Atoms, step: float) -> None:
        atoms.positions[atom, axis] += step

    return change


@pytest.mark.parametrize(("pbc", "arguments"), [("TTF", {}), ("FTT", {}), ("TFF", {}), ("FTF", {}), ("TTF", JELLIUM)])
def test_forces_are_derivatives(archive, pbc: str, arguments: dict) -> None:
    atoms = with_calculator(salt_water(pbc), archive, **arguments)
    forces = atoms.get_forces()
    for atom, axis in ((0, 0), (4, 1), (19, 2)):
        expected = -difference(atoms, displacement(atom, axis))
        at_most("forces of slabs and wires, eV/Å", abs(forces[atom, axis] - expected), 1e-6)
    total = np.abs(forces.sum(0))
    at_most("net force of slabs and wires, eV/Å", total[:2] if arguments else total, 1e-8)


@pytest.mark.parametrize("pbc", ["TTF", "TFT", "TFF"])
def test_stress_is_the_derivative_over_the_volume(archive, pbc: str) -> None:
    """Along open axes, too: there it is the virial of the forces."""
    atoms = with_calculator(with_volume(pbc), archive)
    stress = atoms.get_stress(voigt=False)
    for component in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        expected = difference(atoms, strain(component)) / atoms.get_volume()
        at_most("stress of slabs and wires, eV/Å³", abs(stress[component] - expected), 1e-8)


def test_stress_in_a_field(archive) -> None:
    """The origin of the field is the middle of the cell and moves with it."""
    atoms = with_calculator(with_volume("TTF"), archive, electric_field=[0.0, 0.0, 0.05])
    stress = atoms.get_stress(voigt=False)
    for component in ((0, 0), (1, 1), (2, 2), (0, 1)):
        expected = difference(atoms, strain(component)) / atoms.get_volume()
        at_most("stress of a charged slab in a field, eV/Å³", abs(stress[component] - expected), 1e-8)


def test_stress_needs_a_volume(archive) -> None:
    for pbc in ("TTF", "TFF"):
        with pytest.raises(PropertyNotImplementedError, match=r"no stress without .* a volume .* pbc = T "):
            with_calculator(salt_water(pbc), archive).get_stress()


def test_translation_and_wrapping(archive) -> None:
    atoms = with_calculator(salt_water("TTF"), archive, total_charge=0.0)
    energy, dipole = atoms.get_potential_energy(), atoms.get_dipole_moment()
    atoms.translate([3.0, -1.0, 40.0])
    atoms.wrap()
    at_most("energy of a moved slab, eV", abs(atoms.get_potential_energy() - energy), 1e-8)
    assert atoms.get_dipole_moment()[2] == pytest.approx(dipole[2], abs=1e-9)


def test_fields_along_open_axes_only(archive) -> None:
    atoms = with_calculator(salt_water("TTF"), archive)
    before = atoms.get_dipole_moment()[2]
    atoms.info["electric_field"] = [0.0, 0.0, 0.05]
    assert atoms.get_dipole_moment()[2] > before
    atoms.info["electric_field"] = [0.05, 0.0, 0.0]
    with pytest.raises(ValueError, match="component along a periodic axis"):
        atoms.get_potential_energy()


@pytest.mark.parametrize("pbc", ["TTF", "FFF"])
def test_origin_of_the_field(archive, pbc: str) -> None:
    """E changes by -Q F·Δ and mu by F·Δ; the dipole is about the origin of the coordinates whatever it is."""
    field = np.array([0.0, 0.0, 0.04])
    atoms = with_volume(pbc) if pbc == "TTF" else salt_water("TTT")
    atoms.pbc = [letter == "T" for letter in pbc]
    centre = 0.5 * atoms.cell.array[~atoms.pbc].sum(0)
    default = with_calculator(atoms, archive, electric_field=field)
    energy = default.get_potential_energy()
    same = with_calculator(atoms, archive, electric_field=field, field_origin=centre)
    assert same.get_potential_energy() == pytest.approx(energy, abs=1e-9)
    shift = np.array([0.0, 0.0, 2.5])
    other = with_calculator(atoms, archive, electric_field=field, field_origin=centre + shift)
    # F = -E
    assert other.get_potential_energy() - energy == pytest.approx(0.3 * field @ shift, abs=1e-8)
    levels = [a.calc.results["fermi_level"] for a in (default, other)]
    assert levels[1] - levels[0] == pytest.approx(-field @ shift, abs=1e-8)
    assert other.get_dipole_moment() == pytest.approx(default.get_dipole_moment(), abs=1e-8)
    moments = default.get_charges() @ atoms.positions + default.calc.results["atomic_dipoles"].sum(0)
    assert default.get_dipole_moment() == pytest.approx(moments, abs=1e-9)


@pytest.mark.parametrize("definition", ["density", "energy"])
def test_responses_along_open_axes(archive, definition: str) -> None:
    """NaN along periodic axes, and there only."""
    slab = with_calculator(salt_water("TTF"), archive)
    found = slab.calc.responses(slab, definition)
    assert np.isfinite(found["polarizability"]).sum() == 1
    assert np.isfinite(found["born_charges"]).all(axis=(0, 1)).tolist() == [False, False, True]
    values = []
    for step in (1e-3, -1e-3):
        slab.info["electric_field"] = [0.0, 0.0, step]
        slab.get_potential_energy()
        dipole = slab.get_dipole_moment()[2]
        # dE/d(field) from the energy's own derivative: F = -E
        by_field = slab.calc.results["dipole_defect"][2] + dipole
        values.append(dipole if definition == "density" else by_field)
    assert found["polarizability"][2, 2] == pytest.approx((values[0] - values[1]) / 2e-3, abs=1e-6)
    # moving everything moves the total charge
    assert found["born_charges"][:, 2, 2].sum() == pytest.approx(0.3, abs=1e-7)
    wire = with_calculator(salt_water("TFF"), archive)
    finite = np.isfinite(wire.calc.responses(wire, definition)["polarizability"])
    assert finite.tolist() == [[False] * 3, [False, True, True], [False, True, True]]


def test_responses_need_an_open_axis(archive) -> None:
    tilted = salt_water("TTF")
    tilted.rotate(30, (1, 1, 0.5), rotate_cell=True)
    for atoms in (tilted, salt_water("TTT")):
        with pytest.raises(PropertyNotImplementedError, match="none of x, y, z is perpendicular"):
            with_calculator(atoms, archive).calc.responses(atoms)


def test_methods_agree(archive) -> None:
    """The sum over waves and the mesh, to the accuracy asked for; pairs are for molecules."""
    for pbc in ("TTF", "TFF", "FFF"):
        atoms = salt_water(pbc)
        forces = with_calculator(atoms, archive, kspace="reciprocal").get_forces()
        coarse = with_calculator(atoms, archive, kspace="mesh", kspace_accuracy=1e-3).get_forces()
        fine = with_calculator(atoms, archive, kspace="mesh", kspace_accuracy=1e-7).get_forces()
        errors = [np.sqrt(((f - forces) ** 2).mean() / (forces**2).mean()) for f in (coarse, fine)]
        at_most("mesh at 1e-3 against waves, forces, relative", errors[0], 1e-3)
        at_most("mesh at 1e-7 against waves, forces, relative", errors[1], 1e-7)
        assert errors[0] > errors[1]
        balanced = with_calculator(atoms, archive, kspace="mesh", kspace_accuracy=1e-3, remove_net_force=True)
        at_most("net force of the mesh, removed, eV/Å", np.abs(balanced.get_forces().sum(0)), 1e-8)
    with pytest.raises(Exception, match="kspace method open is for structures without periodic axes"):
        with_calculator(salt_water("TTF"), archive, kspace="open").get_potential_energy()


def test_jellium_makes_charged_slabs_neutral(archive) -> None:
    """Nothing changes but the zero of the potential when there is no charge; energies are extensive when there is."""
    slab = salt_water("TTF")
    plain = with_calculator(slab, archive, total_charge=0.0)
    inside = with_calculator(slab, archive, total_charge=0.0, **JELLIUM)
    assert inside.get_potential_energy() == pytest.approx(plain.get_potential_energy(), abs=1e-8)
    assert inside.get_forces() == pytest.approx(plain.get_forces(), abs=1e-8)
    assert abs(inside.calc.results["fermi_level"] - plain.calc.results["fermi_level"]) > 1e-3
    charged = with_calculator(slab, archive, **JELLIUM)
    four = with_calculator(slab.repeat((2, 2, 1)), archive, total_charge=1.2, **JELLIUM)
    assert four.get_potential_energy() == pytest.approx(4 * charged.get_potential_energy(), rel=1e-10)
    energy = charged.get_potential_energy()
    charged.translate([0.4, -2.0, 5.0])
    moved = with_calculator(charged, archive, **(JELLIUM | {"jellium_slab_bounds": (3.0, 6.5)}))
    assert moved.get_potential_energy() == pytest.approx(energy, abs=1e-8)


def test_jellium_stress_and_field(archive) -> None:
    """In the plane the stress is a derivative; a field acts on the slab, too, so that no origin matters."""
    atoms = with_calculator(with_volume("TTF"), archive, **JELLIUM)
    stress = atoms.get_stress(voigt=False)
    for component in ((0, 0), (1, 1), (0, 1)):
        expected = difference(atoms, strain(component)) / atoms.get_volume()
        at_most("stress of a slab with jellium, eV/Å³", abs(stress[component] - expected), 1e-8)
    energies = []
    for lift in (0.0, 7.0):
        moved = salt_water("TTF")
        moved.translate([0.0, 0.0, lift])
        bounds = tuple(face + lift for face in JELLIUM["jellium_slab_bounds"])
        arguments = JELLIUM | {"jellium_slab_bounds": bounds, "electric_field": [0.0, 0.0, 0.05]}
        energies.append(with_calculator(moved, archive, **arguments).get_potential_energy())
    assert energies[1] == pytest.approx(energies[0], abs=1e-8)


@pytest.mark.parametrize("pbc", ["TTT", "TFF", "FFF"])
def test_jellium_is_for_slabs(archive, pbc: str) -> None:
    with pytest.raises(ValueError, match="`compensating_jellium` is for structures with two periodic axes"):
        with_calculator(salt_water(pbc), archive, **JELLIUM).get_potential_energy()


def test_slab_handling_takes_any_open_axis(archive) -> None:
    for pbc in ("TTF", "TFT", "FTT"):
        assert np.isfinite(with_calculator(salt_water(pbc), archive, pbc_handling="slab").get_potential_energy())
    with pytest.raises(ValueError, match="pbc is T F F, but `pbc_handling` 'slab' is for 2 periodic axes"):
        with_calculator(salt_water("TFF"), archive, pbc_handling="slab").get_potential_energy()
