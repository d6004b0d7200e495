"""Whether the data have the labels that the schedule works with."""

from __future__ import annotations

from collections.abc import Container, Iterable

import numpy as np
from ase.data import chemical_symbols

from ...options import PERIODIC_AXES, ModelOptions
from ...periodicity import letters
from ..data.assignment import isolated_atoms
from ..data.frame import Frame
from ..data.frame_sequence import number_missing
from ..data.sets import DataSets
from ..errors import InputError
from .config import TrainConfig


def check_labels(config: TrainConfig, data: DataSets) -> None:
    """Labels without which a stage cannot run must be on every training and validation frame.

    Raises:
        InputError: names the stage, the label and how many frames lack it.
    """
    starts = [config.training.initialise, *(stage.initialise for stage in config.train_schedule)]
    if any(start is not None and start.method == "reference" for start in starts):
        without = number_missing(data.train, "atomic_multipoles")
        if without:
            raise InputError(
                f"{without} training frames have no atomic multipoles, which initialise.method: reference needs on "
                "every frame"
            )
    for number, stage in enumerate(config.train_schedule):
        options = stage.fixed_point_training_options
        multipoles = options.mode == "direct" or (options.scf and options.scf.initial_density == "from_data")
        level = options.scf is not None and not options.scf.constant_charge
        for split, frames in (("train", data.train), ("valid", data.valid)):
            without = number_missing(frames, "atomic_multipoles") if multipoles else 0
            if without:
                raise InputError(
                    f"train_schedule.{number} ('{stage.name}'): {without} {split} frames have no atomic "
                    "multipoles, which mode direct and initial_density from_data need on every frame"
                )
            without = number_missing(frames, "fermi_level") if level else 0
            if without:
                raise InputError(
                    f"train_schedule.{number} ('{stage.name}'): {without} {split} frames have no Fermi "
                    "level, which constant_charge: false needs on every frame"
                )


def check_isolated(found: Container[str], elements: Iterable[int], data: DataSets) -> None:
    """Say where isolated atoms are that ``data.split`` keeps out of the training set, which E0s need.

    Raises:
        InputError: an element has none there, and one in another set; names its frame.
    """
    missing = [chemical_symbols[element] for element in elements if chemical_symbols[element] not in found]
    for name, frames in (("validation", data.valid), ("test", data.test)):
        for index in np.flatnonzero(isolated_atoms(frames)) if missing else ():
            frame = frames[int(index)]
            symbol = frame.atoms.get_chemical_symbols()[0]
            if symbol in missing:
                raise InputError(
                    f"statistics.E0s isolated_atoms: the isolated atom of {symbol} ({frame.source}) is in the {name} "
                    "set; data.split and the files must put it into the training set"
                )


def check_periodicity(frames: Iterable[Frame], options: ModelOptions) -> None:
    """Refuse frames of another periodicity than the method is for; ``auto`` and ``mixed_periodic`` are for all.

    Raises:
        InputError: naming the first such frame.
    """
    method = options.electrostatic_pbc_method
    if method not in PERIODIC_AXES:
        return
    wanted = PERIODIC_AXES[method]
    for frame in frames:
        if frame.atoms.pbc.sum() != wanted:
            raise InputError(
                f"{frame.source}: pbc is {letters(frame.atoms.pbc)}, but model.electrostatic_pbc_method '{method}' is "
                f"for {wanted} periodic axes only; use 'auto', which takes every structure with its own periodicity, "
                "or correct the frame"
            )
