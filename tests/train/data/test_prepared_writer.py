"""Prepared sets on the disk: complete or refused, replaced whole, small in memory, and what their command says."""

import io
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from fp_potential.train.data.prepared_set import MANIFEST, PreparedSet
from fp_potential.train.data.sets import load_data
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import DataOptions
from rich.console import Console

from fp_potential.cli.main import main
from prepared_sets import CUTOFF, options_of, prepare
from training_data import KEYS, frames, training_file, write_frames


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
def test_options_that_differ_are_named(set_folder, changes, message):
    with pytest.raises(InputError, match=message):
        load_data(options_of(set_folder, **changes))


def test_options_that_may_be_left_out(set_folder, prepared_set):
    found = load_data(options_of(set_folder, split=None, keys=KEYS))
    assert len(found.test) == len(prepared_set.test) and found.train[-1].labels["stress"] is None


@pytest.fixture
def own(set_files, tmp_path):
    """A set and its files that a test may spoil."""
    for name in ("a.xyz", "b.xyz"):
        (tmp_path / name).write_text((set_files / name).read_text())
    prepare(options_of(tmp_path / "*.xyz"), CUTOFF, tmp_path / "set")
    return tmp_path / "set"


def change_manifest(set_folder, **changes):
    manifest = json.loads((set_folder / MANIFEST).read_text()) | changes
    (set_folder / MANIFEST).write_text(json.dumps(manifest))


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


def test_a_killed_preparation_is_no_set_and_can_be_repeated(set_files, tmp_path):
    output = tmp_path / "set"
    command = [sys.executable, "-c", KILLED, str(set_files / "a.xyz"), str(output)]
    options = options_of(set_files / "a.xyz", keys={"energy": "REF_energy"}, split=None, valid_fraction=0.0)
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


def test_command_writes_and_info_describes(set_files, tmp_path, capsys):
    words = ["prepare", str(set_files / "a.xyz"), str(set_files / "b.xyz"), "--output", str(tmp_path / "set")]
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


def test_progress_is_shown_on_a_terminal(set_files, tmp_path):
    screen = io.StringIO()
    prepare(
        options_of(set_files / "*.xyz"), CUTOFF, tmp_path / "set", console=Console(file=screen, force_terminal=True)
    )
    for title in ("hashes of the files", "writing frames", "statistics of the train frames"):
        assert title in screen.getvalue()


def test_command_with_a_training_file(set_files, tmp_path, capsys):
    config = training_file(tmp_path, set_files / "a.xyz")
    assert main(["prepare", str(config), "model.r_max=4.0", "--output", str(tmp_path / "set")]) == 0
    assert PreparedSet(tmp_path / "set").cutoff == 4.0
    assert main(["prepare", str(config), str(set_files / "b.xyz"), "--output", str(tmp_path / "other")]) == 2
    assert "either one training file or data files" in capsys.readouterr().err
