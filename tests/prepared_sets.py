"""How tests write and read prepared sets."""

import functools

from fp_potential.train.data.prepared_writer import prepare as write_set
from fp_potential.train.potential.config import DataOptions
from fp_potential.train.potential.statistics import collect

from training_data import KEYS

CUTOFF = 3.5

prepare = functools.partial(write_set, collect=collect)


def options_of(*names, **changes):
    keys = KEYS | {"stress": "REF_stress"}
    content = {"files": [str(name) for name in names], "keys": keys, "split": {"key": "split"}, "valid_fraction": 0.3}
    return DataOptions(**content | changes)
