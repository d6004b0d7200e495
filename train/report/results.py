"""The model of a run on its data: errors, values for the parity plots, statistics of the SCF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...model import FixedPointPotential
from ...options import SCFOptions
from ..config.schema import validate
from ..data.frame import Frame
from ..data.read import read_frames
from ..data.sets import DataSets, load_data
from ..errors import InputError
from ..potential.batch import Batch
from ..potential.config import TrainConfig
from ..potential.evaluate import Evaluation, EvaluationSet, labelled_properties, model_solver, select
from ..potential.metrics import Compared, StructureErrors, compared
from ..potential.samples import make_samples
from ..potential.trained import load_trained


@dataclass
class Run:
    """A run folder: its options, its model and its checkpoint."""

    folder: Path
    checkpoint: Path
    config: TrainConfig
    state: dict[str, Any]
    model: FixedPointPotential

    @property
    def elements(self) -> list[int]:
        """Atomic numbers of the model."""
        return list(self.state["problem"]["elements"])

    @property
    def constant_charge(self) -> bool:
        """What the last stage begun holds fixed."""
        begun = [stage for stage in self.config.train_schedule if stage.first_epoch < self.state["epoch"]]
        scf = begun[-1].fixed_point_training_options.scf if begun else None
        return scf is None or scf.constant_charge


@dataclass
class Values:
    """Predicted and reference values of one property, components with a label only; eV, Å, e."""

    predicted: np.ndarray = field(default_factory=lambda: np.zeros(0))
    reference: np.ndarray = field(default_factory=lambda: np.zeros(0))
    structure: np.ndarray = field(default_factory=lambda: np.zeros(0, int))  #: index of the frame in the set
    element: np.ndarray = field(default_factory=lambda: np.zeros(0, int))  #: atomic number; 0: of the whole structure

    def add(self, pair: Compared, structures: np.ndarray, elements: np.ndarray) -> None:
        """Append the rows of a batch, with the frame and the element of each."""
        known = (pair.weight > 0).expand_as(pair.predicted).reshape(len(structures), -1).cpu().numpy()
        row = np.nonzero(known)[0]
        self.predicted = np.concatenate([self.predicted, _flat(pair.predicted)[known.reshape(-1)]])
        self.reference = np.concatenate([self.reference, _flat(pair.reference)[known.reshape(-1)]])
        self.structure = np.concatenate([self.structure, structures[row]])
        self.element = np.concatenate([self.element, elements[row]])


@dataclass
class Prediction:
    """What the viewer shows of a frame."""

    density: np.ndarray  #: (n, 4) q, d_y, d_z, d_x
    forces: np.ndarray  #: (n, 3)


@dataclass
class SetResults:
    """A set of frames with the model's errors on it."""

    name: str
    frames: Sequence[Frame]
    available: int  #: frames of the set, of which ``frames`` is a choice
    evaluations: list[Evaluation]  #: the first is that of ``values`` and ``predictions``
    values: dict[str, Values] = field(default_factory=dict)
    predictions: list[Prediction] = field(default_factory=list)

    @property
    def errors(self) -> StructureErrors:
        """Of the first evaluation."""
        return self.evaluations[0].errors


def load_run(folder: Path, checkpoint: Path) -> Run:
    """The run with the averaged weights of ``checkpoint``, in float64."""
    model, state = load_trained(checkpoint)
    config = validate(state["config"], TrainConfig, str(checkpoint))
    return Run(folder, checkpoint, config, state, model.requires_grad_(False))


def read_sets(
    run: Run, files: Sequence[str], splits: Sequence[str]
) -> tuple[dict[str, Sequence[Frame]], DataSets | None]:
    """Frames by the name of their set: those of the run, or of ``files``; and the data of the run if they were read.

    Args:
        files: evaluate these in place of the run's sets.
        splits: sets of the run (train, valid, test) or, with ``files``, values of their split key.

    Raises:
        InputError: a file cannot be read, or no frame is left.
    """
    options = run.config.data
    if files:
        frames = read_frames(files, options.keys, options.kind_key, demanded=(), units=options.units)
        key = options.split.key if options.split else "split"
        names: Sequence[str | None] = splits or [None]
        return {name or "files": select(frames, key, name) for name in names}, None
    try:
        data = load_data(options)
    except InputError as error:
        raise InputError(f"{error} (--files evaluates other files, --no_evaluation none)") from error
    sets = {"test": data.test, "valid": data.valid, "train": data.train}
    present = [name for name, content in sets.items() if content]
    for name in splits:
        if name not in present:
            raise InputError(f"--split {name}: the run has no such frames; its sets: {', '.join(present)}")
    return {name: sets[name] for name in splits or present}, data


