"""Options of the terms of the loss: how they are written, and what a term needs of labels and modes."""

import pytest
from fp_potential.train.config.schema import validate
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import Keys, LossWeights, load_config
from fp_potential.train.potential.config.loss import missing_label, unavailable
from fp_potential.train.potential.modes.predict import MODES

from training_data import KEYS, training_file


def test_a_weight_with_and_without_options() -> None:
    loss = validate({"forces": 3, "esps": {"weight": 2.0, "huber": 0.1}, "dipole": {"weight": 0.5}}, LossWeights, "x")
    assert loss.active() == {"forces": 3.0, "dipole": 0.5, "esps": 2.0}
    assert loss.terms()["esps"].huber == 0.1 and loss.forces.huber is None
    # written as it is read
    written = loss.model_dump(mode="json")
    assert written["forces"] == 3.0 and written["dipole"] == 0.5 and written["stress"] == 0.0
    assert written["esps"] == {"weight": 2.0, "huber": 0.1}
    assert validate(written, LossWeights, "x") == loss


def test_every_term_may_be_a_number_in_the_schema_of_editors() -> None:
    schema = LossWeights.model_json_schema()
    for name, content in schema["properties"].items():
        assert {"type": "number"} in content["anyOf"], name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"forces": {"weigth": 1.0}}, r"unknown option 'forces\.weigth'; did you mean 'weight'"),
        ({"forces": -1.0}, r"option 'forces\.weight': input should be greater than or equal to 0"),
        ({"forces": "much"}, r"option 'forces'"),
        ({"forces": {"weight": 1.0, "huber": 0}}, r"option 'forces\.huber': input should be greater than 0"),
        ({"fermi_level_gradient": {"weight": 1.0, "huber": 1.0}}, r"unknown option 'fermi_level_gradient\.huber'"),
        ({"fixedpoint_scf_stability": {"beta": -1.0}}, r"fixedpoint_scf_stability\.beta"),
        ({"forces_per_atom": 1.0}, "did you mean"),
    ],
)
def test_what_is_wrong_is_named(content: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        validate(content, LossWeights, "x")


def test_labels_that_a_term_needs() -> None:
    nothing = Keys().model_dump()
    without = {"total_charge", "total_charge_per_atom", "legendre", "fermi_level_gradient", "metallic_softness"}
    without |= {"fragment_response", "dipole_softness"}
    without |= {"fixedpoint_scf_stability", "final_terms_fixedpoint_scf_stability"}
    for name in LossWeights.model_fields:
        assert (missing_label(name, nothing) is None) == (name in without), name
    assert missing_label("dipole_per_atom", nothing) == "needs the label data.keys.dipole, which is not mapped"
    either = missing_label("esps", nothing)
    assert either and "data.keys.electrostatic_potentials or data.keys.atomic_multipoles" in either
    assert missing_label("esps", nothing | {"atomic_multipoles": "m"}) is None
    assert missing_label("field_features", nothing | {"electrostatic_potentials": "v"}) is not None
    only_molecules = missing_label("molecular_forces", nothing | {"molecules": "molID"})
    assert only_molecules and "data.keys.forces" in only_molecules


def test_modes_that_a_term_exists_in() -> None:
    for mode in MODES:
        for name in LossWeights.model_fields:
            reason = unavailable(name, mode, True, "SplitChargeUpdate")
            if name in ("polarizability", "born_charges", "legendre", "fragment_response"):
                assert (reason is not None) == (mode == "direct")
            elif name == "final_terms_fixedpoint_scf_stability":
                assert (reason is not None) == (mode != "unroll_scf")
            else:
                assert reason is None
    assert "constant_charge: true" in str(unavailable("legendre", "implicit", False, "SymmetricUpdate"))
    assert "SplitChargeUpdate" in str(unavailable("metallic_softness", "implicit", True, "SymmetricUpdate"))


def test_a_training_file_with_a_term_that_cannot_be_had(tmp_path) -> None:
    def stages(mode: str, loss: dict, **scf) -> list[dict]:
        options = {"mode": mode}
        if mode != "direct":
            options["scf"] = {"num_scf_steps": 5, "mixing_parameter": 0.3, **scf}
        return [{"name": "one", "epochs": 1, "loss": loss, "fixed_point_training_options": options}]

    def load(mode: str, loss: dict, **scf):
        return load_config(training_file(tmp_path, tmp_path / "none.xyz", train_schedule=stages(mode, loss, **scf)))

    assert load("unroll_scf", {"final_terms_fixedpoint_scf_stability": {"weight": 2.0}, "esps": 1.0, "legendre": 1.0})
    with pytest.raises(InputError, match=r"train_schedule\.0\.loss\.polarizability needs the label data\.keys\.polar"):
        load("implicit", {"polarizability": 1.0})
    with pytest.raises(InputError, match=r"train_schedule\.0\.loss\.legendre is a derivative of the self-consistent"):
        load("direct", {"legendre": 1.0})
    with pytest.raises(InputError, match=r"takes no steps that could be differentiated"):
        load("linearize_solve", {"final_terms_fixedpoint_scf_stability": 1.0})
    with pytest.raises(InputError, match=r"constant_charge: true"):
        load("implicit", {"legendre": 1.0, "energy_per_atom": 1.0}, constant_charge=False)
    assert set(KEYS) & {"electrostatic_potentials"} == set()
