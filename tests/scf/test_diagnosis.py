"""Every way a loop can fail, provoked and recognised."""

import numpy as np
import pytest
import torch

from fp_potential.density.problem import own_start
from fp_potential.density.trace import LoopTrace, trace_loop
from fp_potential.options import SCFOptions
from fp_potential.scf.convergence import SCFRun, convergence
from fp_potential.scf.diagnosis import Diagnosis, Kind, diagnose
from fp_potential.scf.settings import LoopSettings
from fp_potential.scf.status import CONVERGED, DIVERGED, MAX_STEPS, NO_CHARGE_RESPONSE, NO_FERMI_LEVEL
from structures import evaluate, make_model, salt_water_box, soften, to_graph, water_cluster


@pytest.fixture(scope="module")
def long_box():
    """A model and a long box, and the spectrum of its map, from below -5 to 0.4."""
    atoms = salt_water_box(triclinic=False).repeat((1, 1, 4))
    atoms.rattle(0.03, seed=1)
    model = soften(make_model(2), 2.5)
    graph = to_graph(atoms, model)
    return model, graph, trace_loop(model, graph, SCFOptions()).spectrum


def diagnosis(model, graph, spectrum=None, **options) -> tuple[Diagnosis, LoopTrace]:
    settings = {"scf_tolerance": 1e-8, **options}
    trace = trace_loop(model, graph, SCFOptions(**settings), with_spectrum=False)
    return diagnose(trace.run, spectrum), trace


@pytest.mark.parametrize("solver", ["anderson", "linear"])
def test_the_trace_is_the_real_loop(model, solver: str) -> None:
    graph = to_graph(salt_water_box(), model, total_charge=0.3)
    options = SCFOptions(solver=solver, mixing_parameter=0.4, scf_tolerance=1e-9)
    trace = trace_loop(model, graph, options)
    real = evaluate(model, graph, num_scf_steps=100, scf_tolerance=1e-9, mixing_parameter=0.4, solver=solver)
    assert np.array_equal(trace.run.history, real["history"][:, 0].numpy())
    assert trace.charges == pytest.approx(0.3, abs=1e-10)
    assert trace.levels[-1] == pytest.approx(real["fermi_level"].item(), abs=1e-12)
    assert trace.energy == pytest.approx(real["energy"].item(), abs=1e-9)
    assert trace.energies[-1] == pytest.approx(trace.energy, abs=1e-6)
    assert diagnose(trace.run, trace.spectrum).kind is Kind.CONVERGED
    # every residual is that of the density it stands beside
    settings = LoopSettings(100, 1e-9, 0.4, solver)
    problem = model.solve(graph, settings, own_start(graph.positions), True, False).fixed
    density = torch.tensor(trace.run.iterates[2])
    residual = (model.solver.density_map(problem, density, problem.target)[0] - density).abs().mean().item()
    assert residual == pytest.approx(trace.run.history[2], rel=1e-9)


def test_trace_at_constant_fermi_level_and_from_data(model) -> None:
    graph = to_graph(water_cluster(), model, fermi_level=-1.5)
    options = SCFOptions(constant_charge=False, scf_tolerance=1e-9)
    trace = trace_loop(model, graph, options)
    assert trace.levels == pytest.approx(-1.5, abs=1e-12) and np.ptp(trace.charges) > 1e-4
    assert trace.energies[-1] == pytest.approx(trace.energy, abs=1e-6)
    from_data = options.model_copy(update={"initial_density": "from_data"})
    again = trace_loop(model, graph, from_data, torch.tensor(trace.run.iterates[-1]))
    assert len(again.run.history) == 1 and again.run.initial_density == "from_data"


def test_too_few_steps(long_box) -> None:
    model, graph, spectrum = long_box
    found, trace = diagnosis(model, graph, spectrum, num_scf_steps=5)
    assert found.kind is Kind.TOO_FEW_STEPS and trace.run.status == MAX_STEPS and not found.converged
    steps = int(found.advice[0].split()[-1])
    assert found.advice[0].startswith("raise num_scf_steps from 5 to ")
    assert diagnosis(model, graph, spectrum, num_scf_steps=steps)[0].converged
    assert diagnosis(model, graph, num_scf_steps=5)[0].kind is Kind.TOO_FEW_STEPS
    found, _ = diagnosis(model, graph, solver="linear", mixing_parameter=0.15, num_scf_steps=1)
    assert found.kind is Kind.TOO_FEW_STEPS


