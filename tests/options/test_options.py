"""Every option of the architecture does what its description says."""

import math

import numpy as np
import pytest
import torch
from ase import Atoms
from pydantic import ValidationError

from fp_potential.export import export_model, load_model, run_model
from fp_potential.graph import collate
from fp_potential.options import ModelOptions, ModelStatistics, ReadoutOptions, UpdateOptions
from fp_potential.options.base import from_text
from fp_potential.units import COULOMB, GRADIENT_FEATURE, SCALAR_FEATURE
from matrices import partly_slow
from structures import (
    UPDATES,
    dense_jacobian,
    evaluate,
    make_model,
    salt_water_box,
    solved,
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


def local(model, atoms):
    """What the geometry alone decides."""
    graph = to_graph(atoms, model)
    i, j = graph.edge_index
    return model.local(graph, graph.positions[j] + graph.edge_shifts - graph.positions[i])


def central(model, *neighbours):
    """Scalars of an oxygen among hydrogens at the given places."""
    return features(model, Atoms("O" + "H" * len(neighbours), [[0, 0, 0], *neighbours]))[0, 0]


def ring(angle):
    return [1.5 * math.cos(angle), 1.5 * math.sin(angle), 0.0]


# ---- backbone --------------------------------------------------------------------------------------------------------


def test_r_max_ends_the_local_energy():
    model = make_model(r_max=3.0)
    near, beyond, far = (local(model, Atoms("OH", [[0, 0, 0], [d, 0, 0]])).energy for d in (2.9, 3.1, 9.0))
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
    start = local(model, chain).energy[0]
    for moved in (1, 2, 3):
        other = chain.copy()
        other.positions[moved, 1] += 0.3
        assert (local(model, other).energy[0] != start) == (moved <= layers)


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


# ---- density and electrostatics --------------------------------------------------------------------------------------


def ion(model, charge=0.7):
    """An isolated sodium with a charge."""
    return evaluate(model, to_graph(Atoms("Na"), model, total_charge=charge))


@pytest.mark.parametrize("sigma", [1.0, 1.5])
@pytest.mark.parametrize("included", [True, False])
def test_smearing_width_and_self_interaction(sigma, included):
    """A charge of Gaussian width σ has the energy k q² / (2 σ √π) in its own potential; no dipole: no polarisation."""
    model = make_model(atomic_multipoles_smearing_width=sigma, include_electrostatic_self_interaction=included)
    expected = COULOMB * 0.7**2 / (2 * sigma * math.sqrt(math.pi)) if included else 0.0
    assert ion(model)["energy_coulomb"].item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("l_max", "power"), [((1, 1), 2.0), ((0, 0), 1.0), ((0, 1), 2.0), ((1, 0), 2.0)])
def test_kspace_cutoff_factor(l_max, power):
    """k_c = factor · 2.25 (l_max + 1)^0.3 / smallest width, l_max of density and features; sums converge with it."""
    options = {"atomic_multipoles_max_l": l_max[0], "field_feature_max_l": l_max[1]}
    models = [make_model(kspace_cutoff_factor=factor, **options) for factor in (0.4, 1.5, 2.5)]
    found = [model.electrostatics.kspace_cutoff for model in models]
    assert found == pytest.approx([factor * 2.25 * power**0.3 / 1.5 for factor in (0.4, 1.5, 2.5)])
    energies = [evaluate(model, to_graph(salt_water_box(), model))["energy"].item() for model in models]
    assert abs(energies[1] - energies[2]) < 1e-3 * abs(energies[0] - energies[2])


def features_of_a_charge(distance=3.0, **options):
    """Un-normalised field features at a neutral atom at a distance from a unit charge, along x."""
    model = make_model(**options)
    graph = to_graph(Atoms("ONa", [[0, 0, 0], [distance, 0, 0]]), model)
    density = torch.zeros(2, 4, dtype=torch.float64)
    density[1, 0] = 1.0
    return model.field_features(graph, density, torch.zeros(1, dtype=torch.float64))


def test_field_feature_widths_are_those_of_the_receivers():
    found = features_of_a_charge(field_feature_widths=[1.0, 2.0, 3.5])
    assert found.shape == (2, 3, 4)
    for n, width in enumerate((1.0, 2.0, 3.5)):
        combined = math.sqrt(1.5**2 + width**2)
        b0 = math.erf(3.0 / (math.sqrt(2) * combined)) / 3.0
        b1 = (b0 - math.sqrt(2 / math.pi) / combined * math.exp(-(3.0**2) / (2 * combined**2))) / 9.0
        assert found[0, n, 0].item() == pytest.approx(SCALAR_FEATURE * COULOMB * b0, rel=1e-12)
        assert found[0, n, 3].item() == pytest.approx(GRADIENT_FEATURE * width * COULOMB * 3.0 * b1, rel=1e-12)


