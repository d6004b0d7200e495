"""Prepared sets: the same frames, samples and runs as from the files."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from fp_potential.train.data.frame_sequence import FrameSequence, fingerprint
from fp_potential.train.data.prepared_set import MANIFEST, PreparedSet
from fp_potential.train.data.read import read_frames
from fp_potential.train.data.sets import load_data
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import load_config
from fp_potential.train.potential.samples import batches, make_samples, rebuilt_lists, sizes
from fp_potential.train.potential.statistics import collect
from fp_potential.train.run import train
from rich.console import Console

from fp_potential.cli.main import main
from prepared_sets import CUTOFF, options_of, prepare
from structures import ELEMENTS
from training_data import KEYS, training_file, write_frames


@pytest.fixture(scope="module")
def plain(set_files):
    return load_data(options_of(set_files / "*.xyz"))


def assert_same_frames(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one.source, one.kind, one.total_charge) == (other.source, other.kind, other.total_charge)
        assert (one.given, one.digest) == (other.given, other.digest)
        for part in ("numbers", "positions", "pbc"):
            np.testing.assert_array_equal(getattr(one.atoms, part), getattr(other.atoms, part))
        np.testing.assert_array_equal(one.atoms.cell.array, other.atoms.cell.array)
        np.testing.assert_array_equal(one.external_field, other.external_field)
        assert one.labels.keys() == other.labels.keys()
        for name, value in other.labels.items():
            assert (one.labels[name] is None) == (value is None)
            if value is not None:
                np.testing.assert_array_equal(one.labels[name], value)
                assert np.ndim(one.weights[name]) == np.ndim(other.weights[name])
                assert np.all(one.weights[name] == other.weights[name])
        assert one.weights["structure"] == other.weights["structure"]


def assert_same_tensors(found, expected):
    for one, other in zip((*found.graph, *found.labels), (*expected.graph, *expected.labels), strict=True):
        if isinstance(other, torch.Tensor):
            assert one.dtype == other.dtype
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
        else:
            assert one == other


def test_sets_are_those_of_the_files(plain, prepared_set):
    for name in ("train", "valid", "test"):
        assert isinstance(getattr(prepared_set, name), FrameSequence)
        assert_same_frames(getattr(prepared_set, name), getattr(plain, name))
    assert fingerprint(prepared_set.train, prepared_set.valid) == fingerprint(plain.train, plain.valid)
    assert len(plain.valid) == 2 and plain.train[0].atoms.info["split"] == prepared_set.train[0].atoms.info["split"]
    assert [note.removeprefix("set: ") for note in prepared_set.notes] == plain.notes
    assert any("1 of 5 training frames have no energy" in note for note in plain.notes)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_samples_and_batches_are_those_of_the_files(plain, prepared_set, dtype):
    for name in ("train", "valid", "test"):
        expected = make_samples(getattr(plain, name), ELEMENTS, CUTOFF, dtype)
        found = make_samples(getattr(prepared_set, name), ELEMENTS, CUTOFF, dtype)
        for one, other in zip(found, expected, strict=True):
            assert_same_tensors(one, other)
            assert one.kind == other.kind
        for one, other in zip(sizes(found), sizes(expected), strict=True):
            np.testing.assert_array_equal(one, other)
        for group in (False, True):
            pairs = zip(batches(found, 2, 3, None, group), batches(expected, 2, 3, None, group), strict=True)
            for one, other in pairs:
                assert one.indices == other.indices
                assert_same_tensors(one, other)


def test_statistics_are_those_of_the_files(plain, prepared_set, set_folder):
    expected = collect(plain.train, CUTOFF)
    assert collect(prepared_set.train, CUTOFF) == expected
    stored = json.loads((set_folder / MANIFEST).read_text())["statistics"]
    assert stored["train"] == json.loads(json.dumps(expected.as_dict()))
    assert stored["test"] == json.loads(json.dumps(collect(plain.test, CUTOFF).as_dict()))


def test_stored_statistics_are_used_only_for_what_they_are_of(plain, prepared_set, set_folder, monkeypatch):
    """Not with another cutoff, other frames, fewer labels or labels without weight."""
    counted = []
    original = PreparedSet.__getitem__
    monkeypatch.setattr(PreparedSet, "__getitem__", lambda self, index: counted.append(index) or original(self, index))

    def read(data, cutoff=CUTOFF):
        counted.clear()
        found = collect(data, cutoff)
        return found, len(counted)

    assert read(prepared_set.train)[1] == 0
    assert read(prepared_set.train, 3.0)[0] == collect(plain.train, 3.0) and len(counted) == 5
    assert read(prepared_set.train[1:])[0] == collect(plain.train[1:], CUTOFF) and len(counted) == 4
    keys = {name: key for name, key in KEYS.items() if name != "energy"}
    found, number = read(load_data(options_of(set_folder, keys=keys)).train)
    assert number == 5 and "energy" not in found.labels and not found.energies
    for factor, expected in ((2.0, 0), (0.0, 5)):
        data = load_data(options_of(set_folder, kind_weights={"box": {"fermi_level": factor}}))
        assert read(data.train)[1] == expected
        files = load_data(options_of(*prepared_sources(set_folder), kind_weights={"box": {"fermi_level": factor}}))
        assert collect(files.train, CUTOFF) == collect(data.train, CUTOFF)


def prepared_sources(set_folder):
    return [source["path"] for source in json.loads((set_folder / MANIFEST).read_text())["sources"]]


def test_weights_of_kinds(set_files, set_folder):
    factors = {"cluster": {"energy": 4.0, "dipole": 0.0}, "box": {"atomic_multipoles": 0.5}}
    expected = load_data(options_of(set_files / "*.xyz", kind_weights=factors))
    found = load_data(options_of(set_folder, kind_weights=factors))
    for name in ("train", "valid", "test"):
        assert_same_frames(getattr(found, name), getattr(expected, name))
    with pytest.raises(InputError, match="no training frame is of kind 'clusters'; kinds: box, cluster"):
        load_data(options_of(set_folder, kind_weights={"clusters": {"energy": 2.0}}))


def test_validation_frames_may_be_chosen_later(set_files, tmp_path):
    prepare(options_of(set_files / "*.xyz", valid_fraction=0.0), CUTOFF, tmp_path / "set")
    for fraction, seed in ((0.3, 4), (0.5, 2)):
        changes = {"valid_fraction": fraction, "valid_seed": seed}
        expected = load_data(options_of(set_files / "*.xyz", **changes))
        found = load_data(options_of(tmp_path / "set", **changes))
        assert_same_frames(found.train, expected.train)
        assert_same_frames(found.valid, expected.valid)
        assert collect(found.train, CUTOFF) == collect(expected.train, CUTOFF)


def test_files_of_validation_and_test_frames(set_files, tmp_path):
    names = [str(set_files / "b.xyz")]
    sets = {"valid_files": names, "test_files": names, "split": None, "keys": KEYS}
    expected = load_data(options_of(set_files / "a.xyz", **sets))
    prepare(options_of(set_files / "a.xyz", **sets), CUTOFF, tmp_path / "set")
    found = load_data(options_of(tmp_path / "set", split=None, keys=KEYS))
    for name in ("train", "valid", "test"):
        assert_same_frames(getattr(found, name), getattr(expected, name))
    assert any("6 test frames have the structure of a valid frame" in note for note in found.notes)
    with pytest.raises(InputError, match=r"set already holds the frames of .*b\.xyz: name only one of them"):
        load_data(options_of(tmp_path / "set", **sets))


def test_prepared_sets_and_files_together(set_files, tmp_path):
    prepare(options_of(set_files / "a.xyz", keys=KEYS), CUTOFF, tmp_path / "one", console=Console(file=io.StringIO()))
    prepare(options_of(set_files / "a.xyz", keys=KEYS, split=None, valid_fraction=0.0), CUTOFF, tmp_path / "all")
    options = options_of(tmp_path / "one", set_files / "b.xyz", keys=KEYS, test_files=[str(tmp_path / "all")])
    data = load_data(options)
    sources = [[frame.source for frame in getattr(data, name)] for name in ("train", "valid", "test")]
    one = load_data(options_of(set_files / "a.xyz", keys=KEYS))
    assert sources[0] == [frame.source for frame in one.train] + [f"b.xyz, frame {k}" for k in (3, 4)]
    assert sources[1] == [frame.source for frame in one.valid] and sources[1]
    assert sources[2] == [f"a.xyz, frame {k}" for k in range(5)] + [f"b.xyz, frame {k}" for k in (1, 2, 5)]
    samples = make_samples(data.train, ELEMENTS, CUTOFF, torch.float64)
    again = make_samples(list(data.train), ELEMENTS, CUTOFF, torch.float64)
    for one, other in zip(samples, again, strict=True):
        assert_same_tensors(one, other)
    for one, other in zip(sizes(samples), sizes(again), strict=True):
        np.testing.assert_array_equal(one, other)
    assert collect(data.train, CUTOFF) == collect(list(data.train), CUTOFF)


def test_frames_for_evaluation(set_files, set_folder):
    options = options_of(set_folder)
    expected = [
        frame
        for frame in read_frames([str(set_files / "*.xyz")], options.keys)
        if frame.atoms.info["split"] != "held back"
    ]
    found = read_frames([str(set_folder)], options.keys)
    assert_same_frames(found, expected)
    assert [frame.atoms.info["split"] for frame in found] == [frame.atoms.info["split"] for frame in expected]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run from a file, and its repetition from the prepared set, both grouped by size."""
    folder = tmp_path_factory.mktemp("runs")
    path = write_frames(folder / "frames.xyz")
    config = training_file(folder, path)
    main(["prepare", str(config), "--output", str(folder / "set")])
    results = {}
    for name, source in (("files", path), ("set", folder / "set")):
        overrides = [f"data.files=[{source}]", f"run_dir={folder / name}", "training.group_by_size=true"]
        screen = io.StringIO()
        table = train(load_config(config, overrides), Console(file=screen, width=200))
        state = torch.load(folder / name / "checkpoints" / "latest.pt", weights_only=True)
        with open(folder / name / "log.csv", newline="", encoding="utf-8") as file:
            results[name] = (table, list(csv.DictReader(file)), state, screen.getvalue())
    return folder, config, results


