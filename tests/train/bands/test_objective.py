"""The cost of a pseudopotential: derivatives, parts that add up, and its terms by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fp_potential.train.bands.couplings import couplings
from fp_potential.train.bands.data import Coupling
from fp_potential.train.bands.objective import TERMS
from fp_potential.train.bands.penalties import large_q, magnitude, second_derivatives
from fp_potential.train.bands.problem import BandsProblem
from fp_potential.train.bands.systems import load_systems
from fp_potential.train.bands.targets import deformation, edges, masses, valence_band
from fp_potential.train.trainer import distributed
from fp_potential.train.trainer.gradients import BatchGradient

from bands_training import ZUNGER, bands_config, bands_problem, parameters_of, start, system
from figures import at_most
from fp_potential.bands import HARTREE, Crystal, Hamiltonian, PlaneWaves

NEURAL = {"form": "neural", "hidden_layers": [6, 5]}
EVERYTHING = {"long_range": True, "spin_orbit": True, "non_local": True, "strain": True}
GROUPS = ["local", "long_range", "spin_orbit", "nonlocal", "strain"]
#: of one state, of a transition at one k-point, and of one between two, at two ratios; Γ and L are degenerate
TRANSITIONS = [
    [0, 8, 1.01, -5.0, 2.0],
    [1, 5, 0.99, 3.0, 1.0],
]
BETWEEN = [[0, 7, 0, 8, 0.99, -6.0, 1.5], [0, 7, 1, 8, 1.01, -4.0, 0.5], [2, 3, 3, 8, 1.01, -2.0, 1.0]]

CASES = {
    "zunger": {},
    "celu, gaussian": {"model": {"local": NEURAL | {"envelope": {"type": "gaussian", "std": 2.0}}}},
    "tanh, logistic": {
        "model": {"local": NEURAL | {"activation": "tanh", "start": "xavier", "envelope": {"type": "logistic"}}}
    },
    "sigmoid, scale": {"model": {"local": NEURAL | {"activation": "sigmoid", "scale": [1.5, 2.0, 0.5]}}},
    "every term": {
        "model": {"terms": EVERYTHING, "trainable": GROUPS},
        "systems": [system("In", deformation=BETWEEN)],
        "objective": {"spin_orbit_penalty": 10.0, "spin_orbit_limit": 0.3},
    },
    "deformation": {"systems": [system("In", deformation=TRANSITIONS), system("Ga", deformation=BETWEEN)]},
    "relative band": {"systems": [system("In", relative_band=7)]},
    "gaps, mean": {"objective": {"gaps": True, "mean": True}, "systems": [system("In", kpoints=[[0.1, 0.25, 0.4]])]},
    "penalties": {"objective": {"large_q": 0.3, "large_q_start": 2.0, "magnitude": 0.01, "magnitude_threshold": 10.0}},
    "roughness": {
        "model": {"local": NEURAL | {"envelope": {"type": "gaussian", "std": 2.0}}},
        "objective": {"roughness": 1e-4},
    },
    "masses": {"systems": [system("In", masses=(0.05, 0.4, 2.0), gap_kpoint=2, valence_band=7, conduction_band=8)]},
}


def whole(problem, stage=None):
    """Cost of everything."""
    batch = problem.batch("train", problem.plan("train")[0])
    return problem.loss(batch, stage or problem.config.train_schedule[0])


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_the_derivative(name):
    """Along a random direction of all trained parameters, by central differences of fourth order."""
    problem = bands_problem(bands_config(**CASES[name]), shift=0.05)
    start(problem)
    parameters = parameters_of(problem)
    result = whole(problem)
    gradients = torch.autograd.grad(result.total, parameters)
    generator = torch.Generator().manual_seed(1)
    direction = [
        p.detach().abs().clamp(min=0.05) * torch.randn(p.shape, generator=generator).double() for p in parameters
    ]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
    kept = [p.detach().clone() for p in parameters]

    def at(step):
        with torch.no_grad():
            for p, k, d in zip(parameters, kept, direction, strict=True):
                p.copy_(k + step * d)
            return float(whole(problem).total.detach())

    h = 1e-3
    numeric = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
    assert abs(slope) > 1e-3
    at_most("gradient of the cost, relative to finite differences", abs(slope / numeric - 1), 1e-6)


def test_terms_are_named_and_switched_off():
    config = bands_config(systems=[system("In", deformation=BETWEEN)], objective={"deformation": 0.0})
    problem = bands_problem(config)
    result = whole(problem)
    assert tuple(result.terms) == TERMS and result.terms["deformation"] == 0
    assert float(result.total.detach()) == float(result.terms["bands"]) > 0


def test_bands_by_hand():
    """Weights by k and band, a missing energy, and energies relative to a band, against numpy."""
    weights, kpoints = np.arange(1.0, 11.0), [[0.1, 0.25, 0.4, 0.5], [0.3, 0.05, 0.2, 3.0]]
    for relative in (None, 4):
        own = system("In", kpoints=kpoints, band_weights=weights.tolist(), relative_band=relative)
        own["bands"][1][3] = float("nan")
        problem = bands_problem(bands_config(systems=[own]), shift=0.0)
        (one,) = problem.systems
        one.reference.zero_()
        waves = PlaneWaves(one.hamiltonian.crystal, 1.5)
        matrices = Hamiltonian(one.hamiltonian.crystal, waves).matrix(one.k, problem.module).detach().numpy()
        energies = np.repeat(HARTREE * np.linalg.eigvalsh(matrices), 2, axis=1)[:, :10]
        if relative is not None:
            energies = energies - energies[:, relative, None]
        expected = np.array([[0.5], [3.0]]) * weights * energies**2
        expected[1, 2] = 0
        assert float(whole(problem).total.detach()) == pytest.approx(expected.sum(), rel=1e-12)


def test_deformation_potentials_are_derivatives_by_the_volume():
    """For a ratio near one the table's D is dE/dlnV, of a state and of the difference of two at different k."""
    rows = [[0, 8, 1.0001, 0.0, 1.0], [1, 8, 1.0001, 0.0, 1.0]]
    problem = bands_problem(bands_config(systems=[system("In", deformation=rows)]))
    (one,) = problem.systems
    single = deformation(one, problem.module, one.data.transitions)
    crystal, waves = one.hamiltonian.crystal, one.hamiltonian.basis

    def energy(k, log_volume):
        scaled = crystal.scaled(np.exp(log_volume / 3))
        matrix = Hamiltonian(scaled, waves.on(scaled)).matrix(one.k[[k]], problem.module)[0]
        return HARTREE * float(torch.linalg.eigvalsh(matrix.detach())[4])

    for k, value in enumerate(single.tolist()):
        assert value == pytest.approx((energy(k, 1e-3) - energy(k, -1e-3)) / 2e-3, rel=1e-4, abs=2e-3)
    pair = bands_problem(bands_config(systems=[system("In", deformation=[[0, 8, 1, 8, 1.0001, 0.0, 1.0]])]))
    difference = float((single[1] - single[0]).detach())
    assert float(whole(pair).terms["deformation"]) == pytest.approx(difference**2, rel=1e-9)