def test_include_field_si_keeps_the_own_potential():
    """On the charge itself: sqrt(4π) k √(2/π) / W, or nothing."""
    expected = SCALAR_FEATURE * COULOMB * math.sqrt(2 / math.pi) / math.sqrt(1.5**2 + 3.0**2)
    assert features_of_a_charge(include_field_si=False)[1, 1, 0].item() == pytest.approx(0.0, abs=1e-12)
    assert features_of_a_charge(include_field_si=True)[1, 1, 0].item() == pytest.approx(expected, rel=1e-12)


def test_field_feature_max_l_leaves_out_gradients():
    assert features_of_a_charge(field_feature_max_l=0)[0, :, 1:].abs().max() == 0
    model = make_model(field_feature_max_l=0, fixedpoint_update_config={"nonlinearity_cls": "MLPNonLinearity"})
    state = local(model, water_cluster(2)).response
    u = torch.randn(6, 2, 4, dtype=torch.float64)
    other = torch.cat([u[:, :, :1], torch.randn(6, 2, 3, dtype=torch.float64)], dim=2)
    update = model.solver.density_map.response
    assert torch.equal(update.density(state, u, False), update.density(state, other, False))
    assert not torch.equal(update.density(state, u, False), update.density(state, 2 * u, False))


def test_field_feature_norms_divide_features():
    graph_of = salt_water_box()
    model = make_model()  # norms 9 for l = 0 and 0.6 for l = 1
    graph = to_graph(graph_of, model)
    out = evaluate(model, graph)
    level = out["fermi_level"] - model.fermi_level_offset
    raw = model.field_features(graph, out["density"], level)
    norms = torch.tensor([9.0, 0.6, 0.6, 0.6], dtype=torch.float64)
    assert torch.allclose(out["field_features"], raw / norms, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "number"), [({}, 4), ({"field_feature_max_l": 0}, 2), ({"field_feature_widths": [1, 2, 3]}, 6)]
)
def test_field_feature_norms_are_one_per_l_and_width(options, number):
    assert ModelOptions(field_feature_norms=[1.0] * number, **options).number_of_norms == number
    with pytest.raises(ValidationError, match=f"must hold {number} positive numbers"):
        ModelOptions(field_feature_norms=[1.0] * (number + 1), **options)
    with pytest.raises(ValidationError, match="positive"):
        ModelOptions(field_feature_norms=[0.0] * number, **options)


def test_fermi_level_offset_shifts_levels_and_nothing_else():
    """mu_0 is a number of the statistics; training takes it from the option (`test_option_effects`)."""
    one, other = make_model(), make_model()
    other.fermi_level_offset = one.fermi_level_offset + 3.0
    outs = [evaluate(model, to_graph(salt_water_box(), model, total_charge=0.3)) for model in (one, other)]
    assert (outs[1]["fermi_level"] - outs[0]["fermi_level"]).item() == pytest.approx(3.0, abs=1e-12)
    assert torch.equal(outs[0]["energy"], outs[1]["energy"]) and torch.equal(outs[0]["density"], outs[1]["density"])


# ---- charges without dipoles -----------------------------------------------------------------------------------------

MIXERS = {
    "many-body, mixers": {
        "type": "ManyBodyUpdate",
        "use_sc": False,
        "central_atom_mixer_cls": "NoMixer",
        "central_atom_feats_mixer_cls": "AdditiveFieldMixer",
    }
}
LEFT_OUT = [
    (name, density, field)
    for name in {**UPDATES, **MIXERS}
    for density, field in ((0, 0), (0, 1), (1, 0))
    if name != "symmetric" or density <= field
] + [("many-body, mixers", 1, 1)]
#: one of the ways to leave something out for every update, all of them for the default and the symmetric one
IN_TURN = [case for number, case in enumerate(LEFT_OUT) if number % 4 == 0 or case[0] in ("skip path", "symmetric")]


