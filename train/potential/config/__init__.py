"""The training file: its options, their meaning, units and defaults.

``fixedpoint train --help-config`` prints this page. Sections: ``data`` (what to read), ``model`` (architecture,
`fp_potential.options.model.ModelOptions`), ``statistics`` (constants taken from the training set), ``training``
(optimiser and machine) and ``train_schedule`` (stages). Units: eV, Å, e, V; dipoles e·Å, fields V/Å,
stress eV/Å³.
"""

from ...data.options import DataOptions, Keys, Split, Units
from .file import TrainConfig, load_config
from .loss import LossWeights
from .schedule import FixedPointTrainingOptions, Stage
from .statistics import StatisticsOptions
from .training import InitialiseOptions, MonteCarloOptions, TrainingOptions

__all__ = [
    "DataOptions",
    "FixedPointTrainingOptions",
    "InitialiseOptions",
    "Keys",
    "LossWeights",
    "MonteCarloOptions",
    "Split",
    "Stage",
    "StatisticsOptions",
    "TrainConfig",
    "TrainingOptions",
    "Units",
    "load_config",
]
