"""Model files that cannot be used: every case ends in seconds, on every rank, with what is wrong and what to do."""

from __future__ import annotations

import json
import re

import pytest
import torch

from archives import altered, edited, flipped, largest
from fp_potential.archive import METADATA_FILE, seal
from fp_potential.export import read_metadata
from refusals import SLAB, message, script


class Stranger(torch.nn.Module):
    """Somebody else's scripted model."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Older(torch.nn.Module):
    """A model without most of today's arguments."""

    def forward(self, positions: torch.Tensor, species: torch.Tensor, some: bool = True) -> torch.Tensor:
        return positions if some else species


@pytest.mark.parametrize(
    ("keyword", "what"),
    [("kspace mesh", "a choice of the k-space method"), ("charge 1 jellium 2 4", "a compensating jellium")],
)
def test_archive_of_an_older_version(box, keyword, what):
    """It lacks what is asked for."""
    metadata = {METADATA_FILE: ""}
    torch.jit.load(str(box.model_file), _extra_files=metadata)
    torch.jit.save(torch.jit.script(Stranger()), str(box.folder / "old.pt"), _extra_files=metadata)
    lines = {**SLAB, "style": f"pair_style fixedpoint {keyword}", "coeff": "pair_coeff * * old.pt O Na H Cl"}
    done = box.run_script(script(**lines), ranks=2, timeout=60)
    assert done.returncode != 0
    assert re.search(rf"version of fp-potential without {what}; export it again", message(done.stdout))


def test_newer_format(box):
    (box.folder / "model.pt").unlink()
    edited(box.model_file, box.folder / "model.pt", format_version=99)
    done = box.run_script(script(), ranks=2, timeout=60)
    assert done.returncode != 0
    assert re.search(r"format version 99 and this plugin reads up to 2: update fp-potential", message(done.stdout))


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (Stranger, r"takes arguments that this plugin does not know \(x\); update fp-potential"),
        (Older, r"does not take arguments that this plugin gives it \(batch, .*\); export it again"),
    ],
)
def test_other_arguments(box, module, expected):
    """The model is called by the names of its arguments, and has to have those."""
    metadata = {METADATA_FILE: ""}
    torch.jit.load(str(box.model_file), _extra_files=metadata)
    torch.jit.save(torch.jit.script(module()), str(box.folder / "other.pt"), _extra_files=metadata)
    done = box.run_script(script(coeff="pair_coeff * * other.pt O Na H Cl"), ranks=2, timeout=60)
    assert done.returncode != 0
    assert re.search(expected, message(done.stdout))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"format": "other"}, "not written by `fixedpoint export`"),
        ({"cutoff": "wide"}, "'cutoff' is not a number"),
        ({"cutoff": -4.5}, "a cutoff that is not positive"),
        ({"dtype": "float16"}, "dtype 'float16', expected float64 or float32"),
        ({"dtype": 64}, "'dtype' is not a string"),
        ({"elements": []}, "lists no elements"),
        ({"elements": [8]}, "an element that is not a chemical symbol"),
        ({"scf": {}}, "lacks the key 'num_scf_steps'"),
        ({"training": {"loss": float("nan")}}, "a number that is not finite, NaN (character "),
        ({"training": {"loss": -float("inf")}}, "a number that is not finite, -Infinity (character "),
    ],
)
def test_wrong_metadata(box, changes, expected):
    (box.folder / "model.pt").unlink()
    edited(box.model_file, box.folder / "model.pt", **changes)
    done = box.run_script(script(), timeout=60)
    assert done.returncode != 0
    assert expected in message(done.stdout)


def test_metadata_cut_off(box):
    """Half of a JSON text."""
    extra = {METADATA_FILE: ""}
    module = torch.jit.load(str(box.model_file), _extra_files=extra)
    (box.folder / "model.pt").unlink()
    torch.jit.save(module, str(box.folder / "model.pt"), _extra_files={METADATA_FILE: extra[METADATA_FILE][:100]})
    done = box.run_script(script(), timeout=60)
    assert done.returncode != 0
    assert "its metadata is not valid JSON (character 100)" in message(done.stdout)


def test_not_ours(box):
    torch.jit.save(torch.jit.script(Stranger()), str(box.folder / "stranger.pt"))
    done = box.run_script(script(coeff="pair_coeff * * stranger.pt O Na H Cl"), ranks=2, timeout=60)
    assert done.returncode != 0
    assert re.search(r"stranger\.pt: it has no metadata\.json", message(done.stdout))