@pytest.mark.parametrize(("name", "density", "field"), partly_slow(LEFT_OUT, lambda *case: case in IN_TURN))
def test_what_is_left_out_is_nowhere_and_the_rest_is_consistent(name, density, field, tmp_path):
    """No dipoles, no gradients; forces are derivatives of the energy; the archive says the same."""
    model = make_model(
        3,
        fixedpoint_update_config={**UPDATES, **MIXERS}[name],
        atomic_multipoles_max_l=density,
        field_feature_max_l=field,
    )
    atoms = salt_water_box()
    inputs = {"total_charge": 0.3}
    out = evaluate(model, to_graph(atoms, model, **inputs))
    assert out["status"].tolist() == [0] and out["total_charge"].item() == pytest.approx(0.3, abs=1e-10)
    assert bool((out["density"][:, 1:] != 0).any()) == (density == 1)
    assert bool((out["field_features"][:, :, 1:] != 0).any()) == (field == 1)
    displacement = np.random.default_rng(1).normal(size=(len(atoms), 3))
    energies = []
    for factor in (-2, -1, 1, 2):
        moved = atoms.copy()
        moved.positions += 1e-4 * factor * displacement
        energies.append(evaluate(model, to_graph(moved, model, **inputs), compute_forces=False)["energy"].item())
    slope = (energies[0] - 8 * energies[1] + 8 * energies[2] - energies[3]) / 12e-4
    assert slope == pytest.approx(-(out["forces"].numpy() * displacement).sum(), abs=1e-6)
    export_model(model, tmp_path / "model.pt")
    module, _ = load_model(tmp_path / "model.pt")
    batch = collate([to_graph(a, model, **inputs) for a in (atoms, water_cluster(2))])
    start = (torch.zeros(0, 4, dtype=torch.float64), torch.zeros(0, dtype=torch.float64))
    loaded = run_model(module, *batch, 80, 1e-11, 0.3, "anderson", True, True, *start)
    assert torch.allclose(loaded["energy"][0], out["energy"][0], rtol=1e-12)


def test_a_start_with_dipoles_does_not_bring_them_in():
    model = make_model(atomic_multipoles_max_l=0)
    graph = to_graph(water_cluster(2), model)
    start = torch.full((6, 4), 0.1, dtype=torch.float64)
    out = evaluate(model, graph, initial_density=start, num_scf_steps=3, scf_tolerance=1e-20)
    assert out["density"][:, 1:].abs().max() == 0
    level = torch.zeros(1, dtype=torch.float64)
    without = torch.cat([start[:, :1], torch.zeros(6, 3, dtype=torch.float64)], dim=1)
    assert torch.equal(model.field_features(graph, start, level), model.field_features(graph, without, level))


@pytest.mark.parametrize("factor", [1.0, 30.0])
def test_symmetric_response_of_charges_is_positive_and_stable(factor):
    """The softness is one positive number per atom, however large the weights; eigenvalues of the loop are below 1."""
    update = {"type": "SymmetricUpdate"}
    model = make_model(4, fixedpoint_update_config=update, atomic_multipoles_max_l=0)
    with torch.no_grad():
        for parameter in model.solver.density_map.response.parameters():
            parameter.mul_(factor)
    graph = to_graph(salt_water_box(), model, total_charge=0.3)
    problem, density, level = solved(model, graph)
    matrix = problem.state.matrix
    assert bool((matrix[:, 0, 0, 0] < 0).all())
    others = matrix.clone()
    others[:, 0, 0, 0] = 0.0
    assert others.abs().max() == 0
    charges = np.arange(0, 4 * len(density), 4)
    jacobian = dense_jacobian(model, problem, density, level)[np.ix_(charges, charges)]
    eigenvalues = np.linalg.eigvals(jacobian)
    assert eigenvalues.real.max() < 1 and np.abs(eigenvalues.imag).max() < 1e-6


def test_symmetric_dipoles_need_gradients():
    with pytest.raises(ValidationError, match="answers with dipoles to the gradient"):
        ModelOptions(field_feature_max_l=0, fixedpoint_update_config={"type": "SymmetricUpdate"})
    with pytest.raises(ValueError, match="expected 2 field-feature norms"):
        statistics = ModelStatistics(atomic_energies={1: 0.0}, avg_num_neighbors=1.0, field_feature_norms=[1.0] * 4)
        type(make_model())(ModelOptions(field_feature_max_l=0), [1], statistics)


