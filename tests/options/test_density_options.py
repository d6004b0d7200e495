"""Every option of the density, its field features and its parts does what its description says."""

import math

import numpy as np
import pytest
import torch
from ase import Atoms
from pydantic import ValidationError

from fp_potential.export import export_model, load_model, run_model
from fp_potential.graph import collate
from fp_potential.options import ModelOptions, ModelStatistics
from fp_potential.units import COULOMB, GRADIENT_FEATURE, SCALAR_FEATURE
from matrices import partly_slow
from structures import (
    UPDATES,
    dense_jacobian,
    evaluate,
    local_state,
    make_model,
    salt_water_box,
    solved,
    to_graph,
    water_cluster,
)


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
    state = local_state(model, water_cluster(2)).response
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
    if name not in ("symmetric", "split charge", "insulator") or density <= field
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
        densities.append(local_state(model, water_cluster(1)).density)
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
    one, other = local_state(small, water_cluster(2)), local_state(large, water_cluster(2))
    # weights are drawn in single precision
    assert torch.allclose(100 * one.density, other.density, rtol=1e-4, atol=1e-7)
    assert torch.allclose(100 * one.response.matrix, other.response.matrix, rtol=1e-4, atol=1e-7)
