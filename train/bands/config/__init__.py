"""The training file of a pseudopotential: its options, their meaning, units and defaults."""

from .file import BandsTrainConfig, load_config
from .model import EnvelopeOptions, LocalOptions, ModelOptions, TermsOptions
from .objective import ObjectiveOptions
from .outputs import OutputOptions
from .systems import CellOptions, SystemOptions
from .training import (
    BandsStage,
    FitOptions,
    InitialiseOptions,
    MonteCarloOptions,
    PerturbationOptions,
    TrainingOptions,
)

__all__ = [
    "BandsStage",
    "BandsTrainConfig",
    "CellOptions",
    "EnvelopeOptions",
    "FitOptions",
    "InitialiseOptions",
    "LocalOptions",
    "ModelOptions",
    "MonteCarloOptions",
    "ObjectiveOptions",
    "OutputOptions",
    "PerturbationOptions",
    "SystemOptions",
    "TermsOptions",
    "TrainingOptions",
    "load_config",
]
