"""Options of the known models."""

import pytest
import torch
from pydantic import ValidationError

from fp_potential.graph import collate
from fp_potential.reference import ChargeEquilibration, ReferenceOptions, exact_solution
from reference.systems import make, system


def test_built_in_parameters() -> None:
    model = ChargeEquilibration()
    assert model.elements == [1, 8, 11, 17, 29]
    assert model.slope[:, 0].tolist() == [4.528, 8.741, 2.843, 8.564, 4.48]
    assert model.stiffness[:, 1:].abs().max() == 0
    assert (make("both").stiffness > 0).all()
    assert make("dipoles").stiffness[:, 0].tolist() == [0.0] * 4


def test_own_parameters() -> None:
    iron = {"electronegativity": 4.0, "hardness": 3.8, "radius": 1.2}
    model = ChargeEquilibration(ReferenceOptions.model_validate({"elements": {"Fe": iron}, "polarizable": True}))
    assert model.elements == [26]
    assert model.compliance(torch.tensor([0])).tolist() == [[1 / 3.8, 0, 0, 0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"elements": {"Xx": {"electronegativity": 1, "hardness": 1}}}, "no element symbols"),
        ({"elements": {"H": {"electronegativity": 1, "hardness": 0}}}, "greater than 0"),
        ({"elements": {}}, "at least 1"),
        ({"cutoff": 3.0}, "Extra inputs"),
        ({"metallic": ["Ag"]}, r"`metallic` names \['Ag'\]; expected some of the elements \['H', 'O'"),
        ({"bonds": {"H-Ag": 0.1}}, r"`bonds` has 'H-Ag'; expected pairs of the elements"),
        ({"bonds": {"HO": 0.1}}, r"`bonds` has 'HO'; expected pairs of the elements"),
        ({"bonds": {"H-O": 0.1, "O-H": 0.2}}, r"`bonds` has 'H-O'; .* once each"),
        ({"bonds": {"H-O": 0.0}}, "the softness of H-O must be greater than 0"),
    ],
)
def test_bad_options(change: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ReferenceOptions.model_validate(change)


def test_split_charges_need_the_gaussians_own_hardness() -> None:
    with pytest.raises(ValueError, match="the atomic hardness of split charges is that of their Gaussians"):
        make("mixture", include_electrostatic_self_interaction=False)
    own = ReferenceOptions.built_in("H", "O", bonds={"O-O": 0.3})
    assert own.bond_softness() == [[0.0, 0.0], [0.0, 0.3]]


def test_elements_without_built_in_parameters() -> None:
    with pytest.raises(ValueError, match=r"no built-in parameters for \['Fe'\]"):
        ReferenceOptions.built_in("H", "Fe")


def test_exact_solutions_are_for_single_structures() -> None:
    model, graph = system("both", "open")
    with pytest.raises(ValueError, match="one structure in float64"):
        exact_solution(model, collate([graph, graph]))
