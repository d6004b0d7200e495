"""Whether the data have the labels that the schedule works with."""

from __future__ import annotations

from .config import TrainConfig
from .errors import InputError
from .frames import DataSets
from .sequence import number_missing


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
