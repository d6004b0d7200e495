"""What `SymmetricUpdate` promises: no geometry, charge or weight with an eigenvalue of the map at or above 1."""

import numpy as np
import pytest
import torch
from ase import Atoms

from fp_potential.options import ModelOptions
from fp_potential.scf.status import CONVERGED
from structures import dense_jacobian, evaluate, make_model, salt_water_box, solved, to_graph, water_cluster


def soft_model(seed: int, **options):
    """A model with large random weights in its response: far softer than any molecule, where others run away."""
    model = make_model(seed, fixedpoint_update_config={"type": "SymmetricUpdate"}, **options)
    update = model.solver.density_map.response
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        update.output.element_readout.mul_(100.0)
        update.scalar_weight.normal_(generator=generator)
        update.scalar_bias.uniform_(-3.0, 3.0, generator=generator)
    return model


def crowded(pbc: bool) -> Atoms:
    """Atoms much nearer to each other than those of any data."""
    atoms = salt_water_box(edge=4.0) if pbc else water_cluster(3)
    if not pbc:
        atoms.positions *= 0.6
    return atoms


@pytest.mark.parametrize("constant_charge", [True, False])
@pytest.mark.parametrize("pbc", [True, False])
@pytest.mark.parametrize("include_field_si", [True, False])
@pytest.mark.parametrize("seed", [1, 2])
def test_eigenvalues_are_real_and_below_one(
    seed: int, include_field_si: bool, pbc: bool, constant_charge: bool
) -> None:
    model = soft_model(seed, include_field_si=include_field_si)
    graph = to_graph(crowded(pbc), model, total_charge=1.0, fermi_level=-2.1)
    problem, density, level = solved(model, graph, constant_charge, converges=False)
    eigenvalues = np.linalg.eigvals(dense_jacobian(model, problem, density, level))
    assert np.abs(eigenvalues.imag).max() < 1e-5 * np.abs(eigenvalues).max()
    assert eigenvalues.real.max() < 1.0 + 1e-6
    if include_field_si:
        assert eigenvalues.real.max() < 1e-5
    # the test would be empty if the response were small
    assert np.abs(eigenvalues).max() > 0.15


def test_the_unconstrained_update_runs_away_where_this_one_does_not() -> None:
    """The same features and softness in the default update pass 1."""
    ends = []
    for update in ("OneBodyVariableUpdate", "SymmetricUpdate"):
        model = make_model(1, fixedpoint_initial_charge_head_scale=20.0, fixedpoint_update_config={"type": update})
        problem, density, level = solved(model, to_graph(crowded(False), model), True, converges=False)
        ends.append(np.linalg.eigvals(dense_jacobian(model, problem, density, level)).real.max())
    assert ends[0] > 1.0 > ends[1]


@pytest.mark.parametrize("constant_charge", [True, False])
def test_the_response_is_the_same_with_the_own_part_in_the_features_or_not(constant_charge: bool) -> None:
    """M' takes the place of the own part; p_loc does not, so what a field changes is compared."""
    changes = []
    for include_field_si in (True, False):
        model = soft_model(3, include_field_si=include_field_si)
        ends = []
        for field in ([0.0, 0.0, 0.0], [0.02, -0.03, 0.05]):
            inputs = {"total_charge": -1.0, "fermi_level": -2.1, "external_field": field}
            graph = to_graph(water_cluster(3), model, **inputs)
            out = evaluate(model, graph, num_scf_steps=300, constant_charge=constant_charge)
            assert out["status"].tolist() == [CONVERGED]
            ends.append(out["density"])
        changes.append(ends[1] - ends[0])
    assert changes[0].abs().max() > 1e-2
    assert torch.allclose(changes[0], changes[1], rtol=0, atol=1e-9)


def test_the_width_of_the_density_must_be_a_receiver() -> None:
    with pytest.raises(ValueError, match=r"put `atomic_multipoles_smearing_width` \(1.2\) among"):
        ModelOptions(atomic_multipoles_smearing_width=1.2, fixedpoint_update_config={"type": "SymmetricUpdate"})
    with pytest.raises(ValueError, match=r"has no such options.*monotone_charge"):
        ModelOptions(fixedpoint_update_config={"type": "SymmetricUpdate", "monotone_charge": True})
