"""Archives that are damaged, edited or of others: refused before anything of them runs, and described without that."""

import json
import random
import re
import zipfile
from pathlib import Path

import pytest
import torch

from archives import altered, edited, flipped, largest
from fp_potential.archive import CHECKSUMS_FILE, METADATA_FILE, seal
from fp_potential.calculator import FixedPointCalculator
from fp_potential.cli.main import main
from fp_potential.export import load_model, read_metadata
from structures import water_cluster


@pytest.fixture(scope="module")
def archive(archive_of):
    return archive_of()


def record(path: Path, ending: str) -> zipfile.ZipInfo:
    with zipfile.ZipFile(path) as content:
        return next(item for item in content.infolist() if item.filename.endswith(ending))


@pytest.mark.parametrize("sealed", [True, False])
def test_flipped_bytes_in_the_weights(archive, tmp_path, sealed, capsys) -> None:
    """Also in archives without checksums: the sums of the zip file see accidents."""
    source = archive if sealed else edited(archive, tmp_path / "old.pt", sealed=False)
    item = largest(source)
    bad = flipped(source, tmp_path / "bad.pt", item.header_offset + 200, 100)
    name = item.filename.split("/", 1)[1]
    said = rf"checksums of 1 records differ \({name}\)" if sealed else f"it is damaged .*{name}"
    for use in (load_model, read_metadata, FixedPointCalculator):
        with pytest.raises(ValueError, match=said):
            use(bad)
    for words in (["scf", str(bad), "x.xyz"], ["eval", str(bad), "x.xyz"]):
        assert main(words) == 2
        assert re.search(said, capsys.readouterr().err)


def test_damage_anywhere_is_noticed(archive, tmp_path) -> None:
    """Bytes of the contents, of the names and of the zip file's own tables, and files that end too early."""
    size, rng = archive.stat().st_size, random.Random(1)
    places = [rng.randrange(size) for _ in range(40)] + [size - 1 - 8 * k for k in range(10)]
    unnoticed = []
    for place in places:
        bad = flipped(archive, tmp_path / "bad.pt", place, 16)
        try:
            read_metadata(bad)
            unnoticed.append(place)
        except ValueError as error:
            assert str(bad) in str(error)
    # fields of the zip format that mean nothing to the contents, as times and attributes
    good = json.dumps(read_metadata(archive))
    assert len(unnoticed) <= 5
    for place in unnoticed:
        assert json.dumps(read_metadata(flipped(archive, tmp_path / "bad.pt", place, 16))) == good
    for part in (0.0, 0.3, 0.9, 0.999):
        (tmp_path / "short.pt").write_bytes(archive.read_bytes()[: int(part * size)])
        with pytest.raises(ValueError, match=r"not a TorchScript model, or it is damaged|not a zip"):
            load_model(tmp_path / "short.pt")


def test_records_taken_away_and_added(archive, tmp_path) -> None:
    name = largest(archive).filename.split("/", 1)[1]
    altered(archive, tmp_path / "other.pt", {name: None, "code/more.py": b"x = 1"})
    with pytest.raises(ValueError, match=r"2 records differ \(code/more.py, data/"):
        load_model(tmp_path / "other.pt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cutoff": 9.0}, r"its metadata say cutoff = 9.0, its module has 4.0"),
        ({"cutoff": -1}, r"metadata have cutoff = -1, expected a positive number"),
        ({"cutoff": "4.0"}, r"cutoff = '4.0', expected a positive number"),
        ({"cutoff": None}, r"cutoff = None, expected a positive number"),
        ({"elements": ["H", "O", "Cl", "Na"]}, r"say elements = \['H', 'O', 'Cl', 'Na'\], its module has \[1, 8, 11"),
        ({"elements": ["H", "O", "Na"]}, r"its metadata say elements"),
        ({"elements": ["H", "O", "Na", "Xx"]}, r"elements = .*'Xx'\], expected different chemical symbols"),
        ({"elements": ["H", "H", "Na", "Cl"]}, r"expected different chemical symbols"),
        ({"dtype": "float32"}, r"say dtype = float32, its module has float64"),
        ({"dtype": "float16"}, r"dtype = 'float16', expected float64 or float32"),
        ({"num_interactions": 7}, r"say num_interactions = 7, its module has 2"),
        ({"comm_width": 3}, r"say comm_width = 3, its module has"),
        ({"fermi_level_offset": 1.0}, r"say fermi_level_offset = 1.0, its module has -2.0"),
        ({"scf": {"history": 5}}, r"say scf.history = 5, its module has 80"),
        ({"scf": {"num_scf_steps": 0}}, r"damaged or were edited: `scf.num_scf_steps` is 0"),
        ({"scf": {"steps": 5}}, r"`scf.steps` does not exist"),
        ({"format_version": 1}, r"format version 1, this fp_potential reads 2; export it again"),
        ({"format_version": "two"}, r"has no format version"),
    ],
)
def test_edited_metadata(archive, tmp_path, changes, message) -> None:
    """Somebody who makes the checksums fit again is found by the module, as in archives that have none."""
    path = edited(archive, tmp_path / "edited.pt", **changes)
    with pytest.raises(ValueError, match=message) as raised:
        FixedPointCalculator(path)
    assert str(path) in str(raised.value)


