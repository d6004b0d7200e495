"""The whole training file of a pseudopotential."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from ...config.load import load
from ...trainer.options import Number, RunFolder, RunOptions, stages_in_order
from .model import ModelOptions
from .objective import ObjectiveOptions
from .outputs import OutputOptions
from .systems import SystemOptions
from .training import BandsStage, TrainingOptions


class _Learned(RunFolder):
    """What is learned, and from what; a base beside `RunOptions`, so that its sections come first in the manual."""

    model: ModelOptions
    """The pseudopotential."""
    systems: list[SystemOptions] = Field(min_length=1)
    """Crystals with their targets."""
    objective: ObjectiveOptions = ObjectiveOptions()
    """Terms of the cost."""


class BandsTrainConfig(RunOptions, _Learned):
    """The whole training file."""

    training: TrainingOptions = TrainingOptions()
    """Optimiser and machine."""
    train_schedule: list[BandsStage] = Field(min_length=1)  # type: ignore[assignment]
    """Stages, one after the other: a list, or a mapping with the keys 0, 1, 2 ..."""
    outputs: OutputOptions = OutputOptions()
    """Tables and pictures."""

    @field_validator(
        "train_schedule", mode="before", json_schema_input_type=list[BandsStage] | dict[Number, BandsStage]
    )
    @classmethod
    def _schedule_as_list(cls, value: Any) -> Any:
        return stages_in_order(value)

    @model_validator(mode="after")
    def _targets(self) -> BandsTrainConfig:
        names = [system.name for system in self.systems if system.name]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"systems: the name {twice[0]} is given twice; names must differ")
        for number, system in enumerate(self.systems):
            if system.bands is None and any(
                stage.workflow in ("gradient", "monte_carlo") for stage in self.train_schedule
            ):
                raise ValueError(
                    f"systems.{number} has no bands to fit: give bands: FILE, or only stages of workflow evaluate"
                )
        return self


def load_config(
    path: str | Path, overrides: Sequence[str] | None = None, notes: list[str] | None = None
) -> BandsTrainConfig:
    """The training file at ``path`` with ``name=value`` overrides applied; names of files made absolute.

    Raises:
        InputError: file missing, not YAML, or an option unknown (with the nearest name), of the wrong type or refused.
    """
    return load(path, BandsTrainConfig, overrides or (), notes)