def test_effective_mass_of_free_electrons():
    """Without a potential 1/m is 1 in every direction."""
    model = {"parameters": {name: [0.0, 1.0, 2.0, 1.0] for name in ZUNGER}}
    own = system(
        "In", masses=(1.0, 1.0, 1.0), gap_kpoint=0, valence_band=0, conduction_band=1, kpoints=[[0.1, 0.0, 0.0]]
    )
    problem = bands_problem(bands_config(model=model, systems=[own]), shift=0.0)
    np.testing.assert_allclose(masses(problem.systems[0], problem.module).detach(), [1.0, 1.0], rtol=1e-6)


def test_edges_without_given_bands():
    """By the valence electrons; of species that have none, the highest gap that all k-points share."""
    problem = bands_problem(bands_config(systems=[system("In")]))
    rows = [[-10.0, -10, -5, -5, -1, -1, 1, 1, 2, 2], [-9.0, -9, -5, -5, -2, -2, 1.5, 1.5, 1.55, 1.55]]
    energies = torch.tensor(rows)
    problem.systems[0].reference, problem.systems[0].weights = energies.double(), torch.ones(2, 10)
    assert edges(problem.systems[0]) == (1, 7, 8)
    assert valence_band(("A", "B"), energies) == 5


def test_penalties_by_hand():
    problem = bands_problem(bands_config())
    q = np.linspace(2.0, 12.0, 50)
    rows = [problem.species.index("In"), problem.species.index("As")]

    def v(q):
        return np.array([a[0] * (q**2 - a[1]) / (a[2] * np.exp(a[3] * q**2) - 1) for a in (ZUNGER["In"], ZUNGER["As"])])

    switch = 1 / (1 + np.exp(-10 * (q - 2.5)))
    assert float(large_q(problem.module, rows, 2.0).detach()) == pytest.approx((switch * np.abs(v(q))).mean())
    q = np.linspace(0.0, 12.0, 50)
    neural = bands_problem(bands_config(model={"local": NEURAL}), shift=0.0).module
    q_fine = np.arange(0, 8.15, 0.1)
    rough = neural.form(torch.from_numpy(q_fine)).detach().numpy()[:, rows].T - v(q_fine)
    second = (rough[:, 2:] - 2 * rough[:, 1:-1] + rough[:, :-2]) / 0.01
    np.testing.assert_allclose(second_derivatives(neural, rows).detach(), second.T, atol=1e-9)
    assert not second_derivatives(problem.module, rows).any()
    excess = np.clip(np.abs(v(q)) - 10.0, 0, None).mean()
    assert float(magnitude(problem.module, rows, 10.0).detach()) == pytest.approx(excess)