def test_edited_metadata_are_found_by_their_checksum(archive, tmp_path) -> None:
    text = json.dumps(read_metadata(archive)).replace('"eV"', '"Ry"').encode()
    path = altered(archive, tmp_path / "model.pt", {f"extra/{METADATA_FILE}": text})
    with pytest.raises(
        ValueError, match=r"checksums of 1 records differ \(extra/metadata.json\); it is damaged or was ed"
    ):
        load_model(path)


def test_archive_without_checksums_is_used_with_a_word(archive, tmp_path, capsys) -> None:
    path = edited(archive, tmp_path / "old.pt", sealed=False)
    with pytest.warns(UserWarning, match="old.pt carries no checksums, as it was exported by an earlier version"):
        calculator = FixedPointCalculator(path, total_charge=0.0)
    same = FixedPointCalculator(archive, total_charge=0.0)
    assert calculator.get_potential_energy(water_cluster(1)) == same.get_potential_energy(water_cluster(1))
    assert main(["info", str(path)]) == 0
    assert "checksums: none, exported by an earlier version" in capsys.readouterr().out


def test_checksums_are_those_of_sha256sum(archive, tmp_path) -> None:
    """So that another program can check them."""
    import shutil
    import subprocess

    with zipfile.ZipFile(archive) as content:
        content.extractall(tmp_path)
    folder = next(tmp_path.iterdir())
    program = shutil.which("sha256sum")
    if program is None:
        pytest.skip("no sha256sum")
    done = subprocess.run([program, "--check", "--strict", f"extra/{CHECKSUMS_FILE}"], cwd=folder, capture_output=True)
    assert done.returncode == 0, done.stderr


class Stranger(torch.nn.Module):
    """Somebody else's scripted model, whose code runs when it is loaded, and when it is called."""

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("called")

    @torch.jit.export
    def __getstate__(self) -> int:
        return 1

    @torch.jit.export
    def __setstate__(self, state: int) -> None:
        raise RuntimeError("run while it was loaded")


class Quiet(torch.nn.Module):
    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("called")


@pytest.mark.parametrize(
    ("stranger", "message"),
    [(Quiet, r"its module is another program's: its forward lacks the arguments species, .* the unknown ones none"),
     (Stranger, "is not a TorchScript model that this torch can load")],
)  # fmt: skip
def test_strangers_are_not_called(archive, tmp_path, stranger, message, capsys) -> None:
    """With metadata of this package; `info` describes them without loading them."""
    text = json.dumps(read_metadata(archive))
    torch.jit.save(torch.jit.script(stranger()), str(tmp_path / "raw.pt"), _extra_files={METADATA_FILE: text})
    seal(tmp_path / "raw.pt", tmp_path / "model.pt")
    with pytest.raises(ValueError, match=message):
        FixedPointCalculator(tmp_path / "model.pt")
    assert main(["info", str(tmp_path / "model.pt")]) == 0
    assert "checksums: as it was exported" in capsys.readouterr().out


def test_info_of_a_damaged_archive(archive, tmp_path, capsys) -> None:
    bad = flipped(archive, tmp_path / "bad.pt", largest(archive).header_offset + 200, 100)
    assert main(["info", str(bad)]) == 1
    text = capsys.readouterr().out
    assert "elements: H O Na Cl" in text and "checksums: DIFFER" in text and "altered: data/" in text


def test_file_of_torch_save_is_no_archive(tmp_path) -> None:
    torch.save({"weights": torch.zeros(2)}, tmp_path / "latest.pt")
    with pytest.raises(
        ValueError, match=r"a file of torch.save, as checkpoints .* `fixedpoint export .*latest.pt model"
    ):
        load_model(tmp_path / "latest.pt")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_device_that_is_not_there(archive) -> None:
    with pytest.raises(ValueError, match="this torch finds no CUDA device; use 'cpu', or install a CUDA build"):
        FixedPointCalculator(archive, device="cuda")
    with pytest.raises(ValueError, match="`device` is 'gpu'; expected cpu or cuda"):
        FixedPointCalculator(archive, device="gpu")
