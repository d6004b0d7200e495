"""Ends of the spectrum, and what they say of solvers, against dense Jacobians and runs."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fp_potential.density.jacobian import jacobian_spectrum
from fp_potential.density.problem import SCFProblem, own_start
from fp_potential.export import export_model, load_model
from fp_potential.graph import collate
from fp_potential.scf.settings import LoopSettings, Start
from fp_potential.scf.spectrum import Spectrum, linear_applications
from fp_potential.scf.status import CONVERGED
from structures import dense_jacobian, make_model, salt_water_box, soften, solved, to_graph, water_cluster

UPDATES = {
    "one-body": {},
    "network": {"fixedpoint_update_config": {"nonlinearity_cls": "MLPNonLinearity"}},
    "many-body": {"fixedpoint_update_config": {"type": "ManyBodyUpdate"}},
    "split charge": {"fixedpoint_update_config": {"type": "SplitChargeUpdate"}},
}


@pytest.mark.parametrize("constant_charge", [True, False])
@pytest.mark.parametrize("update", list(UPDATES))
def test_both_ends_are_those_of_the_dense_jacobian(update: str, constant_charge: bool) -> None:
    model = make_model(3, fixedpoint_initial_charge_head_scale=0.5, **UPDATES[update])
    # a charge this network has a level for (not every charge has one)
    graph = to_graph(water_cluster(2), model, total_charge=0.3, fermi_level=-2.1)
    problem, density, level = solved(model, graph, constant_charge)
    dense = dense_jacobian(model, problem, density, level)
    if constant_charge:
        charge = np.tile([1.0, 0.0, 0.0, 0.0], len(dense) // 4)
        assert np.abs(charge @ dense).max() < 1e-7
        surface = np.linalg.svd(charge[None])[2][1:]
        dense = surface @ dense @ surface.T
    exact = np.linalg.eigvals(dense)
    spectrum = jacobian_spectrum(model.solver.density_map, problem)
    assert spectrum.converged
    for found, error, expected in (
        (spectrum.largest, spectrum.largest_error, exact.real.max()),
        (spectrum.smallest, spectrum.smallest_error, exact.real.min()),
    ):
        assert found == pytest.approx(expected, abs=error + 1e-5)
    assert spectrum.modulus == pytest.approx(np.abs(exact).max(), rel=1e-3)
    assert not spectrum.unstable


@pytest.fixture(scope="module")
def long_box() -> tuple:
    """A box four times as long as wide: the negative end of its spectrum is large."""
    model = soften(make_model(2), 4.0)
    atoms = salt_water_box(triclinic=False).repeat((1, 1, 4))
    atoms.rattle(0.03, seed=1)
    problem, density, _ = solved(model, to_graph(atoms, model))
    start = density + 0.05 * torch.randn(density.shape, generator=torch.Generator().manual_seed(1), dtype=density.dtype)
    return model, problem, start, jacobian_spectrum(model.solver.density_map, problem)


def run(model, problem: SCFProblem, start: Tensor, solver: str, mixing: float, steps: int, tolerance: float = 1e-9):
    settings = LoopSettings(steps, tolerance, mixing, solver)
    return model.solver.scf(problem, Start(start, torch.zeros(1, dtype=torch.float64)), settings)


def test_errors_cover_a_larger_basis(long_box) -> None:
    model, problem, _, spectrum = long_box
    fine = jacobian_spectrum(model.solver.density_map, problem, accuracy=1e-9, seed=5)
    assert fine.applications > spectrum.applications
    assert abs(fine.largest - spectrum.largest) <= spectrum.largest_error + 1e-9
    assert abs(fine.smallest - spectrum.smallest) <= spectrum.smallest_error + 1e-9


def test_best_linear_mixing_is_best_and_its_factor_is_seen(long_box) -> None:
    model, problem, start, spectrum = long_box
    assert spectrum.smallest < -5
    best, factor = spectrum.best_linear_mixing()
    assert all(spectrum.linear_factor(alpha) >= factor - 1e-9 for alpha in np.linspace(0.005, 1.0, 200))
    history = run(model, problem, start, "linear", best, 220).history[:, 0].numpy()
    assert (history[-1] / history[-21]) ** (1 / 20) == pytest.approx(factor, abs=0.01)
    limit = spectrum.largest_stable_mixing()
    growing = run(model, problem, start, "linear", 1.1 * limit, 60).history[:, 0].numpy()
    assert growing.max() > 10 * growing[0]
    assert spectrum.linear_factor(0.99 * limit) < 1.0 < spectrum.linear_factor(1.01 * limit)


def test_krylov_prediction_is_what_anderson_needs(long_box) -> None:
    model, problem, start, spectrum = long_box
    result = run(model, problem, start, "anderson", 0.3, 100)
    predicted = spectrum.krylov_applications(1e-9 / result.history[0].item())
    assert result.status.tolist() == [CONVERGED]
    assert abs(result.steps.item() - predicted) <= 3


def test_a_response_scaled_to_1_05_is_unstable() -> None:
    graph = to_graph(salt_water_box(), make_model(2))
    problem, _, _ = solved(make_model(2), graph)
    before = jacobian_spectrum(make_model(2).solver.density_map, problem, accuracy=1e-6)
    model = soften(make_model(2), 1.05 / before.largest)
    # the map is affine: its Jacobian is the same wherever the loop has stopped
    problem, _, _ = solved(model, graph, converges=False)
    spectrum = jacobian_spectrum(model.solver.density_map, problem)
    assert spectrum.largest == pytest.approx(1.05, abs=1e-5)
    assert spectrum.unstable and spectrum.best_linear_mixing() is None and spectrum.largest_stable_mixing() == 0.0
    assert spectrum.linear_factor(0.3) > 1.0


def test_an_archive_has_the_same_spectrum(tmp_path) -> None:
    model = make_model(3, **UPDATES["network"])
    graph = to_graph(water_cluster(2), model)
    export_model(model, tmp_path / "model.pt")
    loaded = load_model(tmp_path / "model.pt")[0].model
    with torch.jit.optimized_execution(False):
        found = jacobian_spectrum(loaded.solver.density_map, solved(loaded, graph)[0])
    expected = jacobian_spectrum(model.solver.density_map, solved(model, graph)[0])
    assert found.largest == pytest.approx(expected.largest, abs=1e-9)
    assert found.smallest == pytest.approx(expected.smallest, abs=1e-9)


def test_single_precision_finds_the_same_ends() -> None:
    ends = []
    for dtype in (torch.float64, torch.float32):
        model = make_model(2, dtype, fixedpoint_initial_charge_head_scale=0.5)
        graph = to_graph(salt_water_box(), model)
        settings = LoopSettings(60, 1e-5, 0.3, "anderson")
        end = model.solve(graph, settings, own_start(graph.positions), True, False)
        spectrum = jacobian_spectrum(model.solver.density_map, end.fixed)
        assert spectrum.converged
        ends.append((spectrum.largest, spectrum.smallest))
    assert np.allclose(ends[0], ends[1], atol=2e-3)


def test_what_it_refuses() -> None:
    model = make_model(2)
    one = to_graph(water_cluster(1), model)
    settings, start = LoopSettings(20, 1e-6, 0.3, "anderson"), own_start(one.positions)
    both = model.solve(collate([one, one]), settings, start, True, False)
    with pytest.raises(ValueError, match="a batch of 2"):
        jacobian_spectrum(model.solver.density_map, both.fixed)
    soften(model, 0.0)
    mute = model.solve(one, settings, start, True, False)
    with pytest.raises(ValueError, match="does not respond"):
        jacobian_spectrum(model.solver.density_map, mute.fixed)


def test_figures_of_a_known_spectrum() -> None:
    """Real eigenvalues -3 and 0.5: α = 2 / (2 - λmin - λmax), factor (λmax - λmin) / (2 - λmin - λmax)."""
    values = np.array([-3.0, 0.5], dtype=complex)
    spectrum = Spectrum(values, np.zeros(2), np.array([1.0, 0.1, 0.001]), True)
    best, factor = spectrum.best_linear_mixing()
    assert best == pytest.approx(2 / 4.5, rel=1e-6) and factor == pytest.approx(3.5 / 4.5, rel=1e-6)
    assert spectrum.largest_stable_mixing() == pytest.approx(0.5)
    assert spectrum.krylov_applications(0.05) == 3 and spectrum.krylov_applications(1e-6) is None
    assert linear_applications(0.1, 1e-6) == 7 and linear_applications(1.0, 0.1) == float("inf")
    assert linear_applications(0.5, 2.0) == 1