def sample_frames(frames: Sequence[Frame], number: int) -> Sequence[Frame]:
    """At most ``number`` of the frames, chosen at random but always the same, in their order."""
    if len(frames) <= number:
        return frames
    chosen = np.sort(np.random.default_rng(0).permutation(len(frames))[:number])
    return [frames[index] for index in chosen]


def evaluate_set(
    run: Run, name: str, frames: Sequence[Frame], scf: SCFOptions, options: dict[str, Any], full: bool
) -> SetResults:
    """Errors of the model on the frames, by its own SCF from the local guess.

    Args:
        scf: of the loop; what is held fixed is what the run trains at.
        options: ``batch_size``, ``device`` and ``max_frames``.
        full: the other charge mode and the start from the data as well, where the labels allow them, and the single
            values and predictions of the first evaluation.
    """
    chosen = sample_frames(frames, options["max_frames"])
    samples = make_samples(chosen, run.elements, run.model.cutoff, torch.float64)
    device, size = torch.device(options["device"]), options["batch_size"]
    solver = model_solver(run.model, properties=labelled_properties(chosen))
    data = EvaluationSet(solver, scf, run.elements, chosen, samples, device=device)
    first = scf.model_copy(update={"constant_charge": run.constant_charge, "initial_density": "local_guess"})
    usable = data.with_labels(first)
    if not usable.frames:
        first = first.model_copy(update={"constant_charge": True})
        usable = data
    results = SetResults(name, usable.frames, len(frames), [])
    results.evaluations.append(_detailed(usable, first, size, results) if full else usable.run(first, size))
    if full:
        for mode in (first.constant_charge, not first.constant_charge):
            for start in ("local_guess", "from_data"):
                other = first.model_copy(update={"constant_charge": mode, "initial_density": start})
                subset = data.with_labels(other)
                if other == first or not subset.frames:
                    continue
                if start == "from_data":  # errors are those from the local guess: only the way there is of interest
                    subset = replace(subset, solver=model_solver(run.model, forces=False))
                results.evaluations.append(subset.run(other, size))
    return results


def _detailed(data: EvaluationSet, scf: SCFOptions, batch_size: int, results: SetResults) -> Evaluation:
    """The evaluation, with values and predictions put into ``results``."""
    errors = StructureErrors(constant_charge=scf.constant_charge)
    numbers = np.array(data.elements)
    for batch, output in data.outputs(scf, batch_size):
        errors.add(output, batch, [data.frames[index].kind for index in batch.indices])
        frames = np.array(batch.indices)
        atoms = frames[batch.graph.batch.cpu().numpy()]
        elements = numbers[batch.graph.species[: len(atoms)].cpu().numpy()]
        for name, pair in compared(output, batch, scf.constant_charge).items():
            places = (
                (atoms, elements) if pair.per_atom else (np.array(batch.indices), np.zeros(len(batch.indices), int))
            )
            results.values.setdefault(name, Values()).add(pair, *places)
        results.predictions += _predictions(output, batch)
    results.values = {name: values for name, values in results.values.items() if len(values.predicted)}
    return Evaluation(scf, errors, data.frames, [])


def _predictions(output: dict[str, Tensor], batch: Batch) -> list[Prediction]:
    sizes = [int(number) for number in batch.num_atoms]
    pieces = zip(output["density"].split(sizes), output["forces"].split(sizes), strict=True)
    return [Prediction(density.cpu().numpy(), forces.cpu().numpy()) for density, forces in pieces]


def _flat(values: Tensor) -> np.ndarray:
    return values.detach().double().reshape(-1).cpu().numpy()
