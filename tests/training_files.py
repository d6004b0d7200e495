"""A training file, and what is said about a wrong one."""

import pytest
from fp_potential.train.config.schema import validate
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import TrainConfig

EXAMPLE = """
data:
  files: data/*.xyz
  keys: {energy: E, forces: F, atomic_multipoles: M, dipole: D, total_charge: Q}
model: {r_max: 4.0}
train_schedule:
  0:
    name: direct
    start: 0
    end: 99
    loss:
      atomic_multipoles: 100.0
      total_charge_per_atom: 1000.0
      dipole_per_atom: 1000000.0
      energy_per_atom: 10.0
      forces: 100.0
    lr: 0.01
    fixed_point_training_options:
      mode: direct
  1:
    name: unroll
    start: 100
    end: 110
    loss:
      atomic_multipoles: 100.0
      total_charge_per_atom: 1000.0
      dipole_per_atom: {weight: 1000000.0}
      energy_per_atom: 1000.0
      forces: 100.0
    lr: 0.001
    fixed_point_training_options:
      mode: unroll_scf
      scf:
        num_scf_steps: 10
        constant_charge: true
        mixing_parameter: 0.3
        initial_density: from_data
        initial_fermi_level: from_data
        use_autograd_forces: true
"""


def message(data: dict) -> str:
    with pytest.raises(InputError) as caught:
        validate(data, TrainConfig, "train.yaml")
    return str(caught.value)
