"""The electrode example: sets by whole geometry, and its numbers over charge and level for a model known exactly."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read
from fp_potential.train.config.load import load
from fp_potential.train.potential.config import TrainConfig
from scipy.special import erf

from figures import at_most
from fp_potential.export import export_model
from fp_potential.options import SCFOptions
from fp_potential.reference import ChargeEquilibration, ReferenceOptions
from fp_potential.reference.options import BUILT_IN
from fp_potential.units import COULOMB

EXAMPLE = Path(__file__).parents[2] / "examples" / "cu_water_electrode"
SIGMA = 1.5


@pytest.fixture(scope="module")
def example():
    """Modules of the example by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        yield {name: importlib.import_module(name) for name in ("measures", "profiles", "prepare")}


@pytest.fixture(scope="module")
def frames():
    """All frames of both files."""
    return [atoms for name in ("charged", "neutral") for atoms in read(EXAMPLE / "data" / f"{name}.extxyz.xz", ":")]


def test_sets_are_of_whole_geometries(example, frames):
    """Frames with the same positions have one name and are in one set; the held-out geometries are the test set."""
    sets, names = {}, {}
    for atoms in frames:
        geometry, split = atoms.info["geometry"], atoms.info["split"]
        place = np.round(atoms.positions, 3).tobytes()
        assert sets.setdefault(place, split) == split
        assert names.setdefault(place, geometry) == geometry
    assert len(set(names.values())) == len(names) == 42
    held_out = {atoms.info["geometry"] for atoms in frames if atoms.info["split"] == "test"}
    assert held_out == set(example["prepare"].TEST)
    assert {atoms.info["geometry"] for atoms in frames if atoms.info["split"] == "valid"} == set(
        example["prepare"].VALID
    )


def test_levels_are_derivatives_of_energies(example, frames):
    """-dE/dQ between charges less than 0.3 e apart is the mean of their levels, printed or computed."""
    groups = example["measures"].by_geometry([atoms for atoms in frames if "REF_fermi_level" in atoms.info])
    for group in groups.values():
        charges, energies, levels = np.array(
            [[atoms.info[key] for key in ("total_charge", "REF_energy", "REF_fermi_level")] for atoms in group]
        ).T
        near = np.abs(np.diff(charges)) < 0.3
        error = -np.diff(energies) / np.diff(charges) - 0.5 * (levels[1:] + levels[:-1])
        if near.any():
            at_most("electrode data: level from energies [eV]", np.abs(error[near]), 6e-4)


def test_training_file(frames):
    """It is read, names the keys of the files, and its sets are those of the data."""
    data = load(EXAMPLE / "train.yaml", TrainConfig).data
    assert (data.keys.fermi_level, data.keys.charges, data.keys.total_charge) == (
        "REF_fermi_level", "REF_charges", "total_charge",
    )  # fmt: skip
    assert (data.split.key, data.split.train, data.split.valid, data.split.test) == (
        "split", ["train"], ["valid"], ["test"],
    )  # fmt: skip
    assert {atoms.info["split"] for atoms in frames} == {"train", "valid", "test"}


def pair(charge: float, distance: float = 2.4) -> Atoms:
    """Two copper atoms and their exact labels in charge equilibration: each has half of the charge."""
    copper = BUILT_IN["Cu"]
    x = distance / (2 * SIGMA)
    repulsion = COULOMB * erf(x) / distance
    force = (COULOMB * erf(x) / distance - COULOMB * np.exp(-x * x) / (SIGMA * np.sqrt(np.pi))) / distance
    stiffness = copper.hardness + COULOMB / (SIGMA * np.sqrt(np.pi)) + repulsion
    atoms = Atoms("Cu2", [[0, 0, 0], [0, 0, distance]])
    atoms.info = {
        "geometry": "pair",
        "total_charge": charge,
        "REF_energy": copper.electronegativity * charge + 0.25 * stiffness * charge**2,
        "REF_fermi_level": -copper.electronegativity - 0.5 * stiffness * charge,
    }
    atoms.arrays["REF_charges"] = np.full(2, 0.5 * charge)
    atoms.arrays["REF_forces"] = np.outer([-1, 1], [0, 0, 0.25 * charge**2 * force])
    return atoms


