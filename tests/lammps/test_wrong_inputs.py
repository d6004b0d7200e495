"""A campaign of wrong inputs to LAMMPS, the calculator and the commands.

Each ends within `LIMIT`, with a failure and without a signal, and names its cause. On two ranks are those of
`test_bad_input` and every second of `SCRIPTS`.
"""

from __future__ import annotations

import io
import json
import re
import sys
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from ase.io import write

import figures
from fp_potential.cli.main import main
from refusals import answers, message, script
from training_files import EXAMPLE
from wrong_inputs import CALCULATIONS, COMMANDS, HELIUM, SCRIPTS, WATER
from wrong_scripts import CASES

#: seconds, of the processor where inputs share a process
LIMIT = 30.0

ON_ONE_RANK = {**CASES, **SCRIPTS}
ON_TWO_RANKS = {name: SCRIPTS[name] for name in list(SCRIPTS)[::2]}


def _clean(name: str, said: str, expected: str, seconds: float) -> None:
    """One more input that ended as it should."""
    assert re.search(expected, said), f"{name}: {said[-1500:]}"
    figures.at_most("wrong inputs: seconds until the answer", seconds, LIMIT)


@pytest.fixture(scope="module")
def said(made_once, simulation_in) -> dict[int, list[dict[str, dict]]]:
    """What LAMMPS says of every script, by the number of ranks."""
    out = {}
    for ranks, cases in ((1, ON_ONE_RANK), (2, ON_TWO_RANKS)):

        def run_all(folder: Path, ranks: int = ranks, cases: dict = cases) -> None:
            folder.mkdir()
            answers(simulation_in(folder), {name: script(**lines) for name, (lines, _) in cases.items()}, ranks)

        folder = made_once(f"wrong_inputs_{ranks}", run_all)
        out[ranks] = json.loads((folder / "said.json").read_text())
    return out


def test_lammps(said):
    """Every script fails on every rank, and the process goes on to the next."""
    for ranks, cases in ((1, ON_ONE_RANK), (2, ON_TWO_RANKS)):
        assert len(said[ranks]) == ranks
        for answer in said[ranks]:
            for name, (_, expected) in cases.items():
                _clean(name, message(answer[name]["text"]), expected, answer[name]["seconds"])
    figures.at_least("wrong inputs: scripts of LAMMPS on one rank, all clean", len(ON_ONE_RANK), 90)
    figures.at_least("wrong inputs: scripts of LAMMPS on two ranks, all clean", len(CASES) + len(ON_TWO_RANKS), 50)


def test_calculator(model_file):
    for name, (calculate, kind, expected) in CALCULATIONS.items():
        began = time.process_time()
        with warnings.catch_warnings(), pytest.raises(kind) as raised:
            warnings.simplefilter("ignore")
            calculate(str(model_file))
        assert isinstance(raised.value, Exception)
        _clean(name, f"{type(raised.value).__name__}: {raised.value}", expected, time.process_time() - began)
    figures.at_least("wrong inputs: of the calculator, all clean", len(CALCULATIONS), 18)


@pytest.fixture
def files(model_file, tmp_path, monkeypatch) -> dict[str, str]:
    """Files that commands of `COMMANDS` name, in the folder in which they run."""
    monkeypatch.chdir(tmp_path)
    write("water.xyz", WATER)
    write("helium.xyz", HELIUM)
    Path("train.yaml").write_text(EXAMPLE)
    return {"model": str(model_file), "xyz": "water.xyz", "helium": "helium.xyz", "yaml": "train.yaml"}


def test_commands(files):
    for name, (words, expected) in COMMANDS.items():
        began, out = time.process_time(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(out), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                status = main([word.format(**files) for word in words])
            except SystemExit as end:  # of the parser
                status = end.code
        assert status == 2, f"{name}: {status}, {out.getvalue()}"
        _clean(name, re.sub(r"\s+", " ", out.getvalue()), expected, time.process_time() - began)
    figures.at_least("wrong inputs: of the commands, all clean", len(COMMANDS), 30)


@pytest.mark.parametrize("name", ["missing training file", "evaluation of nothing"])
def test_programs(files, tools, tmp_path, name):
    """The exit status of the program itself; those of `lmp` are in `test_bad_input`."""
    words, expected = COMMANDS[name]
    command = [sys.executable, "-m", "fp_potential.cli.main", *[word.format(**files) for word in words]]
    done = tools.run(command, tmp_path, LIMIT)
    assert done.returncode == 2
    assert re.search(expected, done.stderr)
    assert "Traceback" not in done.stderr
