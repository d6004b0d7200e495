"""``fixedpoint eval``: errors of a model archive on data files, per kind, and its predictions.

The model runs its own SCF, from the local guess unless told otherwise. Keys and split of the data are those it was
trained with (its metadata hold them) unless others are given.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers
from ase.io import write
from torch import Tensor

from ..export import load_model
from ..options import SCFOptions
from .archive import LABEL_OF_PROPERTY, with_properties, with_stress
from .config import Keys
from .data import Batch, batches, make_samples
from .errors import InputError
from .frames import LABELS, Frame, read_frames
from .metrics import StructureErrors
from .schema import validate

#: key of a prediction in the output file -> what it is
PREDICTIONS = {
    "FP_energy": "energy, eV",
    "FP_forces": "forces, eV/Å",
    "FP_stress": "stress dE/d(strain)/V, eV/Å³, periodic frames",
    "FP_atomic_multipoles": "[q, d_y, d_z, d_x], e and e·Å",
    "FP_charges": "charges, e",
    "FP_atomic_dipoles": "atomic dipoles x y z, e·Å",
    "FP_dipole": "dipole about the origin x y z, e·Å, open frames",
    "FP_fermi_level": "Fermi level, eV",
    "FP_electrostatic_potentials": "potential at the nuclei, V, where the files hold labels of it",
    "FP_polarizability": "polarizability, e·Å²/V, of open frames, where the files hold labels of it",
    "FP_born_charges": "Born effective charges, e, row-major [position, dipole], likewise",
    "FP_scf_steps": "applications of the map",
    "FP_scf_status": "0: converged",
}


@dataclass
class Evaluation:
    """Errors, the frames they belong to, and, if wanted, the frames with their predictions."""

    errors: StructureErrors
    frames: list[Frame]
    predictions: list[Atoms]
    notes: list[str]


def data_options(metadata: dict[str, Any], given_keys: Sequence[str] = ()) -> tuple[Keys, str, str]:
    """Keys, split key and kind key: of the training, with ``name=key`` pairs set over them.

    Raises:
        InputError: an unknown name.
    """
    trained = metadata.get("training", {}).get("data", {})
    keys = dict(trained.get("keys", {}))
    for pair in given_keys:
        name, equals, key = pair.partition("=")
        if not equals:
            raise InputError(f"--key {pair}: expected name=key, for example energy=REF_energy")
        if name in ("external_field", "electric_field"):
            keys.pop("external_field", None)
            keys.pop("electric_field", None)
        keys[name] = key or None
    split = trained.get("split") or {}
    return validate(keys, Keys, "--key"), split.get("key", "split"), trained.get("kind_key", "kind")


def select(frames: Sequence[Frame], key: str, value: str | None) -> list[Frame]:
    """Frames whose info ``key`` is ``value`` (all for None).

    Raises:
        InputError: there are none; names the values present.
    """
    if value is None:
        return list(frames)
    chosen = [frame for frame in frames if str(frame.atoms.info.get(key)) == value]
    if not chosen:
        present = sorted({str(frame.atoms.info[key]) for frame in frames if key in frame.atoms.info})
        raise InputError(f"no frame has {key}={value}; values of '{key}' present: {', '.join(present) or 'none'}")
    return chosen


def evaluate(
    model: str | Path,
    files: Sequence[str],
    scf: dict[str, Any] | None = None,
    split: str | None = None,
    given_keys: Sequence[str] = (),
    kind_key: str | None = None,
    batch_size: int = 16,
    device: str = "cpu",
    keep: bool = False,
) -> Evaluation:
    """Run the archive ``model`` on the frames of ``files``.

    Args:
        scf: options set over the model's defaults.
        split: only frames with this value of the split key.
        given_keys: ``name=key`` pairs set over the keys the model was trained with.
        kind_key: info key of the rows of the table.
        keep: keep the frames with their predictions.
    """
    module, metadata = load_model(model, device)
    keys, split_key, trained_kind = data_options(metadata, given_keys)
    demanded = {pair.partition("=")[0] for pair in given_keys}
    frames = select(read_frames(files, keys, kind_key or trained_kind, demanded), split_key, split)
    elements = [atomic_numbers[symbol] for symbol in metadata["elements"]]
    dtype = getattr(torch, metadata["dtype"])
    options = SCFOptions(**{**metadata["scf"], **(scf or {})})
    samples = make_samples(frames, elements, float(metadata["cutoff"]), dtype)
    notes = [
        f"no frame has {name}"
        for name in LABELS
        if getattr(keys, name) is not None and all(frame.labels[name] is None for frame in frames)
    ]
    missing = {label for label in LABEL_OF_PROPERTY.values() if all(frame.labels[label] is None for frame in frames)}
    properties = {name for name, label in LABEL_OF_PROPERTY.items() if label not in missing}
    errors = StructureErrors()
    predictions: list[Atoms] = []
    for batch in batches(samples, batch_size, device=torch.device(device)):
        output = run_archive(module, batch, options, properties)
        errors.add(output, batch, [frames[index].kind for index in batch.indices])
        if keep:
            predictions += list(_predictions(output, batch, frames))
    return Evaluation(errors, frames, predictions, notes)


def run_archive(
    module: torch.jit.ScriptModule, batch: Batch, scf: SCFOptions, properties: Collection[str] = ()
) -> dict[str, Tensor]:
    """Results of the archive for a batch, with ``stress`` and ``properties``, names of ``LABEL_OF_PROPERTY``."""
    tensors = batch.graph[:-1]
    loop = (scf.num_scf_steps, scf.scf_tolerance, scf.mixing_parameter, scf.solver, scf.constant_charge)
    density = batch.graph.positions.new_zeros((0, 4))
    level = density[:, 0]
    if scf.initial_density == "from_data":
        _demand("initial_density", "atomic_multipoles", bool((batch.labels.multipoles_weight > 0).all()))
        density = batch.labels.multipoles
    if scf.initial_fermi_level == "from_data":
        _demand("initial_fermi_level", "fermi_level", bool(batch.labels.fermi_level.isfinite().all()))
        level = batch.labels.fermi_level
    if not scf.constant_charge:
        _demand("constant_charge", "fermi_level", bool(batch.labels.fermi_level.isfinite().all()))
    output = module(*tensors, False, *loop, scf.use_autograd_forces, density, level)

    def responses() -> dict[str, Tensor]:
        return module.responses(*tensors, False, *loop, density, level)

    electrostatics = module.model.electrostatics
    return with_properties(with_stress(output, batch.graph), batch.graph, properties, electrostatics, responses)


def _demand(option: str, label: str, present: bool) -> None:
    if not present:
        raise InputError(
            f"this {option} needs {label} on every frame, with a weight above zero; name its key with "
            f"--key {label}=KEY, or choose frames that have it"
        )


def write_predictions(path: str | Path, predictions: Sequence[Atoms]) -> None:
    """Extended XYZ with the keys of ``PREDICTIONS`` beside what the frames had."""
    write(str(path), list(predictions), format="extxyz")


def _predictions(output: dict[str, Tensor], batch: Batch, frames: Sequence[Frame]) -> Iterator[Atoms]:
    host = {name: value.detach().cpu().numpy() for name, value in output.items()}
    first = 0
    for row, index in enumerate(batch.indices):
        atoms = frames[index].atoms.copy()
        last = first + len(atoms)
        density = host["density"][first:last].astype(np.float64)
        atoms.arrays["FP_forces"] = host["forces"][first:last].astype(np.float64)
        atoms.arrays["FP_atomic_multipoles"] = density
        atoms.arrays["FP_charges"] = density[:, 0]
        atoms.arrays["FP_atomic_dipoles"] = density[:, [3, 1, 2]]
        atoms.info["FP_energy"] = float(host["energy"][row])
        atoms.info["FP_fermi_level"] = float(host["fermi_level"][row])
        atoms.info["FP_scf_steps"] = int(host["scf_steps"][row])
        atoms.info["FP_scf_status"] = int(host["status"][row])
        if "esps" in host:
            atoms.arrays["FP_electrostatic_potentials"] = host["esps"][first:last].astype(np.float64)
        if "polarizability" in host and not atoms.pbc.any():
            atoms.info["FP_polarizability"] = host["polarizability"][row].astype(np.float64)
            atoms.arrays["FP_born_charges"] = host["born_charges"][first:last].reshape(-1, 9).astype(np.float64)
        if atoms.pbc.all():
            atoms.info["FP_stress"] = host["stress"][row].astype(np.float64)
        else:
            atoms.info["FP_dipole"] = host["dipole"][row].astype(np.float64)
        first = last
        yield atoms
