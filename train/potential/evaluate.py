"""``fixedpoint eval``: errors of a model archive on data files, per kind, and its predictions.

The model runs its own SCF, at constant charge or constant Fermi level, from the local guess or from the reference
density. Keys and split of the data are those it was trained with (its metadata hold them) unless others are given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers
from ase.io import write
from torch import Tensor

from ...density.problem import own_start
from ...density.self_consistent import SelfConsistentModel
from ...electrostatics.memory import demand_memory, mesh_memory
from ...export import load_model, run_model
from ...files import naming
from ...graph import Graph
from ...options import SCFOptions
from ...options.kspace import KSpace
from ...periodicity import field_origin, open_axes
from ...scf.settings import Start, settings_of
from ..config.schema import validate
from ..data.frame import LABELS, Frame
from ..data.frame_checks import has_stress
from ..data.frame_sequence import number_missing
from ..data.options import Keys, Units
from ..data.read import read_frames, reading_notes
from ..errors import InputError
from ..progress import track
from .batch import Batch
from .metrics import StructureErrors, conducting
from .samples import Sample, batches, make_samples
from .solution import LABEL_OF_PROPERTY, with_properties, with_stress

#: key of a prediction in the output file -> what it is
PREDICTIONS = {
    "FP_energy": "energy, eV; at constant Fermi level E + μQ",
    "FP_forces": "forces, eV/Å",
    "FP_stress": "stress dE/d(strain)/V, eV/Å³, periodic frames whose cell has a volume",
    "FP_atomic_multipoles": "[q, d_y, d_z, d_x], e and e·Å",
    "FP_charges": "charges, e",
    "FP_atomic_dipoles": "atomic dipoles x y z, e·Å",
    "FP_dipole": "dipole about the origin x y z, e·Å, NaN along periodic axes",
    "FP_fermi_level": "Fermi level, eV; NaN where nothing conducts and the charge was given",
    "FP_total_charge": "total charge, e",
    "FP_constant_charge": "T: the total charge was given, F: the Fermi level",
    "FP_electrostatic_potentials": "potential at the nuclei, V, where the files hold labels of it",
    "FP_polarizability": "polarizability, e·Å²/V, NaN along periodic axes, where the files hold labels of it",
    "FP_born_charges": "Born effective charges, e, row-major [position, dipole], likewise",
    "FP_scf_steps": "applications of the map",
    "FP_scf_status": "0: converged",
}


#: results of a model for a batch: keys of the model archive and ``stress``
Solver = Callable[[Batch, SCFOptions], dict[str, Tensor]]


@dataclass
class Evaluation:
    """Errors, the frames they belong to, and, if wanted, the frames with their predictions."""

    scf: SCFOptions
    errors: StructureErrors
    frames: Sequence[Frame]
    predictions: list[Atoms]
    notes: list[str] = field(default_factory=list)


@dataclass
class EvaluationSet:
    """A model and the frames it is to be run on."""

    solver: Solver
    scf: SCFOptions  #: the model's defaults
    elements: list[int]
    frames: Sequence[Frame]
    samples: Sequence[Sample]
    notes: list[str] = field(default_factory=list)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    archive: tuple[torch.jit.ScriptModule, dict[str, Any]] | None = None  #: of the solver, with its metadata

    def with_labels(self, scf: SCFOptions) -> EvaluationSet:
        """The frames that have the labels which this SCF starts from or holds fixed."""
        wanted = needed_labels(scf).values()
        rows = [row for row, frame in enumerate(self.frames) if all(frame.labels[name] is not None for name in wanted)]
        return replace(self, frames=[self.frames[row] for row in rows], samples=[self.samples[row] for row in rows])

    def outputs(self, scf: SCFOptions, batch_size: int) -> Iterator[tuple[Batch, dict[str, Tensor]]]:
        """Batches of the frames, in their order, with the model's results."""
        chunks = batches(self.samples, batch_size, device=self.device)
        for batch in track(chunks, scf_title(scf), -(-len(self.samples) // batch_size)):
            yield batch, self.solver(batch, scf)

    def run(self, scf: SCFOptions, batch_size: int = 16, keep: bool = False) -> Evaluation:
        """Errors of the model on the frames, and the frames with its predictions if ``keep``.

        Raises:
            InputError: a frame lacks a label that ``scf`` needs.
        """
        for option, label in needed_labels(scf).items():
            if any(frame.labels[label] is None for frame in self.frames):
                raise InputError(
                    f"this {option} needs {label} on every frame; name its key with --key {label}=KEY, or choose "
                    "frames that have it"
                )
        errors = StructureErrors(constant_charge=scf.constant_charge)
        predictions: list[Atoms] = []
        for batch, output in self.outputs(scf, batch_size):
            errors.add(output, batch, [self.frames[index].kind for index in batch.indices])
            if keep:
                predictions += _predictions(output, batch, self.frames, scf)
        return Evaluation(scf, errors, self.frames, predictions, self.notes)


def needed_labels(scf: SCFOptions) -> dict[str, str]:
    """Option -> label that every frame must have for it."""
    needed = {}
    if not scf.constant_charge:
        needed["constant_charge"] = "fermi_level"
    if scf.initial_density == "from_data":
        needed["initial_density"] = "atomic_multipoles"
    if scf.initial_fermi_level == "from_data":
        needed["initial_fermi_level"] = "fermi_level"
    return needed


def scf_title(scf: SCFOptions) -> str:
    """What an SCF holds fixed and starts from, in words."""
    held = "constant charge" if scf.constant_charge else "constant Fermi level"
    start = "the data" if scf.initial_density == "from_data" else "the local guess"
    return f"{held}, from {start}"


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


def data_units(metadata: dict[str, Any]) -> Units:
    """Units of the files of the training."""
    return Units(**(metadata.get("training", {}).get("data", {}).get("units") or {}))


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


def evaluation_set(
    model: str | Path,
    files: Sequence[str],
    split: str | None = None,
    given_keys: Sequence[str] = (),
    kind_key: str | None = None,
    device: str = "cpu",
    kspace: KSpace | None = None,
) -> EvaluationSet:
    """The archive ``model`` and the frames of ``files``.

    Args:
        model: the archive.
        files: data files, globs, prepared sets.
        split: only frames with this value of the split key.
        given_keys: ``name=key`` pairs set over the keys the model was trained with.
        kind_key: info key of the rows of the table.
        device: where the model runs.
        kspace: settings of the long-range sums that replace the model's.

    Raises:
        InputError: no such file or frame, a frame that cannot be read, or a name of no key.
    """
    module, metadata = load_model(model, device)
    if kspace is not None:
        kspace.apply(module)
    keys, split_key, trained_kind = data_options(metadata, given_keys)
    demanded = {pair.partition("=")[0] for pair in given_keys}
    units = data_units(metadata)
    warnings: list[str] = []
    frames = select(read_frames(files, keys, kind_key or trained_kind, demanded, units, warnings), split_key, split)
    elements = [atomic_numbers[symbol] for symbol in metadata["elements"]]
    cutoff, dtype, options = float(metadata["cutoff"]), getattr(torch, metadata["dtype"]), SCFOptions(**metadata["scf"])
    samples = make_samples(frames, elements, cutoff, dtype)
    notes = [*warnings]
    notes += [
        f"no frame has {name}"
        for name in LABELS
        if getattr(keys, name) is not None and all(frame.labels[name] is None for frame in frames)
    ]
    notes += reading_notes(frames, keys, units)
    solver = archive_solver(module, labelled_properties(frames))
    archive = (module, metadata)
    return EvaluationSet(solver, options, elements, frames, samples, notes, torch.device(device), archive)


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
    """Run the archive ``model`` on the frames of ``files`` (arguments: `evaluation_set`, `EvaluationSet.run`).

    Args:
        scf: options set over the model's defaults.
    """
    chosen = evaluation_set(model, files, split, given_keys, kind_key, device)
    return chosen.run(chosen.scf.model_validate(chosen.scf.model_dump() | (scf or {})), batch_size, keep)


def labelled_properties(frames: Sequence[Frame]) -> frozenset[str]:
    """Names of ``LABEL_OF_PROPERTY`` whose label is on some frame."""
    missing = {label for label in LABEL_OF_PROPERTY.values() if number_missing(frames, label) == len(frames)}
    return frozenset(name for name, label in LABEL_OF_PROPERTY.items() if label not in missing)


def archive_solver(module: torch.jit.ScriptModule, properties: Collection[str] = ()) -> Solver:
    """A model archive as a solver, with ``properties``, names of ``LABEL_OF_PROPERTY``."""

    def solver(batch: Batch, scf: SCFOptions) -> dict[str, Tensor]:
        loop, start = (*batch.graph[:-1], False, *settings_of(scf), scf.constant_charge), _start(batch, scf)
        _check_memory(module.model.electrostatics, batch.graph)
        output = with_stress(run_model(module, *loop, scf.use_autograd_forces, *start), batch.graph)

        def responses() -> dict[str, Tensor]:
            return run_model(module.responses, *loop, *start)

        return with_properties(output, batch.graph, properties, module.model.electrostatics, responses)

    return solver


def _check_memory(electrostatics: Any, graph: Graph) -> None:
    """Refuse structures whose mesh does not fit the memory.

    Raises:
        ValueError: naming its size.
    """
    for row in range(graph.cell.shape[0]):
        positions = graph.positions[: graph.batch.shape[0]][graph.batch == row]
        found = mesh_memory(electrostatics, positions, graph.cell[row], graph.pbc[row])
        demand_memory(found, positions.device)


def model_solver(model: SelfConsistentModel, forces: bool = True, properties: Collection[str] = ()) -> Solver:
    """A model as a solver, with ``properties``, names of ``LABEL_OF_PROPERTY``; without ``forces`` energies only."""

    def solver(batch: Batch, scf: SCFOptions) -> dict[str, Tensor]:
        graph, settings, start = batch.graph, settings_of(scf), _start(batch, scf)
        output = model.evaluate(graph, settings, start, scf.constant_charge, scf.use_autograd_forces, forces)
        if not forces:
            return output

        def responses() -> dict[str, Tensor]:
            return model.responses(graph, settings, start, scf.constant_charge)

        return with_properties(with_stress(output, graph), graph, properties, model.electrostatics, responses)

    return solver


def _start(batch: Batch, scf: SCFOptions) -> Start:
    """Initial density and absolute Fermi level as the options say."""
    start = own_start(batch.graph.positions)
    if scf.initial_density == "from_data":
        start = start._replace(x=batch.labels.multipoles)
    if scf.initial_fermi_level == "from_data":
        start = start._replace(level=batch.labels.fermi_level)
    return start


def write_predictions(path: str | Path, predictions: Sequence[Atoms]) -> None:
    """Extended XYZ with the keys of ``PREDICTIONS`` beside what the frames had."""
    with naming(path):
        write(str(path), list(predictions), format="extxyz")


def _predictions(output: dict[str, Tensor], batch: Batch, frames: Sequence[Frame], scf: SCFOptions) -> Iterator[Atoms]:
    host = {name: value.detach().cpu().numpy() for name, value in (output | {"conducts": conducting(output)}).items()}
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
        known = not scf.constant_charge or host["conducts"][row]
        atoms.info["FP_fermi_level"] = float(host["fermi_level"][row]) if known else float("nan")
        atoms.info["FP_total_charge"] = float(host["total_charge"][row])
        atoms.info["FP_constant_charge"] = scf.constant_charge
        atoms.info["FP_scf_steps"] = int(host["scf_steps"][row])
        atoms.info["FP_scf_status"] = int(host["status"][row])
        if "esps" in host:
            atoms.arrays["FP_electrostatic_potentials"] = host["esps"][first:last].astype(np.float64)
        cell, pbc = atoms.cell.array, atoms.pbc
        # 1 along open axes, NaN along periodic ones
        axes = np.where(open_axes(cell, pbc), 1.0, np.nan)
        if "polarizability" in host and not pbc.all():
            atoms.info["FP_polarizability"] = host["polarizability"][row].astype(np.float64) * np.outer(axes, axes)
            born = host["born_charges"][first:last].astype(np.float64) * axes
            atoms.arrays["FP_born_charges"] = born.reshape(-1, 9)
        if has_stress(atoms):
            atoms.info["FP_stress"] = host["stress"][row].astype(np.float64)
        if not pbc.all():
            moved = float(host["total_charge"][row]) * field_origin(cell, pbc)
            atoms.info["FP_dipole"] = (host["dipole"][row].astype(np.float64) + moved) * axes
        first = last
        yield atoms
