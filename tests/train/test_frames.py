"""Reading data: labels, weights, fields, sets, and what is said about bad files."""

import gzip

import numpy as np
import pytest
import torch
from ase.io import write
from fp_potential.train.config import DataOptions, Keys
from fp_potential.train.data import batch_samples, batches, make_samples
from fp_potential.train.errors import InputError
from fp_potential.train.frames import fingerprint, load_data, read_frames

from structures import ELEMENTS
from training_data import KEYS, frames, write_frames


@pytest.fixture(scope="module")
def content():
    return frames()


@pytest.fixture
def fresh(content):
    return [atoms.copy() for atoms in content]


def read(path, **keys):
    return read_frames([str(path)], Keys(**{**KEYS, **keys}))


def test_labels_and_conventions(tmp_path, fresh):
    out = read(write_frames(tmp_path / "a.xyz", fresh))
    assert len(out) == 11 and out[0].kind == "cluster" and out[0].source == "a.xyz, frame 0"
    np.testing.assert_allclose(out[2].external_field, [0, 0, -0.05])
    np.testing.assert_allclose(out[1].labels["forces"], fresh[1].arrays["REF_forces"], atol=1e-8)
    assert out[9].labels["dipole"] is None and out[0].labels["dipole"] is not None


def test_gradient_of_the_potential_is_taken_as_it_is(tmp_path, fresh):
    keys = {"electric_field": None, "external_field": "external_field"}
    out = read(write_frames(tmp_path / "a.xyz", fresh), **keys)
    np.testing.assert_allclose(out[2].external_field, [0, 0, 0.05])


def test_gz_and_globs(tmp_path, fresh):
    write_frames(tmp_path / "b.xyz", fresh[:2])
    with gzip.open(tmp_path / "a.xyz.gz", "wt") as file:
        write(file, fresh[2:5], format="extxyz")
    out = read_frames([str(tmp_path / "*.xyz*")], Keys(**KEYS))
    assert [frame.source for frame in out][:1] == ["a.xyz.gz, frame 0"] and len(out) == 5


def test_weights_by_kind(tmp_path, fresh):
    """Factors on the weights of training and validation frames, not on those of the test."""
    fresh[0].info["config_energy_weight"] = 0.5
    data = {"files": [str(write_frames(tmp_path / "a.xyz", fresh))], "keys": KEYS, "split": {}, "valid_fraction": 0.3}
    plain = load_data(DataOptions(**data))
    weighted = load_data(DataOptions(**data, kind_weights={"cluster": {"energy": 4.0, "dipole": 0.0}}))
    for name, factor in (("train", 4.0), ("valid", 4.0), ("test", 1.0)):
        for before, after in zip(getattr(plain, name), getattr(weighted, name), strict=True):
            chosen = factor if before.kind == "cluster" else 1.0
            assert after.weights["energy"] == chosen * before.weights["energy"]
            assert after.weights["forces"] == before.weights["forces"]
            assert np.all(after.weights["dipole"] == (0.0 if chosen == 4.0 else before.weights["dipole"]))
    for wrong, message in (
        ({"clusters": {"energy": 2.0}}, "no training frame is of kind 'clusters'; kinds: box, cluster"),
        ({"cluster": {"energies": 2.0}}, "got energies: 2.0"),
        ({"cluster": {"energy": -1.0}}, "got energy: -1.0"),
    ):
        with pytest.raises(InputError, match=message):
            load_data(DataOptions(**data, kind_weights=wrong))


def test_key_missing_everywhere_names_file_key_and_those_present(tmp_path, fresh):
    path = write_frames(tmp_path / "a.xyz", fresh)
    with pytest.raises(
        InputError, match=r"a\.xyz: no frame has the key 'dft_energy' \(data\.keys\.energy\).*REF_energy"
    ):
        read(path, energy="dft_energy")
    with pytest.raises(InputError, match=r"'charge' \(data\.keys\.total_charge\)"):
        read(path, total_charge="charge")


def test_label_missing_in_some_frames_has_weight_zero(tmp_path, fresh):
    del fresh[1].info["REF_energy"], fresh[1].arrays["REF_forces"], fresh[1].info["REF_fermi_level"]
    data = load_data(
        DataOptions(files=str(write_frames(tmp_path / "a.xyz", fresh)), keys=Keys(**KEYS), valid_fraction=0)
    )
    assert "1 of 11 training frames have no energy: weight zero there" in data.notes
    labels = make_samples(data.train[1:2], ELEMENTS, 4.0, torch.float64)[0].labels
    assert labels.energy_weight.item() == 0 and not labels.forces_weight.any()
    assert labels.fermi_level.isnan().all() and labels.fermi_level_weight.item() == 0
    assert labels.multipoles_weight.all()


def test_weights_of_frames(tmp_path, fresh):
    fresh[0].info |= {"config_weight": 2.0, "config_forces_weight": 0.5, "config_dipole_weight": [1.0, 0.0, 3.0]}
    labels = make_samples(read(write_frames(tmp_path / "a.xyz", fresh)), ELEMENTS, 4.0, torch.float64)[0].labels
    assert labels.energy_weight.item() == 2.0 and labels.forces_weight.unique().item() == 1.0
    assert labels.dipole_weight.tolist() == [[2.0, 0.0, 6.0]]


def test_dipoles_of_periodic_axes_count_nothing(tmp_path, fresh):
    box = fresh[9]
    box.info["REF_dipole"] = np.ones(3)
    labels = make_samples(read(write_frames(tmp_path / "a.xyz", fresh)), ELEMENTS, 4.0, torch.float64)[9].labels
    assert labels.dipole_weight.tolist() == [[0.0, 0.0, 0.0]]