# ---- local density ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("l_max", [0, 1])
def test_use_linear_local_charges(l_max):
    h = torch.randn(3, 4, 6, dtype=torch.float64)
    species = torch.tensor([0, 1, 0])
    for linear in (True, False):
        model = make_model(use_linear_local_charges=linear, atomic_multipoles_max_l=l_max)
        head = model.density_readouts[0]
        doubled = torch.allclose(head(2 * h, species), 2 * head(h, species), rtol=1e-12)
        assert doubled == linear
        assert bool((head(h, species)[:, 1:] != 0).any()) == (l_max == 1)


def test_atom_density_scaling_scales_the_elements():
    options = {"use_linear_local_charges": True, "num_channels": 6, "radial_MLP": [16], "r_max": 4.0}
    energies, densities = {1: 0.0, 8: 0.0}, []
    for scaling in ({}, {1: 0.5, 8: 2.0}):
        torch.manual_seed(0)
        statistics = ModelStatistics(
            atomic_energies=energies, avg_num_neighbors=5.0, field_feature_norms=[1.0] * 4, density_scaling=scaling
        )
        model = type(make_model())(ModelOptions(**options), [1, 8], statistics).double()
        densities.append(local(model, water_cluster(1)).density)
    ratio = torch.tensor([[2.0], [0.5], [0.5]], dtype=torch.float64)  # O H H
    assert torch.allclose(densities[1], ratio * densities[0], rtol=1e-12)
    with pytest.raises(ValidationError, match="belongs to `use_linear_local_charges: true`"):
        ModelOptions(atom_density_scaling="average")


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("l_max", [0, 1])
def test_initial_charge_head_scale_multiplies_density_and_response(linear, l_max):
    update = {"polarize_symmetric_sites": False}
    settings = {"use_linear_local_charges": linear, "atomic_multipoles_max_l": l_max}
    settings |= {"fixedpoint_update_config": update}
    small, large = (make_model(fixedpoint_initial_charge_head_scale=s, **settings) for s in (0.01, 1.0))
    one, other = local(small, water_cluster(2)), local(large, water_cluster(2))
    # weights are drawn in single precision
    assert torch.allclose(100 * one.density, other.density, rtol=1e-4, atol=1e-7)
    assert torch.allclose(100 * one.response.matrix, other.response.matrix, rtol=1e-4, atol=1e-7)


# ---- response --------------------------------------------------------------------------------------------------------


def response(update, atoms=None, seed=3, **options):
    """p - p_loc of an update as a function of the raw field ``(n, 2, 4)``."""
    model = make_model(seed, fixedpoint_update_config=update, **options)
    state = local(model, water_cluster(2) if atoms is None else atoms)
    density_map = model.solver.density_map
    return lambda u: (density_map.response.density(state.response, u, False) - state.density).detach()


