"""Prepared sets: the same frames, samples and runs as from the files, from the disk, complete or refused."""

import csv
import functools
import io
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from fp_potential.train.data.frame_sequence import FrameSequence, fingerprint
from fp_potential.train.data.prepared_set import MANIFEST, PreparedSet
from fp_potential.train.data.prepared_writer import prepare as write_set
from fp_potential.train.data.read import read_frames
from fp_potential.train.data.sets import load_data
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import DataOptions, load_config
from fp_potential.train.potential.samples import batches, make_samples, rebuilt_lists, sizes
from fp_potential.train.potential.statistics import collect
from fp_potential.train.run import train
from rich.console import Console

from fp_potential.cli.main import main
from structures import ELEMENTS
from training_data import KEYS, frames, training_file, write_frames

CUTOFF = 3.5

prepare = functools.partial(write_set, collect=collect)


@pytest.fixture(scope="module")
def content():
    """Frames with missing labels, weights, charges, a kind and a set of their own."""
    out = frames()
    out[1].info["config_forces_weight"] = 0.25
    out[2].info["config_atomic_multipoles_weight"] = [1.0, 0.5, 0.0, 2.0]
    out[3].info |= {"config_dipole_weight": [1.0, 2.0, 0.0], "config_weight": 5.0}
    del out[4].info["REF_energy"], out[4].info["total_charge"], out[4].info["external_field"]
    out[5].info["split"] = "held back"
    out[9].info["REF_stress"] = np.arange(9.0)
    return out


