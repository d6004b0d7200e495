"""Input scripts of LAMMPS that differ in a line from a good one, and what it says of them."""

from __future__ import annotations

import json
import re
from typing import Any

from ase import Atoms

SYSTEM = Atoms(
    ["Na", "Cl", "O", "H", "H"],
    positions=[[0, 0, 0], [2.8, 0.1, 0], [0, 2.6, 0.2], [0.8, 3.1, 0.3], [-0.7, 3.2, 0.1]],
    cell=[7.0, 7.2, 7.4],
    pbc=True,
)

BASE = {
    "units": "units metal",
    "before": "atom_style charge",
    "data": "read_data system.data",
    "style": "pair_style fixedpoint charge 0",
    "coeff": "pair_coeff * * model.pt O Na H Cl",
    "after": "",
    "run": "run 0",
}

SLAB = {"before": "boundary p p f\natom_style charge"}


def script(**lines: str) -> str:
    """`BASE` with other lines."""
    return "\n".join({**BASE, **lines}.values()) + "\n"


def message(output: str) -> str:
    """LAMMPS' error without line breaks."""
    return re.sub(r"\s+", " ", output[output.find("ERROR") :])


_IN_ONE_PROCESS = """
import json
import time
from mpi4py import MPI
from fp_potential.lammps import open_instance

said = {}
with open_instance() as lmp:
    for name, text in json.load(open("scripts.json")).items():
        lmp.commands_list(["clear", "variable e delete"])
        began = time.process_time()
        try:
            lmp.commands_list(text.splitlines())
            answer = "nothing"
        except Exception as e:
            answer = str(e)
        said[name] = {"text": answer, "seconds": time.process_time() - began}
everywhere = MPI.COMM_WORLD.gather(said)
if everywhere:
    json.dump(everywhere, open("said.json", "w"))
"""


def answers(simulation: Any, scripts: dict[str, str], ranks: int) -> list[dict[str, dict[str, Any]]]:
    """What each rank says of every script, and after how many seconds, all of them in one process per rank.

    Every script has to fail on all ranks with an exception of the library, after which the same process goes on.
    """
    simulation.write_structure(SYSTEM)
    (simulation.folder / "scripts.json").write_text(json.dumps(scripts))
    (simulation.folder / "run.py").write_text(_IN_ONE_PROCESS)
    done = simulation.run_python(["-m", "mpi4py", "run.py"], ranks, 180)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    return json.loads((simulation.folder / "said.json").read_text())
