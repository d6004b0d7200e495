"""Reading data: labels, weights, fields, sets, and what is said about bad files."""

import gzip
import io
import json

import numpy as np
import pytest
import torch
from ase.io import write
from fp_potential.train.data.frame_sequence import fingerprint
from fp_potential.train.data.read import read_frames
from fp_potential.train.data.sets import load_data
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import DataOptions, Keys, load_config
from fp_potential.train.potential.samples import make_samples
from fp_potential.train.potential.statistics import collect
from fp_potential.train.run import train
from rich.console import Console

from structures import ELEMENTS
from training_data import KEYS, training_file, write_frames


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
    assert "1 frames belong to no set" in " ".join(data.notes)
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


@pytest.fixture
def in_atomic_units(fresh):
    """``fresh`` in Hartree and Bohr, with a stress, and the same in eV and Å."""
    hartree, bohr = 27.211386245988, 0.529177210903
    fresh[9].info["REF_stress"] = np.arange(9.0)
    converted = [atoms.copy() for atoms in fresh]
    for atoms in converted:
        atoms.set_cell(atoms.cell.array / bohr)
        atoms.positions /= bohr
        atoms.info["REF_energy"] /= hartree
        atoms.info["REF_fermi_level"] /= hartree
        atoms.info["external_field"] = atoms.info["external_field"] * bohr / hartree
        atoms.arrays["REF_forces"] *= bohr / hartree
        atoms.arrays["REF_atomic_multipoles"][:, 1:] /= bohr
        if "REF_dipole" in atoms.info:
            atoms.info["REF_dipole"] = atoms.info["REF_dipole"] / bohr
    converted[9].info["REF_stress"] = converted[9].info["REF_stress"] * bohr**3 / hartree
    return converted, fresh


def test_units_of_all_labels(tmp_path, in_atomic_units):
    converted, plain = (
        load_data(DataOptions(files=str(path), keys=Keys(**KEYS, stress="REF_stress"), units=units, valid_fraction=0))
        for path, units in (
            (write_frames(tmp_path / "au.xyz", in_atomic_units[0]), {"energy": "Ha", "length": "Bohr"}),
            (write_frames(tmp_path / "ev.xyz", in_atomic_units[1]), {}),
        )
    )
    assert converted.notes[0] == "units of the data: Ha, Bohr, e; converted to eV, Å, e"
    assert plain.notes[:2] == [
        "units of the data: eV, Å, e",
        "field: 'external_field' is read as the physical field E = -F",
    ]
    for one, other in zip(converted.train, plain.train, strict=True):
        np.testing.assert_allclose(one.atoms.positions, other.atoms.positions, atol=1e-7)
        np.testing.assert_allclose(one.atoms.cell.array, other.atoms.cell.array, atol=1e-7)
        np.testing.assert_allclose(one.external_field, other.external_field, atol=1e-7)
        assert one.total_charge == other.total_charge and one.atoms.pbc.tolist() == other.atoms.pbc.tolist()
        for name, value in other.labels.items():
            assert (one.labels[name] is None) == (value is None)
            if value is not None:
                np.testing.assert_allclose(one.labels[name], value, atol=1e-6, err_msg=name)


def test_unit_of_one_label(tmp_path, fresh):
    path = str(write_frames(tmp_path / "a.xyz", fresh))
    options = DataOptions(files=path, keys=KEYS, units={"labels": {"energy": "kcal/mol", "dipole": "D"}})
    found, plain = load_data(options).train[0], load_data(DataOptions(files=path, keys=KEYS)).train[0]
    assert found.labels["energy"] == pytest.approx(plain.labels["energy"] * 0.0433641043, rel=1e-8)
    np.testing.assert_allclose(found.labels["dipole"], plain.labels["dipole"] * 0.2081943327, rtol=1e-8)
    np.testing.assert_array_equal(found.labels["forces"], plain.labels["forces"])


def test_charges_stand_in_for_multipoles(tmp_path, fresh):
    """Where a frame has no multipoles, its charges are labels and its dipoles are not."""
    for atoms in fresh[:6]:
        atoms.arrays["REF_q"] = atoms.arrays["REF_atomic_multipoles"][:, 0]
        if atoms is not fresh[0]:
            del atoms.arrays["REF_atomic_multipoles"]
    fresh[1].info["config_atomic_multipoles_weight"] = 3.0
    out = read(write_frames(tmp_path / "a.xyz", fresh), charges="REF_q")
    samples = make_samples(out, ELEMENTS, 4.0, torch.float64)
    assert out[0].labels["atomic_multipoles"][:, 1:].any()
    assert samples[0].labels.multipoles_weight.unique().tolist() == [1.0]
    np.testing.assert_array_equal(out[1].labels["atomic_multipoles"][:, 0], fresh[1].arrays["REF_q"].round(8))
    assert not out[1].labels["atomic_multipoles"][:, 1:].any()
    assert samples[1].labels.multipoles_weight.tolist() == [[3.0, 0.0, 0.0, 0.0]] * 6