@pytest.fixture(scope="module")
def files(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("files")
    write_frames(folder / "a.xyz", content[:5])
    write_frames(folder / "b.xyz", content[5:])
    return folder


def options_of(*names, **changes):
    keys = KEYS | {"stress": "REF_stress"}
    content = {"files": [str(name) for name in names], "keys": keys, "split": {"key": "split"}, "valid_fraction": 0.3}
    return DataOptions(**content | changes)


@pytest.fixture(scope="module")
def plain(files):
    return load_data(options_of(files / "*.xyz"))


@pytest.fixture(scope="module")
def folder(files, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared") / "set"
    prepare(options_of(files / "*.xyz"), CUTOFF, output)
    return output


@pytest.fixture(scope="module")
def prepared(folder):
    return load_data(options_of(folder))


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


def test_sets_are_those_of_the_files(plain, prepared):
    for name in ("train", "valid", "test"):
        assert isinstance(getattr(prepared, name), FrameSequence)
        assert_same_frames(getattr(prepared, name), getattr(plain, name))
    assert fingerprint(prepared.train, prepared.valid) == fingerprint(plain.train, plain.valid)
    assert len(plain.valid) == 2 and plain.train[0].atoms.info["split"] == prepared.train[0].atoms.info["split"]
    assert [note.removeprefix("set: ") for note in prepared.notes] == plain.notes
    assert any("1 of 5 training frames have no energy" in note for note in plain.notes)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_samples_and_batches_are_those_of_the_files(plain, prepared, dtype):
    for name in ("train", "valid", "test"):
        expected = make_samples(getattr(plain, name), ELEMENTS, CUTOFF, dtype)
        found = make_samples(getattr(prepared, name), ELEMENTS, CUTOFF, dtype)
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


def test_statistics_are_those_of_the_files(plain, prepared, folder):
    expected = collect(plain.train, CUTOFF)
    assert collect(prepared.train, CUTOFF) == expected
    stored = json.loads((folder / MANIFEST).read_text())["statistics"]
    assert stored["train"] == json.loads(json.dumps(expected.as_dict()))
    assert stored["test"] == json.loads(json.dumps(collect(plain.test, CUTOFF).as_dict()))


def test_stored_statistics_are_used_only_for_what_they_are_of(plain, prepared, folder, monkeypatch):
    """Not with another cutoff, other frames, fewer labels or labels without weight."""
    counted = []
    original = PreparedSet.__getitem__
    monkeypatch.setattr(PreparedSet, "__getitem__", lambda self, index: counted.append(index) or original(self, index))

    def read(data, cutoff=CUTOFF):
        counted.clear()
        found = collect(data, cutoff)
        return found, len(counted)

    assert read(prepared.train)[1] == 0
    assert read(prepared.train, 3.0)[0] == collect(plain.train, 3.0) and len(counted) == 5
    assert read(prepared.train[1:])[0] == collect(plain.train[1:], CUTOFF) and len(counted) == 4
    keys = {name: key for name, key in KEYS.items() if name != "energy"}
    found, number = read(load_data(options_of(folder, keys=keys)).train)
    assert number == 5 and "energy" not in found.labels and not found.energies
    for factor, expected in ((2.0, 0), (0.0, 5)):
        data = load_data(options_of(folder, kind_weights={"box": {"fermi_level": factor}}))
        assert read(data.train)[1] == expected
        files = load_data(options_of(*prepared_sources(folder), kind_weights={"box": {"fermi_level": factor}}))
        assert collect(files.train, CUTOFF) == collect(data.train, CUTOFF)


def prepared_sources(folder):
    return [source["path"] for source in json.loads((folder / MANIFEST).read_text())["sources"]]


def test_weights_of_kinds(files, folder):
    factors = {"cluster": {"energy": 4.0, "dipole": 0.0}, "box": {"atomic_multipoles": 0.5}}
    expected = load_data(options_of(files / "*.xyz", kind_weights=factors))
    found = load_data(options_of(folder, kind_weights=factors))
    for name in ("train", "valid", "test"):
        assert_same_frames(getattr(found, name), getattr(expected, name))
    with pytest.raises(InputError, match="no training frame is of kind 'clusters'; kinds: box, cluster"):
        load_data(options_of(folder, kind_weights={"clusters": {"energy": 2.0}}))


def test_validation_frames_may_be_chosen_later(files, tmp_path):
    prepare(options_of(files / "*.xyz", valid_fraction=0.0), CUTOFF, tmp_path / "set")
    for fraction, seed in ((0.3, 4), (0.5, 2)):
        changes = {"valid_fraction": fraction, "valid_seed": seed}
        expected = load_data(options_of(files / "*.xyz", **changes))
        found = load_data(options_of(tmp_path / "set", **changes))
        assert_same_frames(found.train, expected.train)
        assert_same_frames(found.valid, expected.valid)
        assert collect(found.train, CUTOFF) == collect(expected.train, CUTOFF)


def test_files_of_validation_and_test_frames(files, tmp_path):
    names = [str(files / "b.xyz")]
    sets = {"valid_files": names, "test_files": names, "split": None, "keys": KEYS}
    expected = load_data(options_of(files / "a.xyz", **sets))
    prepare(options_of(files / "a.xyz", **sets), CUTOFF, tmp_path / "set")
    found = load_data(options_of(tmp_path / "set", split=None, keys=KEYS))
    for name in ("train", "valid", "test"):
        assert_same_frames(getattr(found, name), getattr(expected, name))
    assert any("6 test frames have the structure of a valid frame" in note for note in found.notes)
    with pytest.raises(InputError, match=r"set already holds the frames of .*b\.xyz: name only one of them"):
        load_data(options_of(tmp_path / "set", **sets))


def test_prepared_sets_and_files_together(files, tmp_path):
    prepare(options_of(files / "a.xyz", keys=KEYS), CUTOFF, tmp_path / "one", console=Console(file=io.StringIO()))
    prepare(options_of(files / "a.xyz", keys=KEYS, split=None, valid_fraction=0.0), CUTOFF, tmp_path / "all")
    options = options_of(tmp_path / "one", files / "b.xyz", keys=KEYS, test_files=[str(tmp_path / "all")])
    data = load_data(options)
    sources = [[frame.source for frame in getattr(data, name)] for name in ("train", "valid", "test")]
    one = load_data(options_of(files / "a.xyz", keys=KEYS))
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


def test_frames_for_evaluation(files, folder):
    options = options_of(folder)
    expected = [
        frame for frame in read_frames([str(files / "*.xyz")], options.keys) if frame.atoms.info["split"] != "held back"
    ]
    found = read_frames([str(folder)], options.keys)
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


def test_another_cutoff_makes_lists_anew_and_says_so(plain, prepared, folder):
    found = make_samples(prepared.train, ELEMENTS, 3.0, torch.float64)
    for one, other in zip(found, make_samples(plain.train, ELEMENTS, 3.0, torch.float64), strict=True):
        assert_same_tensors(one, other)
    np.testing.assert_array_equal(sizes(found).edges, [sample.graph.edge_index.shape[1] for sample in found])
    assert rebuilt_lists([found, make_samples(prepared.valid, ELEMENTS, 3.0, torch.float64)]) == [
        f"{folder}: prepared with neighbour lists for 3.5 Å, model.r_max is 3 Å: they are made anew for every batch; "
        "fixedpoint prepare with this training file and --overwrite stores them"
    ]
    assert rebuilt_lists([make_samples(prepared.train, ELEMENTS, CUTOFF, torch.float64)]) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keys": KEYS | {"energy": "dft_energy"}}, r"prepared with data.keys.energy: REF_energy, .* has dft_energy"),
        (
            {"keys": KEYS | {"electric_field": None, "external_field": "external_field"}},
            "data.keys.external_field: None",
        ),
        ({"keys": KEYS | {"total_charge": None}}, "data.keys.total_charge: total_charge, the training file has None"),
        ({"split": {"key": "set"}}, "its sets were made with data.split: {'key': 'split', .* leave data.split out"),
        ({"units": {"energy": "Ha"}}, "leave data.units out"),
    ],
)
def test_options_that_differ_are_named(folder, changes, message):
    with pytest.raises(InputError, match=message):
        load_data(options_of(folder, **changes))