def test_numbers_of_a_known_model(example, tmp_path):
    """Against the closed form of two atoms: no errors, dμ/dQ that is constant, and a level that is -dE/dQ."""
    measures = example["measures"]
    known = ChargeEquilibration(
        ReferenceOptions.built_in("Cu", atomic_multipoles_smearing_width=SIGMA, repulsion_energy=0.0)
    )
    export_model(known, tmp_path / "known.pt", SCFOptions(num_scf_steps=200))
    model = measures.Model(tmp_path / "known.pt", 1e-12)
    group = measures.compare(model, [pair(charge) for charge in (0.0, -0.3, -1.1)])
    for name, error in measures.errors(group).items():
        at_most(f"electrode example, {name}", error, 1e-9)
    for slope in measures.slopes(model, group, 0.02):
        exact = (group[1].level - group[0].level) / (group[1].charge - group[0].charge)
        found = np.array([slope.reference, slope.model, slope.own])
        at_most("electrode example, dμ/dQ [V/e]", np.abs(found - exact), 1e-8)
        at_most("electrode example, dE/dQ + μ [eV]", abs(slope.defect), 1e-8)
    assert model.failures == []
    assert measures.added_to(group, "Cu") == (pytest.approx(1.0), pytest.approx(1.0))


def test_field_inside_a_known_metal(example, frames, tmp_path):
    """All of it is left in the middle of six layers that do not respond, next to nothing in those of a soft metal."""
    measures, inside = example["measures"], []
    for hardness in (1e5, 0.5):
        chosen = ReferenceOptions.built_in("Cu", atomic_multipoles_smearing_width=SIGMA)
        chosen.elements["Cu"] = chosen.elements["Cu"].model_copy(update={"hardness": hardness})
        export_model(ChargeEquilibration(chosen), tmp_path / "metal.pt", SCFOptions(num_scf_steps=200))
        inside.append(measures.field_inside(measures.Model(tmp_path / "metal.pt"), frames[0], "Cu"))
    at_most("electrode example, field inside a metal that does not respond", abs(inside[0] - 1.0), 0.03)
    at_most("electrode example, field inside a soft metal", abs(inside[1]), 0.03)


def test_what_fails_is_named_and_left_out(example, tmp_path):
    """A structure the model does not know: NaN, and a line."""
    measures = example["measures"]
    known = ChargeEquilibration(ReferenceOptions.built_in("Cu"))
    export_model(known, tmp_path / "known.pt", SCFOptions(num_scf_steps=200))
    model = measures.Model(tmp_path / "known.pt")
    assert np.isnan(model.at_charge(Atoms("H", info={"geometry": "hydrogen"}), -1.0).level)
    assert model.failures[0].startswith("hydrogen, charge -1.000 e: ")


def test_layers_hold_every_atom_and_profiles_all_charge(example, frames):
    """Six layers of copper, waters on both sides, each atom once; profiles integrate to the total charge."""
    profiles = example["profiles"]
    for atoms in (frames[0], frames[25]):
        parts = profiles.layers(atoms)
        assert sorted(np.concatenate(list(parts.values()))) == list(range(len(atoms)))
        assert [len(parts[f"Cu {number}"]) for number in range(1, 7)] == [16] * 6
        symbols = np.array(atoms.get_chemical_symbols())
        for name in ("water below", "contact below", "contact above", "water above"):
            assert (symbols[parts[name]] == "H").sum() == 2 * (symbols[parts[name]] == "O").sum() > 0
        z, profile = profiles.along_z(atoms, atoms.arrays["REF_charges"])
        at_most("profile's charge [e]", abs(profile.sum() * (z[1] - z[0]) - atoms.info["total_charge"]), 2e-3)
