"""Properties of a mode's result against other ways to the same numbers."""

import numpy as np
import pytest
import torch
from ase import Atoms
from fp_potential.train.potential.modes.predict import predict

from figures import at_most
from fp_potential.density.problem import own_start
from fp_potential.graph import collate
from fp_potential.options import SCFOptions
from fp_potential.scf.settings import LoopSettings
from structures import UPDATES, evaluate, make_model, salt_water_box, to_graph, water_cluster

TIGHT = SCFOptions(num_scf_steps=100, scf_tolerance=1e-12, mixing_parameter=0.4)
LONG = TIGHT.model_copy(update={"num_scf_steps": 60})
FIELD = [0.02, 0.01, -0.03]


def clusters(model):
    return collate(
        [to_graph(water_cluster(1), model, total_charge=0.1), to_graph(water_cluster(2), model, external_field=FIELD)]
    )


def run(model, graph, mode, properties, scf=TIGHT, training=True, reference=None, forces=False):
    return predict(model, graph, mode, scf, reference, None, forces, False, training, properties)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("mode", "update"),
    [
        ("implicit", "one-body MLP"),
        ("implicit", "symmetric"),
        ("linearize_solve", "skip path"),
        ("linearize_solve", "many-body"),
        ("unroll_scf", "skip path"),
    ],
)
def test_responses_are_those_of_the_converged_model(mode: str, update: str, training: bool) -> None:
    model = make_model(fixedpoint_update_config=UPDATES[update])
    graph = clusters(model)
    settings = LoopSettings(100, 1e-12, 0.3, "anderson")
    expected = model.responses(graph, settings, own_start(graph.positions), True)
    names = ("polarizability", "born_charges", "energy_by_charge")
    found = run(model, graph, mode, names, LONG if mode == "unroll_scf" else TIGHT, training)
    assert torch.allclose(found["polarizability"], -expected["dipole_by_field"], rtol=0, atol=1e-9)
    assert torch.allclose(found["born_charges"], expected["dipole_by_positions"], rtol=0, atol=1e-9)
    assert torch.allclose(found["energy_by_charge"], evaluate(model, graph)["energy_by_target"], rtol=0, atol=1e-9)
    # charges that move together: the dipole of the total charge
    for rows, charge in ((slice(0, 3), 0.1), (slice(3, 9), 0.0)):
        total = found["born_charges"][rows].sum(0)
        assert torch.allclose(total, charge * torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-9)


def test_born_charges_are_derivatives_of_the_dipole_position_first() -> None:
    model = make_model()
    graph = clusters(model)
    found = run(model, graph, "linearize_solve", ("born_charges",))["born_charges"]
    step = 1e-4
    for atom, axis in ((1, 0), (4, 2)):
        dipoles = []
        for sign in (1, -1):
            positions = graph.positions.clone()
            positions[atom, axis] += sign * step
            dipoles.append(evaluate(model, graph._replace(positions=positions))["dipole"].sum(0))
        numeric = (dipoles[0] - dipoles[1]) / (2 * step)
        assert torch.allclose(found[atom, axis], numeric, rtol=0, atol=1e-7)
    assert (found[1] - found[1].T).abs().max() > 1e-3


@pytest.mark.parametrize("constant_charge", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("mode", "update"),
    [
        ("implicit", "one-body MLP"),
        ("implicit", "many-body MLP"),
        ("implicit", "split charge"),
        ("linearize_solve", "split charge"),
        ("linearize_solve", "skip path"),
        ("unroll_scf", "split charge"),
    ],
)
def test_charges_follow_a_field_as_differences_say(mode, update, training, constant_charge) -> None:
    """Of structures without and in a field, charged and not; their net charge stays where it is held."""
    model = make_model(fixedpoint_update_config=UPDATES[update])
    graph = clusters(model)._replace(fermi_level=torch.tensor([-2.1, -1.9], dtype=torch.float64))
    scf = (LONG if mode == "unroll_scf" else TIGHT).model_copy(update={"constant_charge": constant_charge})
    found = run(model, graph, mode, ("charges_by_field",), scf, training)["charges_by_field"]
    assert found.requires_grad == training
    step = 3e-4
    for axis in range(3):
        charges = []
        for sign in (-2, -1, 1, 2):
            field = graph.external_field.clone()
            field[:, axis] -= sign * step  # F = -E
            held = {"constant_charge": constant_charge, "compute_forces": False, "scf_tolerance": 1e-14}
            out = evaluate(model, graph._replace(external_field=field), num_scf_steps=150, **held)
            charges.append(out["density"][:, 0])
        numeric = (charges[0] - 8 * charges[1] + 8 * charges[2] - charges[3]) / (12 * step)
        assert numeric.abs().max() > 1e-3
        at_most("dq/dE, e·Å/V", (found[:, axis] - numeric).abs().max().item(), 2e-10)
    sums = torch.stack([found[:3].sum(0), found[3:].sum(0)])
    assert (sums.abs().max().item() < 1e-10) == constant_charge


def test_an_insulator_moves_no_charge_between_fragments() -> None:
    """Molecules far apart: none with bonds alone, some where all atoms answer to potentials."""
    atoms = water_cluster(1)
    atoms += Atoms(atoms.symbols, atoms.positions + [30.0, 1.0, 0.0])
    moved = {}
    for update in ("insulator", "symmetric"):
        model = make_model(fixedpoint_update_config=UPDATES[update])
        graph = collate([to_graph(atoms, model)])
        found = run(model, graph, "implicit", ("charges_by_field",))["charges_by_field"]
        moved[update] = found[:3].sum(0).abs().max().item()
    assert moved["symmetric"] > 0.1
    at_most("charge that bonds let go, e·Å/V", moved["insulator"], 1e-12)