def test_options_that_may_be_left_out(folder, prepared):
    found = load_data(options_of(folder, split=None, keys=KEYS))
    assert len(found.test) == len(prepared.test) and found.train[-1].labels["stress"] is None


@pytest.fixture
def own(files, tmp_path):
    """A set and its files that a test may spoil."""
    for name in ("a.xyz", "b.xyz"):
        (tmp_path / name).write_text((files / name).read_text())
    prepare(options_of(tmp_path / "*.xyz"), CUTOFF, tmp_path / "set")
    return tmp_path / "set"


def change_manifest(folder, **changes):
    manifest = json.loads((folder / MANIFEST).read_text()) | changes
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda own: (own / MANIFEST).unlink(),
            "a folder without manifest.json, no prepared set; name files, or write",
        ),
        (lambda own: (own / MANIFEST).write_text("{"), "not readable"),
        (lambda own: (own / MANIFEST).write_text("[]"), "not the manifest of a prepared set"),
        (lambda own: change_manifest(own, format="other"), "not the manifest of a prepared set"),
        (lambda own: change_manifest(own, version=99), "version 99, this one reads 1"),
        (lambda own: (own / "edges.bin").unlink(), "edges.bin: is missing; the prepared set is damaged"),
        (lambda own: os.truncate(own / "atoms.bin", 100), "atoms.bin: has 100 bytes, expected"),
    ],
)
def test_damaged_and_foreign_folders_are_refused(own, spoil, message):
    spoil(own)
    with pytest.raises(InputError, match=message):
        load_data(options_of(own))


def test_changed_files_make_a_set_stale(own):
    source = own.parent / "a.xyz"
    text = source.read_text()
    os.utime(source, ns=(1, 1))
    assert len(load_data(options_of(own)).train) == 5  # the same content is the same data
    for changed in (text + text, text.replace("split=train", "split=xrain", 1)):
        source.write_text(changed)
        with pytest.raises(InputError, match=r"a\.xyz has changed since the set was prepared; run .* --overwrite"):
            load_data(options_of(own))
    source.unlink()
    assert len(load_data(options_of(own)).train) == 5