def test_slow_with_little_mixing(long_box) -> None:
    model, graph, spectrum = long_box
    found, _ = diagnosis(model, graph, spectrum, solver="linear", mixing_parameter=0.02, num_scf_steps=60)
    assert found.kind is Kind.SLOW
    assert "use solver: anderson" in found.text() and "raise mixing_parameter to" in found.text()
    assert diagnosis(model, graph, solver="linear", mixing_parameter=0.02, num_scf_steps=60)[0].kind is Kind.SLOW


def test_too_much_mixing_diverges(long_box) -> None:
    """Also where the solver goes back to its best density and shortens its steps."""
    model, graph, spectrum = long_box
    best, limit = spectrum.best_linear_mixing()[0], spectrum.largest_stable_mixing()
    assert best < limit < 0.35
    for steps in (6, 60):
        found, trace = diagnosis(model, graph, spectrum, solver="linear", mixing_parameter=1.0, num_scf_steps=steps)
        assert found.kind is Kind.DIVERGING, found.text()
        assert found.advice[0].startswith("reduce mixing_parameter from 1 to 0.")
        assert diagnosis(model, graph, solver="linear", mixing_parameter=1.0, num_scf_steps=steps)[0].kind is found.kind
    assert convergence(trace.run).restarts > 0
    advised = float(found.advice[0].split()[5].rstrip(","))
    assert advised == pytest.approx(best, rel=0.1)
    assert diagnosis(model, graph, spectrum, solver="linear", mixing_parameter=advised, num_scf_steps=400)[0].converged


def test_a_rescued_loop_says_so(long_box) -> None:
    model, graph, spectrum = long_box
    found, trace = diagnosis(model, graph, spectrum, solver="linear", mixing_parameter=0.6, num_scf_steps=1000)
    assert trace.run.status == CONVERGED and found.kind is Kind.CONVERGED
    assert "went back" in found.reason and "reduce mixing_parameter" in found.advice[0]


def test_mixing_at_its_limit_oscillates(long_box) -> None:
    model, graph, spectrum = long_box
    mixing = 0.99 * spectrum.largest_stable_mixing()
    # the mode that oscillates is a wave of charge along the long axis
    height = graph.positions[:, 2] / graph.cell[0, 2, 2]
    start = torch.zeros(len(height), 4, dtype=torch.float64)
    start[:, 0] = 0.1 * torch.sin(2 * np.pi * height)
    options = SCFOptions(solver="linear", mixing_parameter=mixing, num_scf_steps=80)
    trace = trace_loop(model, graph, options, start, with_spectrum=False)
    found = diagnose(trace.run, spectrum)
    assert convergence(trace.run).reversals > 0.9
    assert found.kind is Kind.OSCILLATING and found.advice[0].startswith("reduce mixing_parameter")


@pytest.mark.parametrize("solver", ["anderson", "linear"])
def test_an_eigenvalue_above_one_is_unstable(solver: str) -> None:
    graph = to_graph(salt_water_box(), make_model(2))
    largest = trace_loop(make_model(2), graph, SCFOptions()).spectrum.largest
    model = soften(make_model(2), 1.05 / largest)
    trace = trace_loop(model, graph, SCFOptions(solver=solver, scf_tolerance=1e-8))
    assert trace.spectrum.largest == pytest.approx(1.05, abs=2e-3)
    found = diagnose(trace.run, trace.spectrum)
    assert found.kind is Kind.UNSTABLE and not found.converged
    assert "1.05" in found.reason and "retrain" in found.advice[0]
    # Anderson may find the solution all the same; the status alone would not tell
    assert solver == "anderson" or trace.run.status != CONVERGED