ALL_TERMS = {
    "model": {"terms": EVERYTHING, "trainable": GROUPS},
    "systems": [
        system("In", deformation=BETWEEN, masses=(0.05, 0.4, 2.0), gap_kpoint=2),
        system("Ga", deformation=TRANSITIONS),
    ],
    "objective": {"large_q": 0.3, "magnitude": 0.01, "magnitude_threshold": 10.0, "spin_orbit_penalty": 1.0},
}


def cost_and_gradient(workers, pieces):
    problem = bands_problem(bands_config(**ALL_TERMS), shift=0.05)
    stage, parameters = problem.config.train_schedule[0], parameters_of(problem)

    def run():
        gradient = BatchGradient(problem, parameters, stage, pieces)
        part = gradient.load(problem.plan("train")[0])
        value, result = gradient.value(part), gradient.gradient(part)
        assert value.total == pytest.approx(result.total, rel=1e-14)
        return [result.total, *result.terms.values(), result.structures], [p.grad.clone() for p in parameters]

    return distributed.run_together(workers, run)


@pytest.mark.parametrize("workers, pieces", [(1, 3), (1, 50), (2, 1), (3, 2)])
def test_same_cost_and_gradient_in_parts(workers, pieces):
    """By k-points one after the other (separateKptGrad), and in several processes."""
    values, gradients = cost_and_gradient(1, 1)
    other_values, other_gradients = cost_and_gradient(workers, pieces)
    assert min(values[0], values[2], values[4], values[5]) > 0
    np.testing.assert_allclose(other_values, values, rtol=1e-12)
    for gradient, other in zip(gradients, other_gradients, strict=True):
        scale = float(gradient.abs().max())
        at_most("gradients in parts, relative", float((gradient - other).abs().max()) / scale, 1e-12)


