"""Small data files with labels, and training files that fit them in seconds."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from ase import Atoms
from ase.io import write

from fp_potential.density.problem import own_start
from fp_potential.graph import graph_from_atoms
from fp_potential.scf.settings import LoopSettings
from structures import ELEMENTS, make_model, salt_water_box, water_cluster

KEYS = {
    "energy": "REF_energy",
    "forces": "REF_forces",
    "atomic_multipoles": "REF_atomic_multipoles",
    "dipole": "REF_dipole",
    "fermi_level": "REF_fermi_level",
    "total_charge": "total_charge",
    "electric_field": "external_field",
}


def labelled(atoms: Atoms, teacher, kind: str, split: str, field: tuple[float, float, float] = (0, 0, 0)) -> Atoms:
    """``atoms`` with the results of ``teacher`` as labels."""
    graph = graph_from_atoms(
        atoms, ELEMENTS, teacher.cutoff, torch.float64, external_field=[-component for component in field]
    )
    settings = LoopSettings(100, 1e-9, 0.3, "anderson")
    out = teacher.evaluate(graph, settings, own_start(graph.positions), True, True, True)
    atoms.info |= {
        "REF_energy": float(out["energy"][0]),
        "REF_fermi_level": float(out["fermi_level"][0]),
        "total_charge": 0.0,
        "external_field": np.array(field, dtype=float),
        "split": split,
        "kind": kind,
    }
    if not atoms.pbc.any():
        atoms.info["REF_dipole"] = out["dipole"][0].numpy()
    atoms.arrays["REF_forces"] = out["forces"].numpy()
    atoms.arrays["REF_atomic_multipoles"] = out["density"].numpy()
    return atoms


def frames() -> list[Atoms]:
    """Eleven frames: water clusters, some in a field, and periodic boxes with ions; eight for training."""
    return [atoms.copy() for atoms in _labelled_once()]


@cache
def _labelled_once() -> list[Atoms]:
    teacher = make_model(seed=5)
    out = []
    for number in range(8):
        split = "train" if number < 6 else "test"
        cluster = water_cluster(1 + number % 3, seed=number)
        field = (0.0, 0.0, 0.05) if number == 2 else (0, 0, 0)
        out.append(labelled(cluster, teacher, "cluster", split, field))
    for number in range(3):
        split = "train" if number < 2 else "test"
        out.append(labelled(salt_water_box(seed=number), teacher, "box", split))
    return out


def write_frames(path: Path, content: list[Atoms] | None = None) -> Path:
    """``content`` (or :func:`frames`) as extended XYZ."""
    write(path, frames() if content is None else content, format="extxyz")
    return path


def training_file(folder: Path, data: Path, /, **sections: Any) -> Path:
    """A training file of two short stages in ``folder``; ``sections`` replace or add top-level sections."""
    loss = {"energy_per_atom": 1.0, "forces": 10.0, "atomic_multipoles": 100.0, "dipole_per_atom": 10.0}
    content: dict[str, Any] = {
        "run_dir": str(folder / "run"),
        "data": {"files": [str(data)], "keys": dict(KEYS), "split": {"key": "split"}, "valid_fraction": 0.2},
        "model": {"r_max": 3.5, "num_channels": 4, "radial_MLP": [8], "readout_channels": 4},
        "training": {"batch_size": 3, "num_threads": 1, "seed": 7},
        "train_schedule": [
            {
                "name": "direct",
                "epochs": 2,
                "lr": 0.01,
                "lr_final": 0.002,
                "loss": loss,
                "fixed_point_training_options": {"mode": "direct"},
            },
            {
                "name": "loop",
                "epochs": 2,
                "lr": 0.001,
                "loss": loss,
                "fixed_point_training_options": {
                    "mode": "unroll_scf",
                    "scf": {"num_scf_steps": 4, "mixing_parameter": 0.3},
                },
            },
        ],
    }
    content |= sections
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
