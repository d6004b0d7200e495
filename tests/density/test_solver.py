"""Solvers, statuses and the charge constraint."""

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.sparse.linalg import LinearOperator, gmres

from figures import at_most
from fp_potential.density.problem import SCFProblem
from fp_potential.density.self_consistent import strained
from fp_potential.graph import collate
from fp_potential.model import FixedPointPotential
from fp_potential.options.scf import HISTORY
from fp_potential.scf.settings import LoopSettings, Start
from fp_potential.scf.status import CONVERGED, DIVERGED, MAX_STEPS, NO_CHARGE_RESPONSE
from matrices import partly_slow
from structures import INSULATORS, UPDATES, evaluate, make_model, salt_water_box, to_graph, water_cluster


def problem_of(model: FixedPointPotential, atoms, constant_charge: bool = True) -> tuple[SCFProblem, torch.Tensor]:
    graph = to_graph(atoms, model, fermi_level=-2.1)
    with torch.no_grad():
        owned, vectors, cell = strained(graph, graph.positions, torch.zeros(1, 3, 3, dtype=torch.float64))
        local = model.local(graph, vectors)
        return model.problem(graph, local, owned, cell, constant_charge), local.density


@pytest.mark.parametrize("constant_charge", [True, False])
@pytest.mark.parametrize("kind", ["periodic", "open"])
def test_anderson_needs_no_more_than_gmres(kind: str, constant_charge: bool) -> None:
    """The map is affine: GMRES on (1 - J) p = G(p0) - J p0 from the same start is the best a residual method can do."""
    model = make_model(2, fixedpoint_initial_charge_head_scale=0.5)
    atoms = salt_water_box() if kind == "periodic" else water_cluster(6)
    problem, start = problem_of(model, atoms, constant_charge)
    with torch.no_grad():
        start = model.solver.density_map.project(problem, start)
        settings = LoopSettings(100, 1e-8, 0.3, "anderson")
        result = model.solver.scf(problem, Start(start, torch.zeros(1, dtype=torch.float64)), settings)
        n = start.numel()

        def residual(p: torch.Tensor) -> torch.Tensor:
            return model.solver.density_map(problem, p, problem.target)[0] - p

        first = residual(start)
        counts = []

        def action(x: np.ndarray) -> np.ndarray:
            return (first - residual(start + torch.tensor(x).reshape(start.shape))).numpy().reshape(-1)

        for inner in range(1, 60):
            step, _ = gmres(
                LinearOperator((n, n), action), first.numpy().reshape(-1), rtol=1e-14, restart=inner, maxiter=1
            )
            reached = residual(start + torch.tensor(step).reshape(start.shape)).abs().mean().item()
            if reached <= 1e-8:
                counts.append(inner + 1)
                break
    assert result.status.tolist() == [CONVERGED]
    assert result.steps.item() <= 1.2 * counts[0] + 2, (result.steps, counts)


def test_both_solvers_reach_the_same_state(model: FixedPointPotential) -> None:
    graph = to_graph(salt_water_box(), model, total_charge=0.5)
    a = evaluate(model, graph)
    b = evaluate(model, graph, solver="linear", num_scf_steps=400, mixing_parameter=0.3)
    assert a["status"].tolist() == b["status"].tolist() == [CONVERGED]
    assert a["scf_steps"] < b["scf_steps"]
    assert torch.allclose(a["density"], b["density"], atol=1e-10)
    assert torch.allclose(a["fermi_level"], b["fermi_level"], atol=1e-9)


LOOPS = [
    (update, kind, charge)
    for update in UPDATES
    for kind in ("periodic", "open")
    for charge in (True, False)
    if charge or update not in INSULATORS
]


@pytest.mark.parametrize(
    ("update", "kind", "constant_charge"),
    partly_slow(LOOPS, lambda update, kind, charge: update == "skip path" or (kind == "periodic") == charge),
)
def test_one_fixed_point(update: str, kind: str, constant_charge: bool) -> None:
    """Linear mixing at 0.2 and 0.5 and Anderson with three histories, from the local guess and from another density."""
    model = make_model(3, fixedpoint_update_config=UPDATES[update])
    atoms = salt_water_box() if kind == "periodic" else water_cluster(3)
    graph = to_graph(atoms, model, total_charge=0.3, fermi_level=-1.7)
    rng = np.random.default_rng(0)
    data = torch.tensor(rng.normal(scale=0.2, size=(len(atoms), 4)))
    ways = [("linear", 0.2, HISTORY), ("linear", 0.5, HISTORY), *(("anderson", 0.3, m) for m in (3, 10, HISTORY))]
    states = []
    for solver, mixing, history in ways:
        model.solver.loop.mixer.history = history
        for start in (torch.zeros(0, 4, dtype=torch.float64), data):
            out = evaluate(
                model,
                graph,
                solver=solver,
                mixing_parameter=mixing,
                num_scf_steps=400,
                initial_density=start,
                constant_charge=constant_charge,
                compute_forces=False,
            )
            assert out["status"].tolist() == [CONVERGED], (solver, mixing, history, len(start))
            states.append(torch.cat([out["density"].reshape(-1), out["fermi_level"]]))
    spread = (torch.stack(states) - states[-1]).abs().max().item()
    at_most("one fixed point: spread over solvers and starts, e and eV", spread, 1e-9)