@pytest.mark.parametrize(
    "name", ["celu, gaussian", "every term", "deformation", "relative band", "gaps, mean", "masses", "roughness"]
)
def test_normal_equations(name):
    """Their gradient is that of the cost, their curvature 2 JᵀJ by finite differences of the residuals."""
    problem = bands_problem(bands_config(**CASES[name]), shift=0.05)
    start(problem)
    stage, parameters = problem.config.train_schedule[0], parameters_of(problem)
    batch = problem.batch("train", problem.plan("train")[0])
    found = problem.normal_equations(batch, stage, parameters)
    result = problem.loss(batch, stage)
    gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(result.total, parameters)])
    assert float(found.result.total) == pytest.approx(float(result.total.detach()), rel=1e-13)
    at_most(
        "gradient of normal equations", float((found.gradient - gradient).abs().max() / gradient.abs().max()), 1e-11
    )
    assert float((found.curvature - found.curvature.T).abs().max()) <= 1e-12 * float(found.curvature.abs().max())
    # at a vanishing residual the curvature is the second derivative of the cost
    exact = bands_problem(bands_config(**CASES[name] | {"objective": {"gaps": name == "gaps, mean"}}), shift=0.0)
    if name in ("relative band", "gaps, mean"):
        parameters = parameters_of(exact)
        batch = exact.batch("train", exact.plan("train")[0])
        curvature = exact.normal_equations(batch, stage, parameters).curvature
        direction = torch.randn(len(curvature), generator=torch.Generator().manual_seed(2)).double()
        kept = [p.detach().clone() for p in parameters]
        pieces = direction.split([p.numel() for p in parameters])

        def at(step):
            with torch.no_grad():
                for p, k, d in zip(parameters, kept, pieces, strict=True):
                    p.copy_(k + step * d.view(k.shape))
                return float(exact.loss(batch, stage).total)

        h = 1e-4
        second = (at(h) + at(-h) - 2 * at(0.0)) / h**2
        assert float(direction @ curvature @ direction) == pytest.approx(second, rel=1e-3)


SOC = {"terms": {"spin_orbit": True, "non_local": True}, "trainable": ["local", "spin_orbit", "nonlocal"]}
COUPLED = {"valence_band": 7, "conduction_band": 8, "gap_kpoint": 2, "qpoints": [[0.0, 0.0, 0.0], [0.1, 0.2, 0.05]]}


def with_couplings(model, kpoint=2):
    """A system whose table of couplings is put in by hand."""
    own = system("In", **COUPLED | {"gap_kpoint": kpoint})
    problem = bands_problem(bands_config(model=model, systems=[own]), shift=0.05)
    (one,) = problem.systems
    rows = [Coupling(atom, axis, q, edge, 0.3) for atom, axis, q in ((0, 0, 0), (1, 2, 0), (1, 1, 1), (0, 2, 1))
            for edge in ("valence", "conduction")]  # fmt: skip
    one.data = replace(one.data, couplings=tuple(rows))
    return problem