def test_output_is_replaced_only_if_it_is_a_prepared_set(own):
    options = options_of(own.parent / "a.xyz", keys=KEYS)
    with pytest.raises(InputError, match="set exists; choose another --output, or --overwrite"):
        prepare(options, CUTOFF, own)
    prepare(options, CUTOFF, own, overwrite=True)
    assert len(PreparedSet(own)) == 5
    other = own.parent / "other"
    other.mkdir()
    (other / "thesis.tex").touch()
    with pytest.raises(InputError, match="exists and is no prepared set; --overwrite replaces nothing else"):
        prepare(options, CUTOFF, other, overwrite=True)
    assert (other / "thesis.tex").exists()
    with pytest.raises(InputError, match="set: a folder; fixedpoint prepare reads files"):
        prepare(options_of(own), CUTOFF, own.parent / "again")
    assert sorted(path.name for path in own.parent.iterdir()) == ["a.xyz", "b.xyz", "other", "set"]


def test_bad_data_leave_nothing_behind_and_the_old_set_untouched(own):
    before = {path.name: path.read_bytes() for path in own.iterdir()}
    source = own.parent / "bad.xyz"
    bad = frames()[:2]
    bad[1].arrays["REF_forces"][0, 0] = np.inf
    write_frames(source, bad)
    for output in (own, own.parent / "new"):
        with pytest.raises(InputError, match=r"bad\.xyz, frame 1: 'REF_forces' is not finite"):
            prepare(options_of(source, keys=KEYS), CUTOFF, output, overwrite=True)
    assert {path.name: path.read_bytes() for path in own.iterdir()} == before
    assert sorted(path.name for path in own.parent.iterdir()) == ["a.xyz", "b.xyz", "bad.xyz", "set"]


KILLED = """
import sys
from fp_potential.train.data.options import DataOptions
from fp_potential.train.data.prepared_writer import _Writer, prepare
from fp_potential.train.potential.statistics import collect
add = _Writer.add
def slow(self, *arguments):
    add(self, *arguments)
    for file in self.files.values():
        file.flush()
    print("written", flush=True)
    sys.stdin.readline()
_Writer.add = slow
options = DataOptions(files=[sys.argv[1]], keys={"energy": "REF_energy"}, valid_fraction=0.0)
prepare(options, 3.5, sys.argv[2], collect)
"""


def test_a_killed_preparation_is_no_set_and_can_be_repeated(files, tmp_path):
    output = tmp_path / "set"
    command = [sys.executable, "-c", KILLED, str(files / "a.xyz"), str(output)]
    options = options_of(files / "a.xyz", keys={"energy": "REF_energy"}, split=None, valid_fraction=0.0)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        for _ in range(2):
            assert process.stdout.readline() == "written\n"
            process.stdin.write("\n")
            process.stdin.flush()
        with pytest.raises(InputError, match="another fixedpoint prepare is writing"):
            prepare(options, CUTOFF, output)
        process.send_signal(signal.SIGKILL)
    assert not output.exists()
    incomplete = tmp_path / "set.incomplete"
    assert incomplete.is_dir()
    with pytest.raises(InputError, match="a folder without manifest"):
        load_data(options_of(incomplete))
    prepare(options, CUTOFF, output)
    assert len(PreparedSet(output)) == 5 and not incomplete.exists()