def field(n=6, seed=0):
    return torch.randn(n, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def is_affine(change):
    u = field()
    return bool((change(u) - 2 * change(0 * u) + change(-u)).abs().max() < 1e-10)


@pytest.mark.parametrize("kind", ["OneBodyVariableUpdate", "ManyBodyUpdate"])
def test_potential_embedding_cls(kind):
    """Without a field the linear and the saturating embedding answer nothing; the last one has a limit."""
    nothing = torch.zeros(6, 2, 4, dtype=torch.float64)
    own = {"type": kind, "polarize_symmetric_sites": False}
    changes = {
        name: response(own | {"potential_embedding_cls": f"{name}PotentialEmbedding"})
        for name in ("BiasedLinear", "Linear", "Tanh")
    }
    answers = {name: change(nothing).abs().max() > 1e-6 for name, change in changes.items()}
    assert answers == {"BiasedLinear": True, "Linear": False, "Tanh": False}
    grows = {
        name: change(1e6 * field()).abs().max() / change(1e5 * field()).abs().max() for name, change in changes.items()
    }
    assert grows["Linear"] == pytest.approx(10) and grows["Tanh"] == pytest.approx(1, abs=1e-3)
    assert UpdateOptions(type=kind).embedding == ("Biased" if kind[0] == "O" else "") + "LinearPotentialEmbedding"


@pytest.mark.parametrize("kind", ["OneBodyVariableUpdate", "ManyBodyUpdate"])
def test_nonlinearity_cls(kind):
    assert is_affine(response({"type": kind, "nonlinearity_cls": "NoNonLinearity"}))
    assert not is_affine(response({"type": kind, "nonlinearity_cls": "MLPNonLinearity"}))


def test_type_decides_whose_field_an_atom_answers_to():
    u = field()
    moved = u.clone()
    moved[1:] += 1.0
    for kind, answers in (("OneBodyVariableUpdate", False), ("SymmetricUpdate", False), ("ManyBodyUpdate", True)):
        change = response({"type": kind})
        assert bool((change(moved) - change(u))[0].abs().max() > 1e-8) == answers


@pytest.mark.parametrize("polarize", [True, False])
def test_polarize_symmetric_sites(polarize):
    change = response({"polarize_symmetric_sites": polarize}, Atoms("Na"))
    gradient = torch.zeros(1, 2, 4, dtype=torch.float64)
    gradient[:, :, 2] = 0.1
    induced = change(gradient) - change(0 * gradient)
    assert bool(induced[0, 2].abs() > 1e-6) == polarize and induced[0, [1, 3]].abs().max() == 0


def test_monotone_charge():
    """dq/dμ <= 0 on every atom for any weights, which the free response does not promise."""
    raised = field().clone()
    raised[:, :, 0] += 0.3
    signs = {}
    for monotone in (True, False):
        slopes = [
            (change(raised) - change(field()))[:, 0]
            for seed in range(5)
            for update in [{"monotone_charge": monotone, "polarize_symmetric_sites": False}]
            for change in [response(update, seed=seed)]
        ]
        signs[monotone] = bool((torch.cat(slopes) < 0).all())
    assert signs == {True: True, False: False}


BARE = {"type": "ManyBodyUpdate", "polarize_symmetric_sites": False}
NO_CENTRE = {"central_atom_mixer_cls": "NoMixer", "use_sc": False}


@pytest.mark.parametrize(
    ("options", "answers"),
    [
        (NO_CENTRE, False),
        (NO_CENTRE | {"use_sc": True}, True),
        (NO_CENTRE | {"central_atom_mixer_cls": "AdditiveFieldMixer"}, True),
    ],
)
def test_own_field_comes_through_the_self_connection_and_the_central_atom_mixer(options, answers):
    change = response(BARE | options, Atoms("Na"))
    assert bool((change(field(1)) - change(0 * field(1))).abs().max() > 1e-8) == answers


@pytest.mark.parametrize(("mixer", "answers"), [("NoMixer", False), ("AdditiveFieldMixer", True)])
def test_central_atom_feats_mixer_cls(mixer, answers):
    """With it, the features answer where there is no field."""
    change = response(BARE | {"central_atom_feats_mixer_cls": mixer})
    assert bool(change(0 * field()).abs().max() > 1e-8) == answers
    assert is_affine(change)


def test_interaction_cls_divides_by_the_number_of_neighbours():
    model = make_model(3, fixedpoint_update_config=BARE | NO_CENTRE)
    update, state = model.solver.density_map.response, local(model, water_cluster(2))

    def answer():
        return update.density(state.response, field(), False) - state.density

    once = answer()
    update.message.interaction.inverse_neighbours /= 2.0
    assert torch.allclose(2 * answer(), once, rtol=1e-10) and once.abs().max() > 1e-8


def test_correlation_of_the_response():
    assert is_affine(response(BARE | {"correlation": 1}))
    assert not is_affine(response(BARE | {"correlation": 2}))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"correlation": 2}, "`correlation`: only for type: ManyBodyUpdate"),
        ({"central_atom_mixer_cls": "NoMixer"}, "`central_atom_mixer_cls`: only for type: ManyBodyUpdate"),
        ({"type": "SymmetricUpdate", "monotone_charge": True}, "SymmetricUpdate has no such options .*monotone_charge"),
        ({"type": "OneBodyMonotoneChargeUpdate"}, "`monotone_charge: true`"),
        ({"type": "OneBodyScaledNonLinearUpdate"}, "`polarize_symmetric_sites: true`"),
        ({"nonlinearity_cls": "ShallowNonLinearity"}, "use MLPNonLinearity"),
        ({"nonlinearity_cls": "SkipMLPLinearity"}, "use MLPNonLinearity"),
        ({"type": "ManyBodyUpdate", "central_atom_mixer_cls": "UncoupledProductMixer"}, "use AdditiveFieldMixer"),
        (
            {"type": "ManyBodyUpdate", "interaction_cls": "RealAgnosticDensityResidualInteractionBlock"},
            "divided by `avg_num_neighbors`",
        ),
        ({"type": "TwoBodyUpdate"}, "Input should be 'OneBodyVariableUpdate'"),
    ],
)
def test_updates_that_do_not_exist(options, expected):
    with pytest.raises(ValidationError, match=expected):
        UpdateOptions(**options)