@pytest.mark.parametrize("model", [{}, SOC, {"terms": {"non_local": True}}], ids=["local", "spin-orbit", "non-local"])
def test_couplings_at_q_zero_are_derivatives_by_positions(model):
    """⟨n|∂H/∂R|n⟩ = dE/dR of a state that is not degenerate, by moving the atom."""
    problem = with_couplings(model)
    (one,) = problem.systems
    spin = bool(problem.module.terms.spin_orbit)
    with torch.no_grad():
        found = couplings(one, problem.module)
    for row, value in zip(one.data.couplings, found.tolist(), strict=True):
        if row.q != 0:
            continue
        energies = []
        for step in (2e-4, -2e-4):
            positions = one.hamiltonian.crystal.positions.clone()
            moved = torch.zeros(3, dtype=torch.float64)
            moved[row.axis] = step
            positions[row.atom] += moved @ torch.linalg.inv(one.hamiltonian.crystal.cell)
            crystal = Crystal(one.hamiltonian.crystal.cell, one.hamiltonian.crystal.species, positions)
            other = Hamiltonian(crystal, PlaneWaves(crystal, 1.5), one.hamiltonian.terms)
            values = torch.linalg.eigvalsh(other.matrix(one.k[[2]], problem.module).detach()[0])
            band = 7 if row.edge == "valence" else 8
            energies.append(HARTREE * float(values[band if spin else band // 2]))
        assert value == pytest.approx(abs(energies[0] - energies[1]) / 4e-4, rel=2e-6, abs=1e-6)


@pytest.mark.parametrize("model", [{}, SOC], ids=["local", "spin-orbit"])
@pytest.mark.parametrize("kpoint", [0, 2])
def test_gradient_of_couplings(model, kpoint):
    """By finite differences, between degenerate states (Γ) and others; with and without gradients they are the same."""
    problem = with_couplings(model, kpoint)
    (one,) = problem.systems
    parameters = parameters_of(problem)
    value = couplings(one, problem.module)
    with torch.no_grad():
        np.testing.assert_allclose(couplings(one, problem.module), value.detach(), rtol=1e-8, atol=1e-10)
    weights = torch.arange(1.0, 1.0 + len(value)).double() * (value.detach() > 1e-6)
    gradients = torch.autograd.grad((weights * value).sum(), parameters)
    generator = torch.Generator().manual_seed(1)
    direction = [p.detach() * torch.randn(p.shape, generator=generator).double() for p in parameters]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
    kept = [p.detach().clone() for p in parameters]

    def at(step):
        with torch.no_grad():
            for p, k, d in zip(parameters, kept, direction, strict=True):
                p.copy_(k + step * d)
            return float((weights * couplings(one, problem.module)).sum())

    h = 1e-3
    numeric = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
    at_most("gradient of couplings, relative to finite differences", abs(slope / numeric - 1), 1e-6)


def test_edges_where_energies_are_missing():
    """A k-point without reference energies has no gap: neither the smallest one nor one that the others share."""
    row = [-10.0, -10, -5, -5, -1, -1, 1, 1, 2, 2]
    missing = [float("nan")] * 10
    reference = [[0.0, *row], [1.0, *missing], [2.0, *row[:6], 0.5, 0.5, 0.9, 0.9], [3.0, *row]]
    assert valence_band(("X",), torch.tensor(reference)[:, 1:]) == 5
    for options, expected in (({}, (2, 7, 8)), ({"valence_band": 5, "conduction_band": 6}, (2, 5, 6))):
        config = bands_config(systems=[system("In", bands=reference, **options)])
        assert edges(BandsProblem(config, load_systems(config.systems)).systems[0]) == expected


def test_held_out_error_is_that_of_the_relative_energies():
    """A reference that is shifted at each k has no error relative to a band."""
    problem = bands_problem(bands_config(systems=[system("In", relative_band=7)], hold_out=2), shift=0.0)
    problem.systems[0].reference += torch.arange(1.0, 5.0)[:, None]
    found = problem.evaluate("valid", problem.config.train_schedule[0], 0)
    assert found["valid loss"] == pytest.approx(0.0, abs=1e-18)
    assert found["valid bands [meV]"] == pytest.approx(0.0, abs=1e-6)


def test_only_charge_is_balanced_by_another_species():
    """A charge given to one species alone stays, and the other has its opposite; the log says both."""
    for charged, other in (("In", "As"), ("As", "In")):
        own = {name: [*row[:4], 0.3 * (name == charged), 0.0, 0.0, 0.0, 0.0] for name, row in ZUNGER.items()}
        model = {"terms": {"long_range": True}, "parameters": own}
        problem = bands_problem(bands_config(model=model, systems=[system("In")]), shift=0.0)
        charges = dict(zip(problem.species, problem.module.charges(problem.systems[0].hamiltonian.crystal).tolist()))
        assert charges == {charged: 0.3, other: -0.3}
        assert any(f"{charged} 0.3" in line and f"that of {other} follows" in line for line in problem.introduction())
