"""The whole training file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints, field_validator, model_validator

from ....options import ModelOptions
from ...config.schema import Section
from ...data.options import DataOptions
from ...trainer.options import TrainingOptions
from .loss import missing_label, unavailable
from .schedule import Stage
from .statistics import StatisticsOptions
from .translation import Translator

_Number = Annotated[str, StringConstraints(pattern=r"^\d+$")]


class TrainConfig(Section):
    """The whole training file."""

    run_dir: str = "run"
    """Folder of the results, relative to where the command is called."""
    data: DataOptions
    """Reference data."""
    model: ModelOptions = ModelOptions()
    """Architecture."""
    statistics: StatisticsOptions = StatisticsOptions()
    """Constants from the training set."""
    training: TrainingOptions = TrainingOptions()
    """Optimiser and machine."""
    train_schedule: list[Stage] = Field(min_length=1)
    """Stages, one after the other: a list, or a mapping with the keys 0, 1, 2 ..."""

    @classmethod
    def translator(cls) -> Translator:
        """Options at the top level, and published names, to their sections."""
        classes = {name: field.annotation for name, field in cls.model_fields.items()}
        sections = {
            name: kind for name, kind in classes.items() if isinstance(kind, type) and issubclass(kind, BaseModel)
        }
        return Translator(sections, list(cls.model_fields))

    @classmethod
    def translated(cls, data: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
        """``data`` with every option in its section, and what is wrong with it."""
        return cls.translator().translated(data)

    @classmethod
    def further_names(cls) -> list[str]:
        """Names that the top level may have besides its own."""
        return cls.translator().names()

    @field_validator("train_schedule", mode="before", json_schema_input_type=list[Stage] | dict[_Number, Stage])
    @classmethod
    def _schedule_as_list(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        numbers = list(range(len(value)))
        if sorted(value, key=str) != sorted(numbers, key=str):
            raise ValueError(f"the stages must be numbered 0, 1, 2 ...; got {list(value)}")
        return [value[number] for number in numbers]

    @field_validator("train_schedule")
    @classmethod
    def _consecutive(cls, stages: list[Stage]) -> list[Stage]:
        begin = 0
        for number, stage in enumerate(stages):
            label = f"stage {number} ('{stage.name}')"
            if stage.epochs is None:
                if stage.start is None or stage.end is None:
                    raise ValueError(f"{label}: give epochs, or start and end")
                stage.epochs = stage.end - stage.start + 1
            if stage.start is not None and stage.start != begin:
                raise ValueError(
                    f"{label}: start is {stage.start}, expected {begin} (the epoch after the stage before)"
                )
            if stage.end is not None and stage.end != begin + stage.epochs - 1:
                raise ValueError(f"{label}: end is {stage.end}, expected {begin + stage.epochs - 1}; end counts itself")
            if stage.epochs <= 0:
                raise ValueError(f"{label}: end {stage.end} is before start {stage.start}")
            stage.start, stage.end = begin, begin + stage.epochs - 1
            begin += stage.epochs
        return stages

    @model_validator(mode="after")
    def _labels_for_losses(self) -> TrainConfig:
        mapped = self.data.keys.model_dump()
        for number, stage in enumerate(self.train_schedule):
            options = stage.fixed_point_training_options
            constant_charge = options.scf is None or options.scf.constant_charge
            for name in stage.loss.active():
                reason = missing_label(name, mapped) or unavailable(name, options.mode, constant_charge)
                if reason:
                    raise ValueError(f"train_schedule.{number}.loss.{name} {reason}")
            if not stage.loss.active():
                raise ValueError(f"train_schedule.{number}.loss has no term with a weight above zero")
            density = self.data.keys.atomic_multipoles or self.data.keys.charges
            if stage.fixed_point_training_options.mode == "direct" and density is None:
                raise ValueError(f"train_schedule.{number}: mode 'direct' needs data.keys.atomic_multipoles")
        return self
