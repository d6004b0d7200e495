"""The whole training file of a potential."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, field_validator, model_validator

from ....options import ModelOptions
from ...config.load import load
from ...data.options import DataOptions
from ...trainer.options import Number, RunFolder, RunOptions, stages_in_order
from .loss import OF_CONDUCTORS, missing_label, unavailable
from .schedule import Stage
from .statistics import StatisticsOptions
from .training import TrainingOptions
from .translation import Translator


class _Learned(RunFolder):
    """What is learned, and from what; a base beside `RunOptions`, so that its sections come first in the manual."""

    data: DataOptions
    """Reference data."""
    model: ModelOptions = ModelOptions()
    """Architecture."""
    statistics: StatisticsOptions = StatisticsOptions()
    """Constants from the training set."""


class TrainConfig(RunOptions, _Learned):
    """The whole training file."""

    training: TrainingOptions = TrainingOptions()
    """Optimiser and machine."""
    train_schedule: list[Stage] = Field(min_length=1)  # type: ignore[assignment]
    """Stages, one after the other: a list, or a mapping with the keys 0, 1, 2 ..."""

    @classmethod
    def translator(cls) -> Translator:
        """Options at the top level, and published names, to their sections."""
        classes = {name: field.annotation for name, field in cls.model_fields.items()}
        sections = {
            name: kind for name, kind in classes.items() if isinstance(kind, type) and issubclass(kind, BaseModel)
        }
        return Translator(sections, list(cls.model_fields))

    @field_validator("train_schedule", mode="before", json_schema_input_type=list[Stage] | dict[Number, Stage])
    @classmethod
    def _schedule_as_list(cls, value: Any) -> Any:  # of these stages, for the JSON schema
        return stages_in_order(value)

    @model_validator(mode="after")
    def _labels_for_losses(self) -> TrainConfig:
        mapped, update = self.data.keys.model_dump(), self.model.fixedpoint_update_config
        for number, stage in enumerate(self.train_schedule):
            options = stage.fixed_point_training_options
            constant_charge = options.scf is None or options.scf.constant_charge
            for name in stage.loss.active():
                reason = missing_label(name, mapped) or unavailable(name, options.mode, constant_charge, update.type)
                if update.insulates and name in OF_CONDUCTORS:
                    reason = (
                        "is zero where nothing conducts: here nowhere, with fixedpoint_update_config.metallic: none"
                    )
                if reason:
                    raise ValueError(f"train_schedule.{number}.loss.{name} {reason}")
            if not constant_charge and update.insulates:
                raise ValueError(
                    f"train_schedule.{number}: scf.constant_charge: false holds a Fermi level, which a model whose "
                    "fixedpoint_update_config is metallic: none does not have"
                )
            if not stage.loss.active():
                raise ValueError(f"train_schedule.{number}.loss has no term with a weight above zero")
            density = self.data.keys.atomic_multipoles or self.data.keys.charges
            if stage.fixed_point_training_options.mode == "direct" and density is None:
                raise ValueError(f"train_schedule.{number}: mode 'direct' needs data.keys.atomic_multipoles")
        return self


def load_config(
    path: str | Path, overrides: Sequence[str] | None = None, notes: list[str] | None = None
) -> TrainConfig:
    """The training file at ``path`` with ``name=value`` overrides applied; paths of data made absolute.

    Names are dotted (``training.batch_size``) or those that may stand at the top level of the file (``batch_size``,
    ``hidden_irreps``); an override replaces what the file says. ``notes`` receives what is to be said of names that are
    deprecated or change nothing.

    Raises:
        InputError: file missing, not YAML, or an option unknown (with the nearest name), of the wrong type or refused.
    """
    return load(path, TrainConfig, overrides or (), notes)
