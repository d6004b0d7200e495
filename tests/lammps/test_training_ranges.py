"""Simulations outside of the ranges that the archive says its training had."""

from __future__ import annotations

import re

import pytest

from archives import edited
from fp_potential.export import export_model
from refusals import SYSTEM, message, script
from structures import make_model

RANGES = {
    "charge_per_atom": [-0.02, 0.02],
    "fermi_level": [-4.0, -1.0],
    "field": 0.01,
    "distances": {"H-O": 0.7, "Na-Cl": 2.0, "Cl-Cl": 3.0},
    "density": {"H": [2.0, 2.0], "O": [2.0, 2.0], "Na": [2.0, 2.0]},
}

#: simulation, and what is said of it
OUTSIDE = {
    "charge": (
        {"style": "pair_style fixedpoint charge 5"},
        r"a total charge of 5 e on 5 atoms, 1 e per atom, at step 0, outside of the training "
        r"\(-0\.02 to 0\.02 e per atom\)",
    ),
    "charge that follows from the level": (
        {"style": "pair_style fixedpoint fermi -5.4"},
        r"a total charge of \S+ e on 5 atoms, \S+ e per atom, at step 0, outside of the training",
    ),
    "level": (
        {"style": "pair_style fixedpoint fermi 10"},
        r"a Fermi level of 10 V at step 0, outside of the training \(-4 to -1 V\)",
    ),
    "field": (
        {"before": "boundary p p f\natom_style charge", "style": "pair_style fixedpoint efield 0 0 -0.2"},
        r"a field of 0\.2 V/A at step 0, outside of the training \(at most 0\.01 V/A\)",
    ),
    "distance": (
        {"after": "set atom 4 x 0.3 y 2.6 z 0.5"},
        r"atoms (3 and 4|4 and 3) are 0\.424 A apart at step 0, outside of the training "
        r"\(at least 0\.7 A for (H-O|O-H)\)",
    ),
}


@pytest.fixture
def trained(box):
    """`box` whose model knows the ranges of its training."""
    (box.folder / "model.pt").unlink()
    edited(box.model_file, box.folder / "model.pt", training={"ranges": RANGES})
    return box


@pytest.mark.parametrize("name", list(OUTSIDE))
def test_one_warning(trained, name):
    """At the first step, on rank 0."""
    lines, expected = OUTSIDE[name]
    done = trained.run_script(script(**lines, run="fix 1 all nve\ntimestep 1e-6\nrun 2"), ranks=2, timeout=200)
    assert done.returncode == 0, done.stdout[-1500:]
    assert len(re.findall(f"WARNING: pair fixedpoint: {expected}", done.stdout)) == 1, done.stdout[-2500:]


def test_later_steps(trained):
    """The step at which it happens is named."""
    lines = {"after": "velocity all set 0 0 0\nset atom 4 x 0.8\nfix 1 all nve\nfix 2 all setforce 0 0 0"}
    push = "group h id 4\nvelocity h set -40 -50 0\ntimestep 0.002\nrun 8"
    done = trained.run_script(script(**lines, run=push), ranks=2, timeout=200)
    (found,) = re.findall(r"are (\S+) A apart at step (\d), outside of the training", done.stdout)
    assert int(found[1]) > 0 and float(found[0]) < 0.85 * 0.7


def test_charges_and_dipoles(box):
    """Of atoms, by element."""
    (box.folder / "model.pt").unlink()
    ranges = {"charge_per_atom": [0, 0], "density": {"Na": [1e-4, 9.0], "O": [9.0, 9.0]}}
    edited(box.model_file, box.folder / "model.pt", training={"ranges": ranges})
    done = box.run_script(script(style="pair_style fixedpoint charge 1"), ranks=2, timeout=200)
    assert done.returncode == 0, done.stdout[-1500:]
    warning = r"WARNING: pair fixedpoint: a charge of (\S+) e on atom 1 \(Na\) at step 0, outside .*at most 0\.0001 e"
    (charge,) = re.findall(warning, done.stdout)
    assert float(charge) > 0.1
    assert len(re.findall(r"a total charge of 1 e on 5 atoms, 0\.2 e per atom, at step 0, outside", done.stdout)) == 1


def test_error_and_ignore(trained):
    done = trained.run_script(script(style="pair_style fixedpoint charge 5 outside error"), ranks=2, timeout=200)
    assert done.returncode != 0
    assert re.search(r"charge of 5 e .*outside of the training .*outside warn goes on", message(done.stdout))
    done = trained.run_script(script(style="pair_style fixedpoint charge 5 outside ignore"), timeout=200)
    assert done.returncode == 0
    assert "outside of the training" not in done.stdout


def test_inside(trained):
    """Nothing is said; nor by an archive that knows no ranges, unless it is asked to stop."""
    for style in ("charge 0", "charge 0.15", "charge 0 outside error"):
        done = trained.run_script(script(style=f"pair_style fixedpoint {style}"), timeout=200)
        assert done.returncode == 0 and "outside of the training" not in done.stdout, done.stdout[-2000:]
    export_model(make_model(), trained.folder / "old.pt")
    lines = {"coeff": "pair_coeff * * old.pt O Na H Cl"}
    for style, said in (("charge 5", 0), ("charge 5 outside error", 1)):
        done = trained.run_script(script(style=f"pair_style fixedpoint {style}", **lines), timeout=200)
        assert done.returncode == 0
        assert len(re.findall("does not say the ranges of its training", done.stdout)) == said


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        ([1], "'training/ranges' is not a list of names"),
        ({"charge_per_atom": [1]}, "'charge_per_atom' that is not a smallest and a largest number"),
        ({"fermi_level": [2, 1]}, "'fermi_level' that is not a smallest and a largest number"),
        ({"density": {"O": [1]}}, "'density/O' that is not a largest charge and dipole"),
        ({"field": -1}, "'field' that is not a magnitude"),
        ({"distances": {"O-Xx": 1}}, "'distances/O-Xx' that is not a positive distance"),
        ({"distances": {"O-H": "far"}}, "'distances/O-H' that is not a positive distance"),
    ],
)
def test_ranges_that_are_none(box, ranges, said):
    (box.folder / "model.pt").unlink()
    edited(box.model_file, box.folder / "model.pt", training={"ranges": ranges})
    done = box.run_script(script(), timeout=200)
    assert done.returncode != 0
    assert said in message(done.stdout)


def test_system():
    """The structure itself is inside of `RANGES`."""
    distances = SYSTEM.get_all_distances(mic=True)
    symbols = SYSTEM.get_chemical_symbols()
    for pair, smallest in RANGES["distances"].items():
        one, other = pair.split("-")
        found = [distances[i, j] for i in range(5) for j in range(i) if {symbols[i], symbols[j]} == {one, other}]
        assert min(found, default=9.0) > smallest
