"""Virials as labels: their sign against forces, their unit, and stresses beside them."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones
from fp_potential.train.data.frame_reader import FrameReader
from fp_potential.train.data.read import open_prepared
from fp_potential.train.data.sets import load_data
from fp_potential.train.errors import InputError
from fp_potential.train.potential.columns import Columns
from fp_potential.train.potential.config import DataOptions, Keys, Units, load_config

from prepared_sets import prepare
from training_data import KEYS, frames, training_file, write_frames


def argon(scale=0.9):
    """A compressed crystal, displaced; with its virial Σ_pairs r f, whose trace is positive: it pushes outwards."""
    atoms = Atoms("Ar4", [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], cell=[1, 1.1, 0.95], pbc=True)
    atoms.set_cell(atoms.cell * 1.587 * scale, scale_atoms=True)
    atoms.set_scaled_positions([[0, 0, 0], [0, 0.5, 0.52], [0.5, 0, 0.5], [0.48, 0.5, 0]])
    atoms.calc = LennardJones(epsilon=0.01, rc=4.0, smooth=True)
    return atoms


def strained(atoms, strain):
    """A copy with r -> (1 + strain) r, and the energy of it."""
    other = atoms.copy()
    other.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
    other.calc = LennardJones(epsilon=0.01, rc=4.0, smooth=True)
    return other.get_potential_energy()


def by_strain(atoms, step=1e-5):
    """−dE/d(strain) by central differences."""
    virial = np.zeros((3, 3))
    for a in range(3):
        for b in range(3):
            strain = np.zeros((3, 3))
            strain[a, b] = step
            virial[a, b] = -(strained(atoms, strain) - strained(atoms, -strain)) / (2 * step)
    return virial


def frame(atoms, units=None, **keys):
    reader = FrameReader(Keys(**keys), units=units)
    found = reader.frame(atoms.copy(), "a.xyz, frame 0", "a")
    return found, [note for note in reader.notes() if "WARNING" in note]


def test_sign_and_unit_are_those_of_the_stress_of_ase():
    atoms = argon()
    virial = by_strain(atoms)
    assert np.trace(virial) > 0
    for unit, factor in (("eV", 1.0), ("kcal/mol", 23.060547830619)):
        atoms.info["virial"] = (factor * virial).reshape(9)
        found, warnings = frame(atoms, Units(labels={"virial": unit}), virial="virial")
        np.testing.assert_allclose(found.labels["stress"], atoms.get_stress(voigt=False), rtol=1e-6, atol=1e-9)
        assert warnings == [] and found.weights["stress"] == 1.0


def test_six_numbers_and_weight():
    atoms = argon()
    atoms.info |= {"W": np.arange(1.0, 7.0), "config_stress_weight": 3.0}
    found, _ = frame(atoms, virial="W")
    expected = -np.array([[1.0, 6, 5], [6, 2, 4], [5, 4, 3]]) / atoms.get_volume()
    np.testing.assert_allclose(found.labels["stress"], expected, rtol=1e-14)
    assert found.weights["stress"] == 3.0


def test_stress_beside_a_virial_is_compared_and_used():
    atoms = argon()
    stress = atoms.get_stress(voigt=False)
    atoms.info |= {"virial": -stress * atoms.get_volume() * 1.001, "stress": stress}
    found, warnings = frame(atoms, stress="stress", virial="virial")
    assert warnings == [] and np.array_equal(found.labels["stress"], stress)
    atoms.info["virial"] *= -1.0
    found, (line,) = frame(atoms, stress="stress", virial="virial")
    assert line.startswith(
        "WARNING: 1 frames have a stress that is not -virial/V; the stress is used (a.xyz, frame 0: xx "
    )
    assert np.array_equal(found.labels["stress"], stress)


def test_virial_of_a_molecule_is_not_used():
    atoms = argon()
    atoms.info["virial"] = np.eye(3)
    atoms.pbc = False
    found, (line,) = frame(atoms, virial="virial")
    assert found.labels["stress"] is None
    assert "1 frames have a virial and no periodic axis, or a cell without a volume: it is not used" in line


@pytest.mark.parametrize("name", ["virial", "charges"])
def test_nothing_but_nan_is_no_label(name):
    atoms = argon()
    atoms.info["virial"], atoms.arrays["charges"] = np.full((3, 3), np.nan), np.full(4, np.nan)
    found, _ = frame(atoms, **{name: name})
    assert found.labels["stress"] is None and found.labels["atomic_multipoles"] is None


def test_virials_train_stresses(tmp_path):
    """Losses, columns and prepared sets know the stress; a loss without either is refused."""
    content = frames()
    for atoms in content:
        if atoms.pbc.any():
            atoms.info["W"] = np.diag([1.0, 2.0, 3.0])
    path = training_file(tmp_path, write_frames(tmp_path / "a.xyz", content))
    losses = [f"train_schedule.{stage}.loss.stress=1.0" for stage in (0, 1)]
    with pytest.raises(InputError, match=r"needs the label data\.keys\.stress or data\.keys\.virial, which"):
        load_config(path, losses)
    config = load_config(path, [*losses, "data.keys.virial=W"])
    data = load_data(config.data)
    assert any("training frames have no stress: weight zero there" in note for note in data.notes)
    assert "valid stress [meV/Å³]" in Columns(config, len(data.train), True, []).headings
    prepare(config.data, 3.5, tmp_path / "set")
    assert open_prepared(str(tmp_path / "set"), config.data.keys).manifest["labels"].count("stress") == 1
    again = load_data(DataOptions(files=[str(tmp_path / "set")], keys=KEYS | {"virial": "W"}))
    for one, other in zip(again.train, data.train, strict=True):
        held, read = other.labels["stress"], one.labels["stress"]
        assert (held is None and read is None) or np.array_equal(held, read)