def test_a_model_trains_on_charges_alone(tmp_path, fresh):
    for atoms in fresh:
        atoms.arrays["REF_q"] = atoms.arrays.pop("REF_atomic_multipoles")[:, 0]
    keys = KEYS | {"atomic_multipoles": None, "charges": "REF_q"}
    path = write_frames(tmp_path / "a.xyz", fresh)
    config = load_config(training_file(tmp_path, path), [f"data.keys={json.dumps(keys)}"])
    config.train_schedule = config.train_schedule[:1]
    screen = io.StringIO()
    table = train(config, Console(file=screen, width=200))
    assert "charges [me]" in table and "atomic dipoles" not in table
    assert "atomic_dipole" not in screen.getvalue()


def test_weights_of_the_components_of_multipoles(tmp_path, fresh):
    fresh[0].info |= {"config_weight": 2.0, "config_atomic_multipoles_weight": [1.0, 0.5, 0.0, 0.25]}
    labels = make_samples(read(write_frames(tmp_path / "a.xyz", fresh)), ELEMENTS, 4.0, torch.float64)[0].labels
    assert labels.multipoles_weight.tolist() == [[2.0, 1.0, 0.0, 0.5]] * 3


@pytest.mark.parametrize("key", ["config_weight", "config_energy_weight"])
def test_negative_weights_are_refused(tmp_path, fresh, key):
    fresh[2].info[key] = -1.0
    with pytest.raises(InputError, match="frame 2: negative weight"):
        read(write_frames(tmp_path / "a.xyz", fresh))


def test_label_of_nothing_but_nan_is_missing(tmp_path, fresh):
    fresh[2].arrays["REF_forces"][:] = np.nan
    out = read(write_frames(tmp_path / "a.xyz", fresh))
    assert out[2].labels["forces"] is None and out[1].labels["forces"] is not None


def test_atoms_in_the_same_place_are_named(tmp_path, fresh):
    fresh[9].positions[4] = fresh[9].positions[11] + fresh[9].cell[0]
    out = read(write_frames(tmp_path / "a.xyz", fresh))
    with pytest.raises(InputError, match=r"a\.xyz, frame 9: atoms 4 and 11 are .* Å apart, in the same place"):
        make_samples(out, ELEMENTS, 4.0, torch.float64)
    with pytest.raises(InputError, match="atoms 4 and 11"):
        collect(out, 4.0)


def test_structures_in_two_sets_are_reported(tmp_path, fresh):
    """Also where labels, cell of an open frame's weights or the last digits differ; not where the field does."""
    twin, other_field = fresh[0].copy(), fresh[2].copy()
    twin.info |= {"split": "test", "REF_energy": twin.info["REF_energy"] + 1.0}
    twin.positions += 1e-9
    other_field.info |= {"split": "test", "external_field": np.array([0.0, 0.1, 0.0])}
    path = str(write_frames(tmp_path / "a.xyz", [*fresh, twin, other_field]))
    data = load_data(DataOptions(files=path, keys=KEYS, split={}, valid_fraction=0))
    assert [note for note in data.notes if "WARNING" in note] == [
        "WARNING: 1 test frames have the structure of a train frame (a.xyz, frame 0 = a.xyz, frame 11)"
    ]


def test_fingerprint_sees_structures_labels_and_weights(tmp_path, fresh):
    def spoil(change):
        content = [atoms.copy() for atoms in fresh]
        change(content[3])
        return fingerprint(read(write_frames(tmp_path / "b.xyz", content)))

    plain = fingerprint(read(write_frames(tmp_path / "a.xyz", fresh)))
    assert spoil(lambda atoms: None) == plain
    changes = (
        lambda atoms: atoms.positions.__setitem__((0, 0), 7.0),
        lambda atoms: atoms.info.__setitem__("REF_energy", 7.0),
        lambda atoms: atoms.info.pop("REF_energy"),
        lambda atoms: atoms.info.__setitem__("config_weight", 2.0),
        lambda atoms: atoms.info.__setitem__("total_charge", 1.0),
        lambda atoms: atoms.numbers.__setitem__(0, 9),
    )
    assert len({plain, *map(spoil, changes)}) == 1 + len(changes)


def test_sign_of_the_field_is_in_the_saved_configuration(tmp_path, fresh):
    config = load_config(training_file(tmp_path, write_frames(tmp_path / "a.xyz", fresh)))
    saved = config.model_dump(mode="json")["data"]["keys"]
    assert saved["electric_field"] == "external_field" and saved["external_field"] is None