def test_a_run_is_the_same_bit_for_bit(runs):
    _, _, results = runs
    (table, log, state, _), (other_table, other_log, other_state, screen) = results["files"], results["set"]
    assert table == other_table and "set: units of the data: eV, Å, e" in screen
    for one, other in zip(log, other_log, strict=True):
        assert {**one, "time [s]": ""} == {**other, "time [s]": ""}
    assert state["data"] == other_state["data"] and state["problem"] == other_state["problem"]
    for name, value in state["module"].items():
        assert torch.equal(value, other_state["module"][name]), name


def test_a_run_from_files_resumes_from_the_prepared_set(runs):
    folder, config, results = runs
    screen = io.StringIO()
    overrides = [f"data.files=[{folder / 'set'}]", f"run_dir={folder / 'files'}", "training.group_by_size=true"]
    assert train(load_config(config, overrides), Console(file=screen, width=200)) == results["files"][0]
    assert "is finished" in screen.getvalue()


def test_another_cutoff_makes_lists_anew_and_says_so(plain, prepared_set, set_folder):
    found = make_samples(prepared_set.train, ELEMENTS, 3.0, torch.float64)
    for one, other in zip(found, make_samples(plain.train, ELEMENTS, 3.0, torch.float64), strict=True):
        assert_same_tensors(one, other)
    np.testing.assert_array_equal(sizes(found).edges, [sample.graph.edge_index.shape[1] for sample in found])
    assert rebuilt_lists([found, make_samples(prepared_set.valid, ELEMENTS, 3.0, torch.float64)]) == [
        f"{set_folder}: prepared with neighbour lists for 3.5 Å, model.r_max is 3 Å: they are made anew for every "
        "batch; fixedpoint prepare with this training file and --overwrite stores them"
    ]
    assert rebuilt_lists([make_samples(prepared_set.train, ELEMENTS, CUTOFF, torch.float64)]) == []
