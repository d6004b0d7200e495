"""What both halves know, lammps_plugin/model/interface.h against Python's own, and the walls of lammps_plugin/."""

from __future__ import annotations

import ast
import copy
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from ase.data import atomic_masses, chemical_symbols
from fp_potential.train.data.neighbours import SAME_PLACE

from fp_potential import archive, export, training_ranges
from fp_potential.calculator import published_arguments as published
from fp_potential.options import ModelOptions, SCFOptions, kspace
from fp_potential.scf import status

PLUGIN = Path(__file__).parents[2] / "lammps_plugin"


def constants(source: str) -> dict[str, Any]:
    """Values of ``constexpr TYPE NAME = LITERAL;`` and, in an enumeration, of ``NAME = LITERAL``."""
    found = re.findall(r"constexpr [\w:]+ (\w+) = (.*?);", source, re.DOTALL)
    found += re.findall(r"^ +(\w+) = (\d+),?$", source, re.MULTILINE)
    assert len(found) == source.count(" = "), f"not every line is understood:\n{source}"
    return {name: ast.literal_eval(value.replace("{", "(").replace("}", ",)")) for name, value in found}


@pytest.fixture(scope="module")
def plugin() -> dict[str, dict[str, Any]]:
    """Constants by the namespace or enumeration that they are in; those of neither are under ''."""
    text = re.sub(r"//.*", "", (PLUGIN / "model" / "interface.h").read_text())
    blocks = re.compile(r"^(?:namespace|enum class) (?!fixedpoint)(\w+)[^{\n]*\{(.*?)^\}", re.MULTILINE | re.DOTALL)
    return {name: constants(body) for name, body in blocks.findall(text)} | {"": constants(blocks.sub("", text))}


def test_format(plugin):
    for name in ("FORMAT", "FORMAT_VERSION", "METADATA_FILE", "CHECKSUMS_FILE"):
        assert plugin[""][name] == getattr(archive, name)


def test_metadata(plugin, model):
    """The plugin asks for keys that the archive has, and knows the dtypes that models have."""
    metadata = export.metadata_of(model, SCFOptions())
    keys, required = set(plugin["key"].values()), {"format", "format_version", "elements", "cutoff", "dtype"}
    assert required <= keys <= set(metadata) | {"ranges"}  # which an archive may lack
    assert plugin["scf_key"] and set(plugin["scf_key"].values()) <= set(metadata["scf"])
    for dtype in plugin[""]["DTYPES"]:
        same = copy.deepcopy(model).to(getattr(torch, dtype))
        assert export.metadata_of(same, SCFOptions())["dtype"] == dtype


def test_statuses(plugin):
    assert plugin["Status"] == {name: getattr(status, name) for name in plugin["Status"]}
    documented = re.findall(r"(\d) [a-z]", export.OUTPUTS["status"].partition(":")[2])
    assert sorted(plugin["Status"].values()) == [int(number) for number in documented]


def test_choices(plugin):
    for name, options, option in (("SOLVERS", SCFOptions, "solver"), ("KSPACE_METHODS", ModelOptions, "kspace")):
        assert plugin[""][name] == get_args(options.model_fields[option].annotation)


def test_limits(plugin):
    (largest,) = [m.le for m in SCFOptions.model_fields["mixing_parameter"].metadata if hasattr(m, "le")]
    assert plugin[""]["LARGEST_MIXING"] == largest
    assert plugin[""]["LOOSEST_ACCURACY"] == kspace.LOOSEST
    assert plugin[""]["THINNEST_SLAB"] == published.THINNEST_SLAB
    assert plugin[""]["SAME_PLACE"] == SAME_PLACE
    assert plugin[""]["WIDER"] == training_ranges.WIDER
    assert plugin[""]["NEARER"] == training_ranges.NEARER
    assert set(plugin["range_key"].values()) == {*training_ranges.FLOORS, "distances"}
    floors = {plugin["range_key"][name]: floor for name, floor in plugin["range_floor"].items()}
    assert floors == training_ranges.FLOORS


def test_masses():
    """The plugin's table of elements is that of ASE."""
    source = (PLUGIN / "pair_style" / "elements.h").read_text()
    found = {symbol: float(mass) for symbol, mass in re.findall(r'\{"(\w+)", ([\d.]+)\}', source)}
    assert list(found) == chemical_symbols[1:]
    for symbol, mass in zip(chemical_symbols[1:], atomic_masses[1:], strict=True):
        assert found[symbol] == pytest.approx(mass, rel=1e-6)


@pytest.mark.parametrize(
    ("folder", "ours", "lammps", "knows_torch"),
    [
        ("kernels", ["kernels"], "", False),
        ("operators", ["operators", "kernels"], "", True),
        ("model", ["model"], "json.h", True),
        ("pair_style", ["pair_style", "model", "operators"], ".*", False),
    ],
)
def test_walls(folder, ours, lammps, knows_torch):
    """Kernels know neither torch nor LAMMPS, operators and the model not LAMMPS, the pair style not torch."""
    files = [path for path in (PLUGIN / folder).iterdir() if path.suffix in (".cpp", ".h")]
    assert files
    for path in files:
        for bracket, name in re.findall(r"^ *#include ([<\"])(.*)[>\"]", path.read_text(), re.MULTILINE):
            if bracket == "<":
                assert knows_torch or "/" not in name, f"{path} includes {name}"
            elif "/" in name:
                assert name.split("/")[0] in ours, f"{path} includes {name}"
            else:
                assert re.fullmatch(lammps, name), f"{path} includes {name}"