# ---- non-local energy ------------------------------------------------------------------------------------------------


def nonlocal_energy(kind, density_scale=1.0, field_scale=1.0, others=0.0, **options):
    """Energies per atom of a read-out; ``others`` is added to the densities of all atoms but the first."""
    model = make_model(3, field_readout_config={"type": kind}, **options)
    state = local(model, water_cluster(1))
    p = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    p[1:] += others
    p_loc = 0.1 * field(3, 2)[:, 0] if density_scale == 1.0 else torch.zeros_like(p)
    return model.nonlocal_energy(state.readout, p_loc, density_scale * p, field_scale * field(3), False).detach()


def test_null_readout_and_include_local_electron_energy():
    assert nonlocal_energy("NullFieldReadout").abs().max() == 0
    kind = "StrictQuadraticFieldEnergyReadout"
    assert nonlocal_energy(kind, include_local_electron_energy=False).abs().max() == 0
    assert nonlocal_energy(kind).abs().max() > 0
    model = make_model(include_local_electron_energy=False)
    assert evaluate(model, to_graph(water_cluster(1), model))["energy_nonlocal"].item() == 0


def test_strict_quadratic_readout_is_bilinear():
    kind = "StrictQuadraticFieldEnergyReadout"
    once = nonlocal_energy(kind, 1.0 + 1e-9)  # without p_loc
    assert torch.allclose(nonlocal_energy(kind, 2.0), 2 * once, rtol=1e-8)
    assert torch.allclose(nonlocal_energy(kind, 2.0, 3.0), 6 * once, rtol=1e-8)


@pytest.mark.parametrize(
    ("kind", "of_field", "of_others"),
    [
        ("OneBodyMLPFieldReadout", True, False),
        ("ManyBodyChargesReadout", False, True),
        ("ManyBodyChargesFieldReadout", True, True),
    ],
)
def test_what_the_other_readouts_see(kind, of_field, of_others):
    base = nonlocal_energy(kind)
    assert bool((nonlocal_energy(kind, field_scale=2.0) != base).any()) == of_field
    assert bool(nonlocal_energy(kind, others=0.3)[0] != base[0]) == of_others
    doubled = nonlocal_energy(kind, 2.0, 2.0) / nonlocal_energy(kind, 1.0 + 1e-9, 1.0)
    assert (doubled - doubled.round()).abs().max() > 1e-3  # no polynomial


@pytest.mark.parametrize("kind", ["LinearChargesEnergyReadout", "QuadraticChargesEnergyReadout"])
def test_readouts_that_do_not_exist(kind):
    with pytest.raises(ValidationError, match=f"{kind} does not exist here: use"):
        ReadoutOptions(type=kind)


# ---- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        ("field_feature_widths", "[1.0, 2.0]", [1.0, 2.0]),
        ("radial_MLP", "[64,64,64]", [64, 64, 64]),
        ("field_feature_norms", "None", None),
        ("field_feature_norms", "average", "average"),
        ("field_feature_norms", "[25.0,25.0,1.0,1.0]", [25.0, 25.0, 1.0, 1.0]),
        ("fermi_level_offset", "None", None),
        ("fermi_level_offset", "-3.5", -3.5),
        ("fixedpoint_update_config", "{'type': 'ManyBodyUpdate'}", UpdateOptions(type="ManyBodyUpdate")),
        ("field_readout_config", "{'type': 'NullFieldReadout'}", ReadoutOptions(type="NullFieldReadout")),
    ],
)
def test_lists_and_mappings_may_be_text(option, text, value):
    assert getattr(ModelOptions(**{option: text}), option) == value


def test_scales_of_elements_as_text():
    options = ModelOptions(use_linear_local_charges=True, atom_density_scaling="{1: 0.5, 8: 2.0}")
    assert options.atom_density_scaling == {"1": 0.5, "8": 2.0}
    assert ModelOptions(use_linear_local_charges=True, atom_density_scaling={1: 0.5}).atom_density_scaling == {"1": 0.5}


@pytest.mark.parametrize("text", ["[1.0, 2.0", "{'type': }", "(1,"])
def test_text_that_is_no_list(text):
    with pytest.raises(ValueError, match="not a list or mapping in Python's notation"):
        from_text(text)