def test_ase_names_are_found(tmp_path, fresh):
    for atoms in fresh:
        atoms.info["energy"] = atoms.info.pop("REF_energy")
    out = read(write_frames(tmp_path / "a.xyz", fresh), energy="energy")
    assert out[0].labels["energy"] == pytest.approx(fresh[0].info["energy"])


@pytest.mark.parametrize("shape", [(9,), (3, 3), (6,)])
def test_stress_in_three_notations(tmp_path, fresh, shape):
    full = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]])
    values = full.reshape(shape) if shape != (6,) else np.array([1.0, 4.0, 6.0, 5.0, 3.0, 2.0])
    fresh[9].info["virial_stress"] = values
    out = read(write_frames(tmp_path / "a.xyz", fresh), stress="virial_stress")
    np.testing.assert_allclose(out[9].labels["stress"], full)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", r"holds no frames"),
        ("this is\nnot a structure\n", "not readable as extended XYZ at its first frame"),
        ("2\nProperties=species:S:1:pos:R:3\nO 0 0 0\n", "not readable as extended XYZ"),
        ("1\nProperties=species:S:1:pos:R:3\nO 0 zero 0\n", "not readable as extended XYZ"),
    ],
)
def test_empty_and_malformed_files(tmp_path, text, expected):
    path = tmp_path / "bad.xyz"
    path.write_text(text)
    with pytest.raises(InputError, match=expected) as caught:
        read(path)
    assert "bad.xyz" in str(caught.value)


def test_truncated_file_says_where(tmp_path, fresh):
    path = write_frames(tmp_path / "a.xyz", fresh)
    path.write_text("\n".join(path.read_text().splitlines()[:-2]) + "\n")
    with pytest.raises(InputError, match="after 10 good frames"):
        read(path)


def test_missing_file():
    with pytest.raises(InputError, match=r"'nowhere\.xyz' does not exist"):
        read("nowhere.xyz")


def spoil_position(atoms):
    atoms.positions[0, 0] = np.nan


def spoil_force(atoms):
    atoms.arrays["REF_forces"][1, 1] = np.inf


def spoil_shape(atoms):
    atoms.arrays["REF_atomic_multipoles"] = atoms.arrays["REF_atomic_multipoles"][:, :2]


def spoil_charge(atoms):
    atoms.info["total_charge"] = "neutral"


def spoil_field(atoms):
    atoms.info["external_field"] = np.array([0.0, 0.1, 0.0])


@pytest.mark.parametrize(
    ("spoil", "frame", "expected"),
    [
        (spoil_position, 3, "frame 3: non-finite position"),
        (spoil_force, 4, "frame 4: 'REF_forces' is not finite"),
        (spoil_shape, 0, r"'REF_atomic_multipoles' has shape \(3, 2\), expected \(3, 4\)"),
        (spoil_charge, 1, "frame 1: 'total_charge' is not a number: 'neutral'"),
        (spoil_field, 9, "frame 9: 'external_field' has a component along a periodic axis"),
    ],
)
def test_bad_values_are_named(tmp_path, fresh, spoil, frame, expected):
    spoil(fresh[frame])
    with pytest.raises(InputError, match=expected):
        read(write_frames(tmp_path / "a.xyz", fresh))


def test_unknown_element_is_named_with_its_frame(tmp_path, fresh):
    fresh[5].numbers[0] = 9
    out = read(write_frames(tmp_path / "a.xyz", fresh))
    with pytest.raises(InputError, match=r"a\.xyz, frame 5: unknown element F.*H, O, Na, Cl"):
        make_samples(out, ELEMENTS, 4.0, torch.float64)


def test_sets_by_key(tmp_path, fresh):
    fresh[0].info["split"] = "spare"
    path = str(write_frames(tmp_path / "a.xyz", fresh))
    data = load_data(DataOptions(files=path, keys=Keys(**KEYS), split={"key": "split"}, valid_fraction=0.3))
    assert (len(data.train), len(data.valid), len(data.test)) == (5, 2, 3)
    assert "1 frames belong to no set" in data.notes[0]
    again = load_data(DataOptions(files=path, keys=Keys(**KEYS), split={"key": "split"}, valid_fraction=0.3))
    assert fingerprint(again.train) == fingerprint(data.train) != fingerprint(data.valid)


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ({"key": "set"}, "no info key 'set'"),
        ({"key": "split", "train": "fit"}, "no frame has split=fit; values present"),
    ],
)
def test_bad_splits(tmp_path, fresh, split, expected):
    with pytest.raises(InputError, match=expected):
        load_data(DataOptions(files=str(write_frames(tmp_path / "a.xyz", fresh)), keys=Keys(**KEYS), split=split))


@pytest.mark.parametrize("group", [False, True])
def test_batches_hold_every_frame_once_in_a_repeatable_order(tmp_path, fresh, group):
    samples = make_samples(read(write_frames(tmp_path / "a.xyz", fresh)), ELEMENTS, 4.0, torch.float64)
    orders = [[batch.indices for batch in batches(samples, 3, seed, group_by_size=group)] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(index for chunk in orders[0] for index in chunk) == list(range(11))


def test_batch_is_the_concatenation_of_its_frames(tmp_path, fresh):
    samples = make_samples(read(write_frames(tmp_path / "a.xyz", fresh)), ELEMENTS, 4.0, torch.float32)
    batch = batch_samples(samples, [9, 1])
    assert batch.num_atoms.tolist() == [20.0, 6.0] and batch.graph.positions.dtype == torch.float32
    assert batch.labels.energy.dtype == torch.float64
    assert torch.equal(batch.labels.forces[20:], samples[1].labels.forces)