def test_damaged_file(box):
    content = box.model_file.read_bytes()
    (box.folder / "half.pt").write_bytes(content[: len(content) // 2])
    done = box.run_script(script(coeff="pair_coeff * * half.pt O Na H Cl"), ranks=2, timeout=60)
    assert done.returncode != 0
    assert re.search(r"half\.pt: it is not a model archive, or it is damaged", message(done.stdout))


def with_flipped_weights(source, target):
    return flipped(source, target, largest(source).header_offset + 200, 100)


def with_other_cutoff(source, target):
    metadata = json.dumps({**read_metadata(source), "cutoff": 4.5}).encode()
    return altered(source, target, {f"extra/{METADATA_FILE}": metadata})


def without_weights(source, target):
    return altered(source, target, {largest(source).filename.split("/", 1)[1]: None})


def with_more_code(source, target):
    return altered(source, target, {"code/more.py": b"x = 1"})


@pytest.mark.parametrize(
    ("alter", "named"),
    [
        (with_flipped_weights, r"data/\d+"),
        (with_other_cutoff, r"extra/metadata\.json"),
        (without_weights, r"data/\d+"),
        (with_more_code, r"code/more\.py"),
    ],
)
def test_archive_that_is_not_as_it_was_exported(box, alter, named):
    """Its checksums differ: refused before any of its code is loaded."""
    alter(box.model_file, box.folder / "bad.pt")
    done = box.run_script(script(coeff="pair_coeff * * bad.pt O Na H Cl"), ranks=2, timeout=60)
    assert done.returncode != 0
    said = rf"bad\.pt: it is not as it was exported: the checksums of 1 records differ \({named}\); it is damaged or"
    assert re.search(said + " was edited: copy it again, or export it again", message(done.stdout)), done.stdout[-1500:]


def test_many_differences(box):
    """Three of them are named."""
    names = [f"data/{number}" for number in range(5)]
    altered(box.model_file, box.folder / "bad.pt", {name: b"other" for name in names})
    done = box.run_script(script(coeff="pair_coeff * * bad.pt O Na H Cl"), timeout=60)
    assert done.returncode != 0
    assert "checksums of 5 records differ (data/0, data/1, data/2, ...)" in message(done.stdout)


def test_checksums_of_records_of_any_length(box):
    """They are those of hashlib, of records that fill blocks and that do not."""
    records = {f"extra/{size}": bytes(range(size)) for size in range(130)}
    seal(altered(box.model_file, box.folder / "bare.pt", records), box.folder / "sealed.pt")
    done = box.run_script(script(coeff="pair_coeff * * sealed.pt O Na H Cl"), timeout=60)
    assert done.returncode == 0, done.stdout[-1500:]
    assert "checksums" not in done.stdout


def test_archive_without_checksums(box):
    """Of an earlier version: used, with one line."""
    edited(box.model_file, box.folder / "old.pt", sealed=False)
    done = box.run_script(script(coeff="pair_coeff * * old.pt O Na H Cl"), ranks=2, timeout=60)
    assert done.returncode == 0, done.stdout[-1500:]
    warning = r"WARNING: pair fixedpoint: the model file old\.pt carries no checksums, .*; export it again to have them"
    assert len(re.findall(warning, done.stdout)) == 1, done.stdout[-1500:]


def test_file_visible_on_one_rank(box, tools):
    """Rank 0 reads for all: what the others see does not matter, and without the file all of them stop."""
    elsewhere = box.folder / "elsewhere"
    elsewhere.mkdir()
    (box.folder / "in.lammps").write_text(script(data=f"read_data {box.folder / 'system.data'}"))
    lmp = str(tools.scripts / "lmp")
    places = [str(box.folder), str(elsewhere)]

    def run_in(first: str, second: str):
        part = ["-n", "1", "-wdir", first, lmp, "-in", str(box.folder / "in.lammps"), "-log", "none"]
        other = ["-n", "1", "-wdir", second, lmp, "-in", str(box.folder / "in.lammps"), "-log", "none"]
        return tools.run([str(tools.scripts / "mpirun"), *part, ":", *other], box.folder, 60)

    done = run_in(*places)
    assert done.returncode == 0, done.stdout[-1500:]
    done = run_in(*places[::-1])
    assert done.returncode != 0
    assert "cannot read the model file model.pt" in message(done.stdout)


def test_error_inside_the_model(box, tools):
    """An exception of the scripted code is a LAMMPS error with its message, without a stack trace."""
    (box.folder / "model.pt").unlink()
    edited(box.model_file, box.folder / "model.pt", scf={
        "num_scf_steps": 100, "scf_tolerance": 1e-6, "mixing_parameter": 0.25, "solver": "anderson"
    }, elements=["H", "O", "Na", "Cl", "Ar"])  # fmt: skip
    for _ in range(4):
        done = box.run_script(script(coeff="pair_coeff * * model.pt Ar Na H Cl"), ranks=2, timeout=60)
        assert done.returncode != 0
        text = message(done.stdout)
        # mpirun can lose the last line of a run that one of its ranks aborts
        if text.strip():
            break
    assert "pair fixedpoint, computing forces" in text
    assert "Traceback" not in text
