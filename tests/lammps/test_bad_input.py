"""Wrong input: every case ends in seconds, on every rank, with a sentence that says what is wrong and what to do."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
import torch

from fp_potential._plugin_path import directory
from fp_potential.export import export_model
from matrices import partly_slow
from refusals import SYSTEM, answers, message, script
from structures import make_model
from wrong_scripts import CASES


@pytest.fixture(scope="session")
def said(made_once, simulation_in) -> list[dict[str, str]]:
    """What each of two ranks says of every case, all of them one after the other in one process per rank."""

    def run_all(folder: Path) -> None:
        folder.mkdir()
        answers(simulation_in(folder), {name: script(**lines) for name, (lines, _) in CASES.items()}, ranks=2)

    return json.loads((made_once("refusals", run_all) / "said.json").read_text())


@pytest.mark.parametrize("name", list(CASES))
def test_refused_by_name_on_every_rank(said, name):
    """As an exception of the library, after which the same process goes on."""
    assert len(said) == 2
    for answer in said:
        assert re.search(CASES[name][1], message(answer[name]["text"])), answer[name]


#: a case per command and per stage of a run; the others alone take minutes
ALONE = ("unknown element", "charge and level", "newton off", "not converged")


@pytest.mark.parametrize("name", partly_slow(CASES, lambda name: name in ALONE))
def test_refused_by_name(box, name):
    """The program ends with an error, on two ranks, so that a hang shows."""
    lines, expected = CASES[name]
    done = box.run_script(script(**lines), ranks=2, timeout=60)
    assert done.returncode != 0
    # mpirun may lose what a rank has said last; the log has it, too
    said = done.stdout + (box.folder / "log.lammps").read_text()
    assert re.search(expected, message(said)), said[-1500:] + done.stderr[-500:]


def test_special_bonds(box):
    text = """
units metal
atom_style bond
special_bonds lj/coul {factors}
region box block 0 7 0 7 0 7
create_box 1 box bond/types 1 extra/bond/per/atom 2 extra/special/per/atom 4
create_atoms 1 single 1 1 1
create_atoms 1 single 1 1 2
mass 1 16
bond_style zero
bond_coeff *
create_bonds single/bond 1 1 2
pair_style fixedpoint charge 0
pair_coeff * * model.pt O
run 0
"""
    done = box.run_script(text.format(factors="0 0 0"), ranks=2, timeout=60)
    assert done.returncode != 0
    assert "special_bonds lj/coul 1.0 1.0 1.0" in message(done.stdout)
    done = box.run_script(text.format(factors="1 1 1"), timeout=60)
    assert done.returncode == 0, done.stdout[-1500:]


def test_not_converged_may_warn(box):
    """The run goes on, and says so."""
    lines = script(style="pair_style fixedpoint charge 0 num_scf_steps 2 on_nonconverged warn")
    done = box.run_script(lines, ranks=2, timeout=60)
    assert done.returncode == 0
    assert len(re.findall("WARNING: pair fixedpoint: SCF not converged", done.stdout)) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(box):
    done = box.run_script(script(style="pair_style fixedpoint device cuda"), ranks=2, timeout=60)
    assert done.returncode != 0
    assert re.search("finds no CUDA device; use device cpu", message(done.stdout))


def test_field_across_a_tilted_cell(box):
    """Along x, which is open, and yet not perpendicular to the periodic vector y."""
    tilted = SYSTEM.copy()
    tilted.set_cell([[9, 0, 0], [1, 7.2, 0], [0, 0, 7.4]])
    tilted.positions += [2, 0.5, 0.5]
    box.write_structure(tilted)
    lines = {"before": "boundary f p p\natom_style charge"}
    done = box.run_script(script(**lines, style="pair_style fixedpoint efield 0.1 0 0"), ranks=2, timeout=60)
    assert done.returncode != 0
    assert re.search(r"component along the periodic axis y", message(done.stdout)), done.stdout[-1500:]
    done = box.run_script(script(**lines, style="pair_style fixedpoint efield 0.072 -0.01 0"), ranks=2, timeout=60)
    assert done.returncode == 0, done.stdout[-1500:]


def test_charge_does_not_respond(box, model):
    """A model whose density ignores the field cannot take a charge."""
    import copy

    stiff = copy.deepcopy(model)
    with torch.no_grad():
        for p in stiff.solver.density_map.response.parameters():
            p.zero_()
    export_model(stiff, box.folder / "stiff.pt")
    done = box.run_script(script(coeff="pair_coeff * * stiff.pt O Na H Cl"), ranks=2, timeout=60)
    assert done.returncode != 0
    assert re.search(r"charge does not respond to the Fermi level at step 0", message(done.stdout))


def test_no_fermi_level_to_hold(box):
    """A model in which nothing conducts, on two ranks; at constant charge the level is no number."""
    insulator = make_model(2, fixedpoint_update_config={"type": "SplitChargeUpdate", "metallic": "none"})
    export_model(insulator, box.folder / "insulator.pt")
    coeff = "pair_coeff * * insulator.pt O Na H Cl"
    lines = script(style="pair_style fixedpoint fermi -2.5 on_nonconverged warn", coeff=coeff)
    done = box.run_script(lines, ranks=2, timeout=60)
    assert done.returncode != 0
    assert "no atom conducts at step 0, so there is no Fermi level to hold at -2.5 V" in message(done.stdout)
    after = 'compute m all pair fixedpoint\nrun 0\nvariable mu equal c_m[5]\nprint "level ${mu}"'
    done = box.run_script(script(coeff=coeff) + after, timeout=60)
    assert done.returncode == 0, done.stdout[-1500:]
    assert re.search("^level -?nan", done.stdout, re.M)


PYTHON_RUN = """
import sys
import numpy as np
from mpi4py import MPI
from fp_potential.lammps import open_instance

lines = open("in.lammps").read().splitlines()
with open_instance() as lmp:
    try:
        lmp.commands_list([*lines[:-1], "pair_coeff * * nothing.pt O Na H Cl"])
        raise SystemExit("no error")
    except Exception as e:
        assert "cannot read the model file nothing.pt" in str(e), e
    lmp.command("clear")
    lmp.commands_list(lines)
    before = lmp.get_thermo("pe")
    x = lmp.numpy.extract_atom("x")
    ids = lmp.numpy.extract_atom("id")
    for row, tag in zip(x[: lmp.extract_setting("nlocal")], ids):
        if tag == 2:
            row[0] = np.nan
    lmp.command("fix move all nve")
    try:
        lmp.command("run 1 pre no post no")
        raise SystemExit("no error")
    except Exception as e:
        assert "position of atom 2 is not finite" in str(e), e
    lmp.command("clear")
    lmp.commands_list(lines)
    assert abs(lmp.get_thermo("pe") - before) < 1e-9
print("reached the end", flush=True)
"""


@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_errors_do_not_end_python(box, tools, ranks):
    """An agreed error is an exception on every rank, after which the same instance works again."""
    (box.folder / "in.lammps").write_text(script())
    (box.folder / "run.py").write_text(PYTHON_RUN)
    done = tools.run(
        [str(tools.scripts / "mpirun"), "-n", str(ranks), sys.executable, "-m", "mpi4py", "run.py"], box.folder, 120
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    assert done.stdout.count("reached the end") == ranks


def test_plugin_path_of_the_environment():
    """The tests use the plugin of this installation, which `import lammps` enters, not one of the environment."""
    assert set(os.environ.get("LAMMPS_PLUGIN_PATH", "").split(":")) <= {"", directory()}