def test_divergence_of_a_much_too_soft_model() -> None:
    model = make_model(2)
    with torch.no_grad():
        model.solver.density_map.response.scalars.skip_bias.mul_(60.0)
    graph = to_graph(salt_water_box(), model)
    options = SCFOptions(solver="linear", mixing_parameter=1.0, num_scf_steps=200)
    trace = trace_loop(model, graph, options)
    assert trace.run.status == DIVERGED
    assert diagnose(trace.run, trace.spectrum).kind is Kind.UNSTABLE
    assert diagnose(trace.run).kind is Kind.DIVERGING


def test_a_charge_that_does_not_respond() -> None:
    model = soften(make_model(2), 0.0)
    found, trace = diagnosis(model, to_graph(water_cluster(), model, total_charge=1.0))
    assert trace.run.status == NO_CHARGE_RESPONSE and trace.spectrum is None
    assert found.kind is Kind.NO_RESPONSE and "--constant_fermi" in found.text()


def test_no_fermi_level_to_hold() -> None:
    model = make_model(2, fixedpoint_update_config={"type": "SplitChargeUpdate", "metallic": "none"})
    found, trace = diagnosis(model, to_graph(water_cluster(), model, fermi_level=-2.0), constant_charge=False)
    assert trace.run.status == NO_FERMI_LEVEL
    assert found.kind is Kind.NO_LEVEL and "--total_charge" in found.text() and not found.converged
    assert np.isnan(trace_loop(model, to_graph(water_cluster(), model), SCFOptions()).levels).all()


def test_a_charge_without_a_fermi_level() -> None:
    """A network's charge can have a smallest value over all levels; below it no level gives the charge asked for."""
    config = {"nonlinearity_cls": "MLPNonLinearity"}
    model = make_model(3, fixedpoint_initial_charge_head_scale=0.5, fixedpoint_update_config=config)
    for charge, status in ((0.3, CONVERGED), (0.0, NO_CHARGE_RESPONSE)):
        out = evaluate(model, to_graph(water_cluster(2), model, total_charge=charge), compute_forces=False)
        assert out["status"].tolist() == [status]
        assert (out["total_charge"] - charge).abs().item() < 1e-9 or status == NO_CHARGE_RESPONSE


def test_a_tolerance_below_rounding() -> None:
    model = make_model(2, torch.float32, fixedpoint_initial_charge_head_scale=0.5)
    found, _ = diagnosis(model, to_graph(salt_water_box(), model), scf_tolerance=1e-10, num_scf_steps=60)
    assert found.kind is Kind.ROUNDING and "float64" in found.text()


def made_up(history, **changes) -> SCFRun:
    settings = {"status": MAX_STEPS, "tolerance": 1e-8, "solver": "anderson", "mixing": 0.3}
    return SCFRun(np.array(history), num_scf_steps=len(history), **(settings | changes))


def test_histories_by_their_shape() -> None:
    n = np.arange(30)
    assert diagnose(made_up(0.1 * 0.5**n)).kind is Kind.TOO_FEW_STEPS
    assert diagnose(made_up(0.1 * 0.97**n)).kind is Kind.SLOW
    assert diagnose(made_up(1e-3 * 1.2**n)).kind is Kind.DIVERGING
    bouncing = made_up(1e-3 * (1.0 + 0.8 * (-1.0) ** n), affine=False)
    assert diagnose(bouncing).kind is Kind.OSCILLATING
    assert any("start from data" in line for line in diagnose(bouncing).advice)
    nothing = made_up([1e-3, 1e-2, np.nan, np.nan], status=DIVERGED)
    assert diagnose(nothing).kind is Kind.DIVERGING
    one_atom = made_up([1e-3, 1e-5, 1e-7, 9e-9, 9e-9, 8e-9, 8e-9, 8e-9, 8e-9])
    assert "one atom" in diagnose(one_atom).reason
    adjoint = made_up(0.1 * 0.1**n, status=CONVERGED, adjoint_status=MAX_STEPS)
    assert diagnose(adjoint).kind is Kind.TOO_FEW_STEPS and "adjoint" in diagnose(adjoint).reason
    # the projected number of steps is that of the rate
    assert convergence(made_up(0.1 * 0.9**n)).remaining == pytest.approx(np.log(1e-7 / 0.9**29) / np.log(0.9))
