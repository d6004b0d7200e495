"""The loop for a map that knows nothing of densities: occupations of lattice sites that repel each other.

Sites of energy ε_i hold x_i = f((μ - ε_i - F_i - (K x)_i) / T) in outer fields F, with the Fermi function f, unknowns
``(n, 1)``, and μ such that each structure holds the number N asked for: a nonlinear fixed point with one constraint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Tuple

import pytest
import torch
from torch import Tensor, nn

from fp_potential.communication import graph_sum
from fp_potential.scf.arnoldi import Ritz, arnoldi, ends_found
from fp_potential.scf.implicit import ImplicitDerivatives
from fp_potential.scf.linear_solves import LinearSolves
from fp_potential.scf.loop import FixedPointLoop, SolverResult
from fp_potential.scf.settings import Groups, LoopSettings
from fp_potential.scf.status import CONVERGED, MAX_STEPS

SIZES = (5, 8)
NUMBERS = (1.7, 3.2)
TIGHT = LoopSettings(200, 1e-13, 0.2, "anderson")


class Occupations(nn.Module):
    """The map, its Jacobian and its loops."""

    def __init__(self, temperature: float = 0.3, strength: float = 1.0, precondition: nn.Module | None = None) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        n = sum(SIZES)
        self.energies = nn.Parameter(torch.randn(n, 1, generator=draw, dtype=torch.float64))
        root = torch.randn(n, n, generator=draw, dtype=torch.float64)
        batch = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))
        same = (batch[:, None] == batch[None, :]).to(torch.float64)
        # not symmetric: a product with J is not one with its transpose
        self.coupling = nn.Parameter(strength * same * (root @ root.t() / n + 0.1 * root))
        self.temperature = nn.Parameter(torch.tensor(temperature, dtype=torch.float64))
        self.batch, self.target = batch, torch.tensor(NUMBERS, dtype=torch.float64)
        self.rows = torch.tensor(SIZES)
        self.loop = FixedPointLoop(40, precondition)

    def groups(self) -> Groups:
        return Groups(self.batch, self.rows, self.target.shape[0], False)

    def sites(self, x: Tensor, level: Tensor, fields: Tensor) -> Tensor:
        energies = self.energies + fields + torch.matmul(self.coupling, x)
        return torch.sigmoid((level[self.batch].unsqueeze(1) - energies) / self.temperature)

    def slope(self, update: Tensor) -> Tensor:
        """dG/dμ of every site at an update."""
        return update * (1.0 - update) / self.temperature

    def missing(self, update: Tensor) -> Tuple[Tensor, Tensor]:
        sums = graph_sum(torch.cat([update, self.slope(update)], dim=1), self.batch, self.target.shape[0], False)
        return self.target - sums[:, 0], sums[:, 1]

    def forward(self, x: Tensor, level: Tensor, fields: Tensor) -> Tuple[Tensor, Tensor]:
        """G(x) and the level that gives it the numbers, sought from ``level``, with all first derivatives."""
        level = level.detach()
        for _ in range(40):
            error, slope = self.missing(self.sites(x, level, fields).detach())
            if bool((error.abs() <= 1e-15).all()):
                break
            level = (level + (error / slope).clamp(-0.3, 0.3)).detach()
        for _ in range(2):  # from the root: the derivatives of the implicit function
            error, slope = self.missing(self.sites(x, level, fields))
            level = level + error / slope.detach()
        return self.sites(x, level, fields), level

    def transposed(self, slope: Tensor, weights: Tensor) -> Tensor:
        """J^T w of the map with the constraint."""
        sums = graph_sum(torch.cat([slope, slope * weights], dim=1), self.batch, self.target.shape[0], False)
        on_energies = slope * (weights - (sums[:, 1] / sums[:, 0])[self.batch].unsqueeze(1))
        return -torch.matmul(self.coupling.t(), on_energies)

    def product(self, slope: Tensor, change: Tensor) -> Tensor:
        """J v."""
        by_energies = torch.matmul(self.coupling, change)
        sums = graph_sum(torch.cat([slope, slope * by_energies], dim=1), self.batch, self.target.shape[0], False)
        return slope * ((sums[:, 1] / sums[:, 0])[self.batch].unsqueeze(1) - by_energies)

    @torch.jit.export
    def solve(self, start: Tensor, fields: Tensor, settings: LoopSettings) -> SolverResult:
        ones = torch.ones_like(self.target)
        state = self.loop.start(start, torch.zeros_like(ones), ones, self.groups(), settings)
        while state.going:
            update, level = self.forward(state.x, state.level, fields)
            state = self.loop.step(state, (update - state.x).detach(), level.detach())
        return self.loop.result(state)

    @torch.jit.export
    def adjoint(self, x: Tensor, source: Tensor, settings: LoopSettings) -> SolverResult:
        groups, slope = self.groups(), self.slope(x).detach()
        scale = self.loop.scale_of(source, groups, 1e-12)
        state = self.loop.start(source, torch.zeros_like(self.target), scale, groups, settings)
        while state.going:
            state = self.loop.step(state, (source + self.transposed(slope, state.x) - state.x).detach(), state.level)
        return self.loop.result(state)


N = sum(SIZES)
FIELDS = torch.linspace(-0.5, 1.0, N, dtype=torch.float64).unsqueeze(1)


def start_of(model: Occupations) -> Tensor:
    return (model.target / model.rows)[model.batch].unsqueeze(1)


def energy_of(x: Tensor, fields: Tensor) -> Tensor:
    """Some function of the occupations and of the fields."""
    return (fields * x).sum() + 0.5 * (x * x).sum() + (x**3 * fields).sum()


def solution_of(model: Occupations, fields: Tensor, settings: LoopSettings = TIGHT) -> SolverResult:
    found = model.solve(start_of(model), fields, settings)
    assert found.status.tolist() == [CONVERGED] * 2
    return found


def slope_along(function: Callable[[], float], parameter: Tensor, direction: Tensor, step: float = 2e-3) -> float:
    """Central difference of eighth order along a direction, in place."""
    found = 0.0
    kept = parameter.detach().clone()
    for distance, weight in {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}.items():
        for sign in (1, -1):
            with torch.no_grad():
                parameter.copy_(kept + sign * distance * step * direction)
            found += sign * weight * function() / step
    with torch.no_grad():
        parameter.copy_(kept)
    return found


def differences(function: Callable[[], float], parameter: Tensor) -> Tensor:
    """Central differences by every component."""
    units = torch.eye(parameter.numel(), dtype=torch.float64).view(-1, *parameter.shape)
    slopes = [slope_along(function, parameter, unit) for unit in units]
    return torch.tensor(slopes, dtype=torch.float64).view_as(parameter)


def test_numbers_hold_and_both_solvers_find_the_same_point() -> None:
    model = Occupations()
    anderson = solution_of(model, FIELDS)
    linear = solution_of(model, FIELDS, LoopSettings(2000, 1e-13, 0.2, "linear"))
    assert anderson.steps.max() < 20 < linear.steps.max()
    assert torch.allclose(anderson.x, linear.x, rtol=0, atol=1e-11)
    assert torch.allclose(anderson.level, linear.level, rtol=0, atol=1e-10)
    assert graph_sum(anderson.x, model.batch, 2, False)[:, 0].tolist() == pytest.approx(NUMBERS, abs=1e-12)
    short = model.solve(start_of(model), FIELDS, LoopSettings(2, 1e-13, 0.2, "anderson"))
    assert short.status.tolist() == [MAX_STEPS] * 2 and short.history.shape == (2, 2)


def test_scripted_and_not() -> None:
    model = Occupations()
    scripted = torch.jit.script(model)
    for solver in ("anderson", "linear"):
        settings = LoopSettings(60, 1e-10, 0.2, solver)
        runs = [module.solve(start_of(model), FIELDS, settings) for module in (model, scripted)]
        for one, other in zip(*runs, strict=True):
            assert torch.allclose(one.double(), other.double(), rtol=0, atol=1e-12)
        adjoints = [module.adjoint(runs[0].x, FIELDS, settings) for module in (model, scripted)]
        for one, other in zip(*adjoints, strict=True):
            assert torch.allclose(one.double(), other.double(), rtol=0, atol=1e-12)


def test_a_scripted_loop_remembers_nothing() -> None:
    """Calls after the first ones are compiled anew with what is constant: no state may be taken for that."""
    model = Occupations()
    scripted = torch.jit.script(model)
    for number in range(4):
        fields = (1.0 - 0.2 * number) * FIELDS
        found, expected = scripted.solve(start_of(model), fields, TIGHT), model.solve(start_of(model), fields, TIGHT)
        assert torch.equal(found.steps, expected.steps) and found.history.shape == expected.history.shape
        assert torch.allclose(found.x, expected.x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scripted", [False, True])
def test_adjoint_gives_the_derivative_of_a_whole_solution(scripted: bool) -> None:
    """dV/dε = λ·∂G/∂ε, against differences of solutions."""
    model = Occupations()
    runs = torch.jit.script(model) if scripted else model
    solution = solution_of(runs, FIELDS) if not scripted else runs.solve(start_of(model), FIELDS, TIGHT)
    x = solution.x.clone().requires_grad_(True)
    (source,) = torch.autograd.grad(energy_of(x, FIELDS), x)
    found = runs.adjoint(solution.x, source, TIGHT)
    assert found.status.tolist() == [CONVERGED] * 2
    value = (found.x * model(solution.x, solution.level, FIELDS)[0]).sum()
    (gradient,) = torch.autograd.grad(value, model.energies)
    expected = differences(lambda: float(energy_of(solution_of(model, FIELDS).x, FIELDS)), model.energies)
    assert (gradient - expected).abs().max() <= 1e-8 and gradient.abs().max() > 0.1


def implicit_loss(model: Occupations, training: bool) -> Tensor:
    """A loss on the occupations and on the response of V to the fields, which is taken at fixed x and λ."""
    solution = solution_of(model, FIELDS)
    slope, everywhere = model.slope(solution.x).detach(), torch.ones(2, dtype=torch.bool)
    derivatives = ImplicitDerivatives(
        LinearSolves(
            model.loop,
            lambda v: model.product(slope, v).detach(),
            lambda v: model.transposed(slope, v).detach(),
            model.groups(),
            everywhere,
            TIGHT,
        )
    )
    x = solution.x
    if training:
        x = derivatives.solution(x, model(x, solution.level, FIELDS)[0])
    x = x if x.requires_grad else x.detach().requires_grad_(True)
    fields = FIELDS.clone().requires_grad_(True)
    update, value = model(x, solution.level, fields)[0], energy_of(x, fields)
    at = solution.x.clone().requires_grad_(True)
    (by_x,) = torch.autograd.grad(energy_of(at, FIELDS), at)
    adjoint = derivatives.adjoint(value, by_x, update, x, training)
    with derivatives.closed():
        (response,) = torch.autograd.grad(value + (adjoint * (update - x)).sum(), fields, create_graph=training)
    assert derivatives.solves.failures.item() == 0
    weights = torch.cos(torch.arange(N, dtype=torch.float64)).unsqueeze(1)
    return (weights * x).sum() + response.square().sum()


def test_implicit_derivatives_of_values_and_of_responses() -> None:
    model = Occupations()
    by_energies, by_coupling, by_temperature = torch.autograd.grad(implicit_loss(model, True), [*model.parameters()])

    def value() -> float:
        return float(implicit_loss(model, False).detach())

    assert (by_energies - differences(value, model.energies)).abs().max() <= 1e-8 and by_energies.abs().max() > 0.1
    assert abs(float(by_temperature) - float(differences(value, model.temperature))) <= 1e-8
    direction = torch.randn(N, N, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    direction = torch.where(model.coupling.detach() == 0, 0.0, direction) / N
    along = float((by_coupling * direction).sum())
    assert along == pytest.approx(slope_along(value, model.coupling, direction), rel=0, abs=1e-8) and abs(along) > 1e-2


def test_response_at_fixed_solution_is_that_of_whole_solutions() -> None:
    """The adjoint's response to the fields, which the loss above squares, against differences."""
    model, fields = Occupations(), FIELDS.clone()
    expected = differences(lambda: float(energy_of(solution_of(model, fields).x, fields)), fields)
    solution = solution_of(model, FIELDS)
    at, outer = solution.x.clone().requires_grad_(True), FIELDS.clone().requires_grad_(True)
    (by_x,) = torch.autograd.grad(energy_of(at, FIELDS), at)
    adjoint = model.adjoint(solution.x, by_x, TIGHT).x
    value = energy_of(solution.x, outer) + (adjoint * model(solution.x, solution.level, outer)[0]).sum()
    (found,) = torch.autograd.grad(value, outer)
    assert (found - expected).abs().max() <= 1e-8