def test_the_loop_does_what_the_number_says(model: FixedPointPotential) -> None:
    graph = to_graph(water_cluster(), model)
    for steps in (1, 2, 3):
        out = evaluate(model, graph, num_scf_steps=steps)
        assert out["scf_steps"].tolist() == [steps]
        assert out["history"].shape == (steps, 1)
        assert out["status"].tolist() == [MAX_STEPS]
    out = evaluate(model, graph)
    assert out["history"][-1].item() == out["residual"].item() <= 1e-11


def test_reported_residual_is_that_of_the_reported_density(model: FixedPointPotential) -> None:
    graph = to_graph(salt_water_box(), model)
    out = evaluate(model, graph, scf_tolerance=1e-4)
    with torch.no_grad():
        problem, _ = problem_of(model, salt_water_box())
        update = model.solver.density_map(problem, out["density"], problem.target)[0]
        again = (update - out["density"]).abs().mean().item()
    assert again == pytest.approx(out["residual"].item(), rel=1e-9)


def test_structures_converge_on_their_own(model: FixedPointPotential) -> None:
    easy, hard = to_graph(Atoms("Na", [[0, 0, 0]]), model), to_graph(salt_water_box(), model)
    settings = {"solver": "linear", "mixing_parameter": 0.8, "num_scf_steps": 300}
    both = evaluate(model, collate([easy, hard]), **settings)
    alone = [evaluate(model, graph, **settings)["scf_steps"].item() for graph in (easy, hard)]
    assert both["scf_steps"].tolist() == alone
    assert alone[0] != alone[1]
    assert (both["residual"] <= 1e-11).all()


def test_a_residual_that_is_not_finite_is_left_behind(model: FixedPointPotential) -> None:
    """The structure goes back to its best density; the other one of the batch notices nothing."""
    batch = collate([to_graph(salt_water_box(), model), to_graph(water_cluster(), model)])
    expected = evaluate(model, batch, compute_forces=False)
    density_map, calls = model.solver.density_map, []
    apply = density_map.forward

    def sometimes_infinite(problem, p, level):
        update, found, more = apply(problem, p, level)
        calls.append(1)
        broken = (problem.batch == 0).unsqueeze(1) & (len(calls) == 3)
        return torch.where(broken, torch.full_like(update, float("nan")), update), found, more

    density_map.forward = sometimes_infinite
    try:
        out = evaluate(model, batch, compute_forces=False)
    finally:
        del density_map.forward
    assert out["status"].tolist() == [CONVERGED] * 2
    assert out["scf_steps"][0] > expected["scf_steps"][0] and out["scf_steps"][1] == expected["scf_steps"][1]
    assert torch.allclose(out["density"], expected["density"], atol=1e-10)


def test_divergence_is_called_by_its_name() -> None:
    model = make_model(2)
    with torch.no_grad():
        model.solver.density_map.response.scalars.skip_bias.mul_(60.0)
    graph = to_graph(salt_water_box(), model)
    out = evaluate(model, graph, solver="linear", mixing_parameter=1.0, num_scf_steps=200)
    assert out["status"].tolist() == [DIVERGED]


def test_a_density_that_cannot_respond_is_refused() -> None:
    model = make_model(2)
    with torch.no_grad():
        model.solver.density_map.response.scalars.skip_bias.zero_()
        model.solver.density_map.response.output.element_readout.zero_()
    out = evaluate(model, to_graph(water_cluster(), model, total_charge=1.0))
    assert out["status"].tolist() == [NO_CHARGE_RESPONSE]
    fixed_level = evaluate(model, to_graph(water_cluster(), model, fermi_level=-1.0), constant_charge=False)
    assert fixed_level["status"].tolist() == [CONVERGED]


def test_constant_fermi_level_reproduces_constant_charge(model: FixedPointPotential) -> None:
    """The same state from both sides: density, and Omega = E + mu Q."""
    at_charge = evaluate(model, to_graph(salt_water_box(), model, total_charge=0.4))
    level = at_charge["fermi_level"].item()
    at_level = evaluate(model, to_graph(salt_water_box(), model, fermi_level=level), constant_charge=False)
    assert torch.allclose(at_level["density"], at_charge["density"], atol=1e-9)
    assert at_level["energy"].item() == pytest.approx(at_charge["energy"].item() + level * 0.4, abs=1e-8)
