"""Every option of the response and of the read-outs does what its description says, also as text."""

import pytest
import torch
from ase import Atoms
from pydantic import ValidationError

from fp_potential.options import ModelOptions, ReadoutOptions, UpdateOptions
from fp_potential.options.base import from_text
from structures import (
    evaluate,
    local_state,
    make_model,
    to_graph,
    water_cluster,
)


def response(update, atoms=None, seed=3, **options):
    """p - p_loc of an update as a function of the raw field ``(n, 2, 4)``."""
    model = make_model(seed, fixedpoint_update_config=update, **options)
    state = local_state(model, water_cluster(2) if atoms is None else atoms)
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
    update, state = model.solver.density_map.response, local_state(model, water_cluster(2))

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


def nonlocal_energy(kind, density_scale=1.0, field_scale=1.0, others=0.0, **options):
    """Energies per atom of a read-out; ``others`` is added to the densities of all atoms but the first."""
    model = make_model(3, field_readout_config={"type": kind}, **options)
    state = local_state(model, water_cluster(1))
    nothing = torch.zeros(3, dtype=torch.float64)
    p = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    p[1:] += others
    p_loc = 0.1 * field(3, 2)[:, 0] if density_scale == 1.0 else torch.zeros_like(p)
    state = state._replace(density=p_loc)
    return model.nonlocal_energy(state, density_scale * p, field_scale * field(3), nothing, False).detach()


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