def test_responses_together_with_forces_are_the_same() -> None:
    model = make_model(fixedpoint_update_config=UPDATES["one-body MLP"])
    graph = clusters(model)
    alone = run(model, graph, "implicit", ("born_charges",))
    both = run(model, graph, "implicit", ("born_charges",), forces=True)
    assert torch.allclose(alone["born_charges"], both["born_charges"], rtol=0, atol=1e-12)
    assert torch.allclose(both["forces"], evaluate(model, graph)["forces"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("update", ["skip path", "one-body MLP", "many-body MLP"])
def test_charge_response_is_the_derivative_at_fixed_field(update: str) -> None:
    model = make_model(fixedpoint_update_config=UPDATES[update])
    graph = clusters(model)
    found = run(model, graph, "implicit", ("charge_response",))
    settings = LoopSettings(100, 1e-12, 0.3, "anderson")
    solution = model.solve(graph, settings, own_start(graph.positions), True, False)
    density_map, fixed = model.solver.density_map, solution.fixed
    u = solution.field.detach() + fixed.external.unsqueeze(1)
    step = 1e-4
    up, down = (density_map.at_level(fixed, u, solution.result.level + s)[:, 0] for s in (step, -step))
    assert torch.allclose(found["charge_response"], (up - down) / (2 * step), rtol=0, atol=1e-8)


def test_potentials_and_features_of_density_and_reference() -> None:
    model = make_model()
    graph = collate([to_graph(water_cluster(2), model, external_field=FIELD), to_graph(salt_water_box(), model)])
    reference = torch.randn(26, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    names = ("esps", "reference_esps", "coulomb_features", "reference_coulomb_features")
    found = run(model, graph, "linearize_solve", names, reference=reference)
    as_reference = run(model, graph, "linearize_solve", names, reference=found["density"].detach())
    for name in ("esps", "coulomb_features"):
        assert torch.allclose(found[name], as_reference[f"reference_{name}"], rtol=0, atol=1e-12)
        assert (found[name] - found[f"reference_{name}"]).abs().max() > 0.1
    # all of the normalised features but field and level
    external = model.external_field(graph, graph.positions)
    level = (found["fermi_level"] - model.fermi_level_offset)[graph.batch]
    rest = torch.cat([external[:, :1] + level[:, None], external[:, 1:]], dim=1).unsqueeze(1) * model.normalised_scale
    total = evaluate(model, graph)["field_features"]
    assert torch.allclose(found["coulomb_features"] + rest, total, rtol=0, atol=1e-9)
    # a uniform field adds F·r
    without = run(
        model,
        graph._replace(external_field=torch.zeros_like(graph.external_field)),
        "linearize_solve",
        ("reference_esps",),
        reference=found["density"].detach(),
    )
    shift = (graph.positions * graph.external_field[graph.batch]).sum(1)
    assert torch.allclose(found["esps"] - shift, without["reference_esps"], rtol=0, atol=1e-12)


def test_final_change_is_the_last_step_of_the_loop() -> None:
    model = make_model()
    graph = clusters(model)
    scf = SCFOptions(num_scf_steps=3, mixing_parameter=0.3)
    last = run(model, graph, "unroll_scf", ("final_change",), scf)
    before = run(model, graph, "unroll_scf", (), scf.model_copy(update={"num_scf_steps": 2}))
    assert torch.allclose(last["final_change"], last["density"] - before["density"], rtol=0, atol=1e-14)
    assert run(model, graph, "implicit", ("final_change",))["final_change"].abs().max() < 1e-10


def test_what_a_mode_does_not_have_is_refused() -> None:
    model = make_model()
    graph = clusters(model)
    reference = torch.zeros(9, 4, dtype=torch.float64)
    for name in ("polarizability", "born_charges", "energy_by_charge"):
        with pytest.raises(ValueError, match="no self-consistent density"):
            run(model, graph, "direct", (name,), None, reference=reference)
    with pytest.raises(ValueError, match="constant_charge: true"):
        run(model, graph, "implicit", ("energy_by_charge",), TIGHT.model_copy(update={"constant_charge": False}))
    with pytest.raises(ValueError, match=r"data\.keys\.atomic_multipoles"):
        run(model, graph, "implicit", ("reference_esps",))
    with pytest.raises(ValueError, match="unknown property esp; known: born_charges"):
        run(model, graph, "implicit", ("esp",))


def test_responses_at_constant_fermi_level() -> None:
    model = make_model()
    graph = clusters(model)._replace(fermi_level=torch.tensor([-2.1, -1.8], dtype=torch.float64))
    scf = TIGHT.model_copy(update={"constant_charge": False})
    found = run(model, graph, "implicit", ("polarizability",), scf)["polarizability"]
    step = 1e-4
    numeric = np.zeros((2, 3, 3))
    for axis in range(3):
        plus, minus = (
            evaluate(
                model,
                graph._replace(external_field=graph.external_field + s * torch.eye(3).double()[axis]),
                constant_charge=False,
            )["dipole"]
            for s in (step, -step)
        )
        numeric[:, :, axis] = -((plus - minus) / (2 * step)).numpy()
    assert np.abs(found.detach().numpy() - numeric).max() < 1e-7
