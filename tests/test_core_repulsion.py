"""Pairs nearer than any of the training set repel."""

import numpy as np
import pytest
import torch

from fp_potential.model import FixedPointPotential
from fp_potential.options import ModelOptions, ModelStatistics
from structures import ELEMENTS, evaluate, make_model, to_graph, water_cluster

ATOMIC_ENERGIES = {1: -13.0, 8: -430.0, 11: -5.0, 17: -450.0}


def repelling(nearest: float, strength: float) -> FixedPointPotential:
    """The shared small model with one shortest distance for O-O."""
    distances = np.zeros((4, 4))
    distances[1, 1] = nearest
    torch.manual_seed(0)
    options = ModelOptions(
        num_channels=6,
        radial_MLP=[16],
        readout_channels=6,
        r_max=4.0,
        fixedpoint_initial_charge_head_scale=0.2,
        core_repulsion=strength,
    )
    statistics = ModelStatistics(
        atomic_energies=ATOMIC_ENERGIES,
        avg_num_neighbors=15.0,
        field_feature_norms=[9.0, 9.0, 0.6, 0.6],
        fermi_level_offset=-2.0,
        minimum_distances=distances.tolist(),
    )
    return FixedPointPotential(options, ELEMENTS, statistics).double()


def test_energy_and_forces_of_a_close_pair() -> None:
    atoms = water_cluster(2)
    oxygens = [k for k, z in enumerate(atoms.numbers) if z == 8]
    distance = atoms.get_distance(*oxygens)
    plain = make_model(0)
    for nearest, expected in ((0.9 * distance, 0.0), (1.25 * distance, 200.0 * 0.2**3)):
        model = repelling(nearest, 200.0)
        graph = to_graph(atoms, model)
        out, without = evaluate(model, graph), evaluate(plain, graph)
        assert (out["energy"] - without["energy"]).item() == pytest.approx(expected, abs=1e-9)
        change = (out["forces"] - without["forces"]).numpy()
        along = atoms.get_distance(*oxygens, vector=True) / distance
        size = 3 * 200.0 * 0.2**2 / nearest if expected else 0.0
        assert change[oxygens[1]] == pytest.approx(size * along, abs=1e-9)
        assert change[oxygens[0]] == pytest.approx(-size * along, abs=1e-9)
