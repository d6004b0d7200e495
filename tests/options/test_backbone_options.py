"""Every option of the backbone does what its description says."""

import math

import numpy as np
import pytest
import torch
from ase import Atoms
from pydantic import ValidationError

from fp_potential.options import ModelOptions, ModelStatistics
from structures import (
    local_state,
    make_model,
    to_graph,
    water_cluster,
)

ONE_LAYER = {"num_interactions": 1, "interaction_first": "RealAgnosticInteractionBlock"}


def features(model, atoms, layer=-1):
    """Features ``(n, (L+1)², C)`` of a layer."""
    graph = to_graph(atoms, model)
    i, j = graph.edge_index
    vectors = graph.positions[j] + graph.edge_shifts - graph.positions[i]
    return model.backbone(graph, model.backbone.neighbours(graph, vectors))[layer].detach()


def central(model, *neighbours):
    """Scalars of an oxygen among hydrogens at the given places."""
    return features(model, Atoms("O" + "H" * len(neighbours), [[0, 0, 0], *neighbours]))[0, 0]


def ring(angle):
    return [1.5 * math.cos(angle), 1.5 * math.sin(angle), 0.0]


def test_r_max_ends_the_local_energy():
    model = make_model(r_max=3.0)
    near, beyond, far = (local_state(model, Atoms("OH", [[0, 0, 0], [d, 0, 0]])).energy for d in (2.9, 3.1, 9.0))
    assert torch.equal(beyond, far) and not torch.equal(near, far)


def test_num_radial_basis_is_the_number_of_bessel_functions():
    distance = torch.tensor([1.7], dtype=torch.float64)
    few, many = (make_model(num_radial_basis=n).backbone.basis(distance) for n in (3, 7))
    assert few.shape == (1, 3) and many.shape == (1, 7) and torch.equal(many[:, :3], few)


@pytest.mark.parametrize("p", [4, 6])
def test_num_cutoff_basis_is_the_power_of_the_cutoff(p):
    model = make_model(num_cutoff_basis=p, r_max=4.0)
    u = 0.6
    envelope = 1 - (p + 1) * (p + 2) / 2 * u**p + p * (p + 2) * u ** (p + 1) - p * (p + 1) / 2 * u ** (p + 2)
    bessel = math.sqrt(2 / 4.0) * math.sin(math.pi * u) / (4.0 * u)
    found = model.backbone.basis(torch.tensor([4.0 * u], dtype=torch.float64))[0, 0].item()
    assert found == pytest.approx(bessel * envelope, rel=1e-12)


@pytest.mark.parametrize("max_ell", [1, 2, 3])
def test_max_ell_is_the_degree_in_the_cosine_of_an_angle(max_ell):
    """Of two neighbours, body order 3 makes a polynomial of degree max_ell in cos θ."""
    model = make_model(max_ell=max_ell, correlation=2, **ONE_LAYER)
    cosines = np.linspace(-0.9, 0.9, 9)
    values = torch.stack([central(model, ring(0.0), ring(math.acos(c))) for c in cosines]).numpy()
    for degree, fits in ((max_ell, True), (max_ell - 1, False)):
        rest = values - np.stack(
            [np.polyval(np.polyfit(cosines, column, degree), cosines) for column in values.T], axis=1
        )
        assert (np.abs(rest).max() < 1e-10 * np.abs(values).max()) == fits


@pytest.mark.parametrize("correlation", [1, 2, 3])
def test_correlation_is_the_number_of_neighbours_that_act_together(correlation):
    """The part of the features that only all of m neighbours make vanishes for m > correlation."""
    model = make_model(correlation=correlation, **ONE_LAYER)
    places = [ring(0.3), ring(1.9), [0.2, -0.4, 1.6], [-1.1, 0.5, -0.9]]

    def together(m):
        total = 0.0
        for chosen in range(2**m):
            subset = [places[k] for k in range(m) if chosen >> k & 1]
            total = total + (-1) ** (m - len(subset)) * central(model, *subset)
        return total.abs().max().item()

    assert together(correlation) > 1e-7
    assert together(correlation + 1) < 1e-14


def test_num_channels_and_max_L_are_the_shape_of_the_features():
    for channels, l_max in ((3, 1), (5, 2)):
        model = make_model(num_channels=channels, max_L=l_max)
        assert features(model, water_cluster(1)).shape == (3, (l_max + 1) ** 2, channels)
    with pytest.raises(ValidationError, match="`max_L`"):
        ModelOptions(max_L=2, max_ell=1)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_num_interactions_is_the_reach_in_cutoffs(layers):
    model = make_model(r_max=2.0, num_interactions=layers)
    chain = Atoms("OHHH", [[1.5 * k, 0, 0] for k in range(4)])
    start = local_state(model, chain).energy[0]
    for moved in (1, 2, 3):
        other = chain.copy()
        other.positions[moved, 1] += 0.3
        assert (local_state(model, other).energy[0] != start) == (moved <= layers)


def test_readout_channels_and_radial_MLP_are_sizes_of_networks():
    model = make_model(readout_channels=5, radial_MLP=[7, 9])
    assert [tuple(w.shape) for w in model.energy_readouts[-1].weights] == [(6, 5), (5, 1)]
    assert model.density_readouts[0].last.weight.shape == (2, 5, 1)
    assert [w.shape[1] for w in model.backbone.layers[0].interaction.radial.weights[:-1]] == [7, 9]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("later", [True, False])
def test_interactions_with_and_without_the_own_features(first, later):
    """Without neighbours there is no message: what is left is what a residual layer adds."""
    kinds = {True: "RealAgnosticResidualInteractionBlock", False: "RealAgnosticInteractionBlock"}
    model = make_model(interaction_first=kinds[first], interaction=kinds[later])
    assert bool((features(model, Atoms("O"), 0).abs() > 0).any()) == first
    assert bool((features(model, Atoms("O"), 1).abs() > 0).any()) == (first and later)


def test_avg_num_neighbors_divides_messages():
    single = make_model(correlation=1, **ONE_LAYER)
    options = ModelOptions(num_channels=6, radial_MLP=[16], readout_channels=6, r_max=4.0, correlation=1, **ONE_LAYER)
    energies = {1: 0.0, 8: 0.0, 11: 0.0, 17: 0.0}
    statistics = ModelStatistics(atomic_energies=energies, avg_num_neighbors=45.0, field_feature_norms=[1.0] * 4)
    thrice = type(single)(options, [1, 8, 11, 17], statistics).double()
    thrice.load_state_dict(single.state_dict())
    assert torch.allclose(3 * features(thrice, water_cluster(2)), features(single, water_cluster(2)), rtol=1e-12)