def test_ends_of_the_spectrum_of_every_structure() -> None:
    model = Occupations()
    x = solution_of(model, FIELDS).x
    slope = model.slope(x).detach()
    start = torch.randn(N, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for product in (model.product, model.transposed):
        columns = [product(slope, unit.unsqueeze(1))[:, 0] for unit in torch.eye(N, dtype=torch.float64)]
        dense = torch.stack(columns, dim=1).detach()

        def apply(v: Tensor, product=product) -> Tensor:
            return product(slope, v).detach()

        ritz = Ritz(arnoldi(apply, start, model.groups(), max(SIZES), ends_found))
        for structure, values in enumerate(ritz.values):
            own = model.batch == structure
            exact = torch.linalg.eigvals(dense[own][:, own]).real.numpy()
            assert [values.real.min(), values.real.max()] == pytest.approx([exact.min(), exact.max()], abs=1e-6)


class Softer(nn.Module):
    """A step shorter where the sites answer more: (1 + c)^-1."""

    def forward(self, residual: Tensor) -> Tensor:
        return residual / 5.0


def test_a_preconditioner_changes_the_way_and_not_the_end() -> None:
    """With strong repulsion plain steps overshoot; scripted, too."""
    plain, softer = Occupations(strength=6.0), Occupations(strength=6.0, precondition=Softer())
    whole_steps = LoopSettings(300, 1e-12, 1.0, "linear")
    assert (
        CONVERGED not in plain.solve(start_of(plain), FIELDS, LoopSettings(300, 1e-12, 1.0, "linear")).status.tolist()
    )
    found = softer.solve(start_of(softer), FIELDS, whole_steps)
    assert found.status.tolist() == [CONVERGED] * 2
    for module in (softer, torch.jit.script(softer)):
        anderson = module.solve(start_of(softer), FIELDS, LoopSettings(100, 1e-12, 0.2, "anderson"))
        assert torch.allclose(anderson.x, found.x, rtol=0, atol=1e-10)
    assert torch.allclose(solution_of(plain, FIELDS).x, found.x, rtol=0, atol=1e-10)
