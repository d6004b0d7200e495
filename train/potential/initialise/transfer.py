"""Parameters and constants of another potential as the start of a training, whatever elements the two have."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor

from ....export import load_model
from ....model import FixedPointPotential
from ....nets import EquivariantLinear
from ....options import ModelOptions, ModelStatistics
from ...data.frame import Frame
from ...errors import InputError
from ...trainer import checkpoint
from ...trainer.initial_values import Rows, take_parameters
from ..config.statistics import StatisticsOptions
from ..config.training import InitialiseOptions
from ..trained import build_model, find_checkpoint
from .mace_weights import MaceWeights, stored_weights


@dataclass
class Source:
    """Another potential."""

    description: str
    parameters: dict[str, Tensor]
    elements: list[int]
    statistics: ModelStatistics | None  #: None: it does not say
    widths: list[float] | None  #: of the receivers its norms belong to
    mace: MaceWeights | None = None  #: of a mace-torch model, which has a backbone, energies and nothing else


def read_source(options: InitialiseOptions) -> Source:
    """The potential of ``options.init_from``: a run folder, a checkpoint, an exported model, weights of import-mace.

    Raises:
        InputError: there is none.
    """
    assert options.init_from is not None
    path = Path(options.init_from)
    if not path.exists():
        raise InputError(
            f"init_from '{path}' does not exist; expected a run folder, a checkpoint, an exported model "
            "or weights of fixedpoint import-mace"
        )
    if path.is_file() and _is_archive(path):
        return _exported(path)
    weights = stored_weights(path) if path.is_file() else None
    if weights is not None:
        text = f"{path} (weights of a mace-torch model)"
        return Source(text, dict(weights.state), weights.elements, None, None, weights)
    path = find_checkpoint(path)
    state = checkpoint.load(path)
    parameters = dict(state["module"])
    average = state["average"] is not None and options.weights == "average"
    if average:
        parameters |= zip(state["average_names"], state["average"]["average"], strict=True)
    return Source(
        f"{path} ({state['epoch']} epochs, {'average' if average else 'last'} weights)",
        parameters,
        list(state["problem"]["elements"]),
        ModelStatistics(**state["problem"]["statistics"]),
        state["config"]["model"]["field_feature_widths"],
    )


def _is_archive(path: Path) -> bool:
    return zipfile.is_zipfile(path) and any(
        name.endswith("extra/metadata.json") for name in zipfile.ZipFile(path).namelist()
    )


def _exported(path: Path) -> Source:
    try:
        module, metadata = load_model(path)
    except ValueError as error:
        raise InputError(str(error)) from error
    parameters = {name.removeprefix("model."): value for name, value in module.named_parameters()}
    training = metadata["training"]
    statistics = training.get("statistics")
    return Source(
        str(path),
        parameters,
        [atomic_numbers[symbol] for symbol in metadata["elements"]],
        ModelStatistics(**statistics) if statistics else None,
        training.get("field_feature_widths"),
    )


def take_potential(
    model: FixedPointPotential, options: ModelOptions, statistics: ModelStatistics, source: Source
) -> list[str]:
    """Fill ``model`` with the parameters of ``source``; says what was taken.

    Raises:
        InputError: nothing fits.
    """
    if source.mace is not None:
        source.mace.check(options, model.elements)
    axes = element_axes(model, options, statistics)
    common = [number for number in model.elements if number in source.elements]
    sizes = (len(model.elements), len(source.elements))
    here = [model.elements.index(number) for number in common]
    there = [source.elements.index(number) for number in common]
    scaled = {f"{name}.weight" for name, layer in model.named_modules() if isinstance(layer, EquivariantLinear)}
    scaled.add("backbone.embedding")
    factor = math.sqrt(sizes[0] / sizes[1])
    rows = {name: Rows(own, here, there, sizes, factor if name in scaled else 1.0) for name, own in axes.items()}
    result = take_parameters(model, source.parameters, rows)
    if not result.taken and not result.partly:
        raise InputError(f"init_from {source.description}: no parameter has a name and shape of this model's")
    symbols = [" ".join(chemical_symbols[z] for z in numbers) for numbers in (model.elements, source.elements)]
    head = f"parameters of {source.description}: elements {symbols[1]} (here {symbols[0]}), "
    first, *others = result.lines()
    return [head + first, *others]


def element_axes(
    model: FixedPointPotential, options: ModelOptions, statistics: ModelStatistics
) -> dict[str, list[int]]:
    """Axes of parameters that count elements: those that grow in a model with one element more."""
    extra = next(z for z in range(1, 120) if z not in model.elements)
    energies = {**statistics.atomic_energies, extra: 0.0}
    larger = statistics.model_copy(update={"atomic_energies": energies, "minimum_distances": []})
    with torch.random.fork_rng(devices=[]):
        other = build_model(options, [*model.elements, extra], larger, torch.get_default_dtype())
    axes: dict[str, list[int]] = {}
    for (name, parameter), changed in zip(model.named_parameters(), other.parameters(), strict=True):
        grown = [k for k, (a, b) in enumerate(zip(parameter.shape, changed.shape, strict=True)) if a != b]
        if grown:
            axes[name] = grown
    return axes


def take_statistics(
    own: ModelStatistics,
    source: Source,
    options: ModelOptions,
    e0: StatisticsOptions,
    elements: Sequence[int],
    frames: Sequence[Frame],
) -> ModelStatistics:
    """The constants for which the parameters of ``source`` were trained, where the training file leaves them open.

    E0s of elements that it does not have are fitted to what remains of the energies of ``frames``.

    Raises:
        InputError: the source does not know its constants.
    """
    theirs = source.statistics
    if source.mace is not None:
        known = {z: source.mace.atomic_energies[z] for z in elements if z in source.elements}
        energies = known | _remaining_energies(known, elements, frames)
        return own.model_copy(update={"atomic_energies": energies}) if e0.E0s == "least_squares" else own
    if theirs is None:
        raise InputError(
            f"init_from {source.description}: the model does not hold its constants (it was exported by an older "
            "version); give its run folder, or initialise.statistics: training"
        )
    update: dict[str, Any] = {}
    if options.avg_num_neighbors is None:
        update["avg_num_neighbors"] = theirs.avg_num_neighbors
    if options.fermi_level_offset is None:
        update["fermi_level_offset"] = theirs.fermi_level_offset
    if options.field_feature_norms == "average" and options.field_feature_widths == source.widths:
        update["field_feature_norms"] = theirs.field_feature_norms
    if options.atom_density_scaling == "average":
        update["density_scaling"] = own.density_scaling | theirs.density_scaling
    if e0.E0s == "least_squares":
        known = {z: theirs.atomic_energies[z] for z in elements if z in source.elements}
        update["atomic_energies"] = known | _remaining_energies(known, elements, frames)
    update["minimum_distances"] = _shortest(own, theirs, elements, source.elements)
    return own.model_copy(update=update)


def _remaining_energies(known: dict[int, float], elements: Sequence[int], frames: Sequence[Frame]) -> dict[int, float]:
    new = [z for z in elements if z not in known]
    rows, energies = [], []
    for frame in frames:
        counts = {z: int(np.sum(frame.atoms.numbers == z)) for z in elements}
        if frame.labels["energy"] is not None and any(counts[z] for z in new):
            rows.append([counts[z] / len(frame.atoms) for z in new])
            rest = float(frame.labels["energy"]) - sum(counts[z] * energy for z, energy in known.items())
            energies.append(rest / len(frame.atoms))
    if not new:
        return {}
    if not rows:
        raise InputError(
            f"statistics.E0s: no energies of frames with {', '.join(chemical_symbols[z] for z in new)}, which the "
            "other model does not have; give the E0s"
        )
    solution, *_ = np.linalg.lstsq(np.array(rows), np.array(energies), rcond=1e-8)
    return {z: float(energy) for z, energy in zip(new, solution, strict=True)}


def _shortest(
    own: ModelStatistics, theirs: ModelStatistics, elements: Sequence[int], others: Sequence[int]
) -> list[list[float]]:
    """The shorter of both distances of each pair of elements, where both are known."""
    merged = [list(row) for row in own.minimum_distances]
    if not theirs.minimum_distances:
        return merged
    for i, a in enumerate(elements):
        for j, b in enumerate(elements):
            if a in others and b in others:
                known = [merged[i][j], theirs.minimum_distances[others.index(a)][others.index(b)]]
                merged[i][j] = min((value for value in known if value > 0), default=0.0)
    return merged