MEASURED = """
import sys
import torch
from fp_potential.train.data.options import DataOptions
from fp_potential.train.potential.samples import batches, make_samples
from fp_potential.train.data.frame_sequence import fingerprint
from fp_potential.train.data.sets import load_data
from fp_potential.train.potential.statistics import collect

def peak():
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))

def grown(work):
    before = peak()
    work()
    return peak() - before

small, large = (DataOptions(files=[name], keys={"energy": "energy", "forces": "forces"}) for name in sys.argv[1:])

def use(options):
    data = load_data(options)
    fingerprint(data.train, data.valid)
    samples = make_samples(data.train, collect(data.train, 5.0).numbers(), 5.0, torch.float64)
    for batch in batches(samples, 8, seed=1, group_by_size=True):
        batch.labels.forces.sum()

grown(lambda: use(small))
print(grown(lambda: use(large)))
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """1500 frames of 40 atoms, and 100 of them, as extended XYZ."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    lines = []
    for _ in range(1500):
        lines += ["40", f"Properties=species:S:1:pos:R:3:forces:R:3 energy={rng.normal():.6f} pbc=F"]
        places = np.indices((4, 5, 2)).reshape(3, -1).T * 2.0 + rng.uniform(-0.5, 0.5, (40, 3))
        lines += [f"O {x:.5f} {y:.5f} {z:.5f} 0 0 0.1" for x, y, z in places]
    (folder / "large.xyz").write_text("\n".join(lines) + "\n")
    (folder / "small.xyz").write_text("\n".join(lines[: 42 * 100]) + "\n")
    for name in ("small", "large"):
        options = DataOptions(files=[str(folder / f"{name}.xyz")], keys={"energy": "energy", "forces": "forces"})
        prepare(options, 5.0, folder / name)
    return folder


def memory_growth(*names):
    command = [sys.executable, "-c", MEASURED, *map(str, names)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, cwd=names[0].parent).stdout)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_set(many):
    """An epoch over fifteen times as many frames: read from the disk, they need less than a fifth of the set's size."""
    on_disk = sum(path.stat().st_size for path in (many / "large").iterdir())
    assert memory_growth(many / "small", many / "large") < on_disk / 5
    assert memory_growth(many / "small.xyz", many / "large.xyz") > 3 * on_disk


def test_command_writes_and_info_describes(files, tmp_path, capsys):
    words = ["prepare", str(files / "a.xyz"), str(files / "b.xyz"), "--output", str(tmp_path / "set")]
    words += [f"--key={name}={key}" for name, key in KEYS.items()]
    assert main(words) == 2 and "--cutoff None: data files need a cutoff above zero" in capsys.readouterr().err
    assert main([*words, "--cutoff", "4.5", "data.split.key=split", "data.valid_fraction=0"]) == 0
    shown = capsys.readouterr().out
    assert "cutoff: 4.5 Å" in shown and "frames: 7" in shown and "kinds: cluster 5, box 2" in shown
    assert f"next: data.files: [{tmp_path / 'set'}]" in shown
    assert main(["info", str(tmp_path / "set")]) == 0
    assert capsys.readouterr().out in shown
    assert main(["info", "--json", str(tmp_path / "set")]) == 0
    assert json.loads(capsys.readouterr().out)["keys"] == KEYS
    assert main([*words, "--cutoff", "4.5"]) == 2 and "exists; choose another --output" in capsys.readouterr().err


def test_progress_is_shown_on_a_terminal(files, tmp_path):
    screen = io.StringIO()
    prepare(options_of(files / "*.xyz"), CUTOFF, tmp_path / "set", console=Console(file=screen, force_terminal=True))
    for title in ("hashes of the files", "writing frames", "statistics of the train frames"):
        assert title in screen.getvalue()


def test_command_with_a_training_file(files, tmp_path, capsys):
    config = training_file(tmp_path, files / "a.xyz")
    assert main(["prepare", str(config), "model.r_max=4.0", "--output", str(tmp_path / "set")]) == 0
    assert PreparedSet(tmp_path / "set").cutoff == 4.0
    assert main(["prepare", str(config), str(files / "b.xyz"), "--output", str(tmp_path / "other")]) == 2
    assert "either one training file or data files" in capsys.readouterr().err
