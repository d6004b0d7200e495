"""Input scripts of LAMMPS that differ in a line from a good one, and what it says of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from ase import Atoms

from fp_potential.export import METADATA_FILE

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


def with_metadata(source: Path, target: Path, **changes) -> None:
    """A copy of a model with other metadata."""
    extra = {METADATA_FILE: ""}
    module = torch.jit.load(str(source), _extra_files=extra)
    text = json.dumps({**json.loads(extra[METADATA_FILE]), **changes})
    torch.jit.save(module, str(target), _extra_files={METADATA_FILE: text})
