"""The engine against the exact solutions: state, derivatives, responses and Jacobian of the known models."""

import math

import pytest
import torch
from ase import Atoms

from figures import at_most
from fp_potential.density.problem import own_start
from fp_potential.reference import ChargeEquilibration, exact_response, exact_solution, jacobian
from fp_potential.scf.settings import LoopSettings
from fp_potential.units import COULOMB
from reference.systems import make, solved, system
from structures import evaluate, to_graph

KINDS = ["charges", "dipoles", "both", "split charges", "mixture"]
#: those with a Fermi level
CONDUCTING = ["charges", "both", "mixture"]
BOUNDARIES = ["triclinic", "left-handed", "open", "metal"]
CHARGE = pytest.mark.parametrize("constant_charge", [True, False], ids=["charge", "fermi"])
#: split charges without a metal have no level to hold
CASES = pytest.mark.parametrize(
    ("kind", "constant_charge"),
    [(kind, held) for kind in KINDS for held in (True, False) if held or kind != "split charges"],
)


def error(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


@pytest.mark.parametrize("boundary", BOUNDARIES)
@CASES
def test_the_engine_finds_the_exact_solution(kind: str, boundary: str, constant_charge: bool) -> None:
    model, graph = system(kind, boundary)
    out, exact = solved(model, graph, constant_charge), exact_solution(model, graph, constant_charge)
    at_most("known models: density against the exact solve, e", error(out["density"], exact.density), 1e-10)
    relative = abs(out["energy"].item() / exact.energy.item() - 1.0)
    at_most("known models: energy against the exact solve, relative", relative, 1e-10)
    at_most("known models: forces against the exact solve, eV/Å", error(out["forces"], exact.forces), 1e-8)
    strain = error(out["strain_gradient"][0], exact.strain_gradient)
    at_most("known models: strain derivative against the exact solve, eV", strain, 1e-8)
    assert error(out["fermi_level"][0], exact.fermi_level) <= 1e-10
    assert error(out["total_charge"][0], exact.total_charge) <= 1e-10
    assert error(out["dipole"][0], exact.dipole) <= 1e-9
    assert exact.density.abs().max() > 0.1 and exact.forces.abs().max() > 0.1


@pytest.mark.parametrize("boundary", ["triclinic", "open"])
@pytest.mark.parametrize("kind", ["charges", "both", "split charges", "mixture"])
def test_the_offset_of_the_fermi_level_changes_nothing(kind: str, boundary: str) -> None:
    model, graph = system(kind, boundary, fermi_level_offset=-4.7)
    for constant_charge in (True, False) if kind in CONDUCTING else (True,):
        out, exact = solved(model, graph, constant_charge), exact_solution(model, graph, constant_charge)
        assert error(out["density"], exact.density) <= 1e-10
        assert error(out["fermi_level"][0], exact.fermi_level) <= 1e-10
        assert out["energy"].item() == pytest.approx(exact.energy.item(), rel=1e-10)


@pytest.mark.parametrize("boundary", ["triclinic", "open"])
def test_the_self_interaction_may_be_in_the_stiffness(boundary: str) -> None:
    """The same state from field and energy without it: another map with the same fixed point."""
    model, graph = system("both", boundary)
    folded = ChargeEquilibration(model.options.without_self_interaction())
    a, b = solved(model, graph), solved(folded, graph)
    assert error(a["density"], b["density"]) <= 1e-10
    assert error(a["energy"], b["energy"]) <= 1e-10
    assert error(a["forces"], b["forces"]) <= 1e-8
    assert error(b["density"], exact_solution(folded, graph).density) <= 1e-10
    assert jacobian(model, graph).trace() < jacobian(folded, graph).trace() - 1


@CHARGE
@pytest.mark.parametrize("boundary", ["triclinic", "open"])
@pytest.mark.parametrize("kind", ["both", "mixture"])
def test_forces_need_no_response(kind: str, boundary: str, constant_charge: bool) -> None:
    """Hellmann–Feynman: the derivative at fixed density is the whole one, as dE/dp = -μ on charges and 0 on dipoles."""
    model, graph = system(kind, boundary)
    full = solved(model, graph, constant_charge)
    fixed = solved(model, graph, constant_charge, response_forces=False)
    assert error(full["forces"], fixed["forces"]) <= 1e-9
    assert error(full["strain_gradient"], fixed["strain_gradient"]) <= 1e-9


@pytest.mark.parametrize("boundary", ["triclinic", "open"])
@pytest.mark.parametrize("kind", ["both", "mixture"])
def test_exact_forces_are_derivatives(kind: str, boundary: str) -> None:
    """Central differences of the exact energy; nothing of the engine."""
    model, graph = system(kind, boundary)
    step, atom = 1e-4, 2
    energies = []
    for sign in (-1, 1):
        positions = graph.positions.clone()
        positions[atom, 1] += sign * step
        energies.append(exact_solution(model, graph._replace(positions=positions)).energy.item())
    numeric = -(energies[1] - energies[0]) / (2 * step)
    assert exact_solution(model, graph).forces[atom, 1].item() == pytest.approx(numeric, abs=1e-6)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("kind", CONDUCTING)
def test_energy_charge_and_level(kind: str, boundary: str) -> None:
    """dE/dQ = -μ, dΩ/dμ = Q; E and Ω are quadratic, so a central difference is exact for any step."""
    model, graph = system(kind, boundary)

    def energy(charge: float) -> float:
        return solved(model, graph._replace(total_charge=graph.total_charge + charge))["energy"].item()

    def grand_potential(level: float) -> float:
        moved = graph._replace(fermi_level=graph.fermi_level + level)
        return solved(model, moved, constant_charge=False)["energy"].item()

    at_charge, at_level = solved(model, graph), solved(model, graph, constant_charge=False)
    by_charge, by_level = energy(0.5) - energy(-0.5), grand_potential(0.5) - grand_potential(-0.5)
    at_most("known models: dE/dQ + μ, eV", abs(by_charge + at_charge["fermi_level"].item()), 1e-8)
    at_most("known models: dΩ/dμ - Q, e", abs(by_level - at_level["total_charge"].item()), 1e-8)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("kind", CONDUCTING)
def test_forces_of_one_state_from_both_sides(kind: str, boundary: str) -> None:
    model, graph = system(kind, boundary)
    at_charge = solved(model, graph)
    at_level = solved(model, graph._replace(fermi_level=at_charge["fermi_level"]), constant_charge=False)
    assert error(at_charge["density"], at_level["density"]) <= 1e-10
    both = error(at_charge["forces"], at_level["forces"])
    at_most("known models: forces at constant charge against constant level, eV/Å", both, 1e-8)
    assert error(at_charge["strain_gradient"], at_level["strain_gradient"]) <= 1e-8


@CASES
def test_polarizability(kind: str, constant_charge: bool) -> None:
    """dD/dE of the engine by differences in the field, exact because the map is affine, and its symmetry and sign."""
    model, graph = system(kind, "open")
    exact = exact_response(model, graph, constant_charge)
    for axis in range(3):
        step = torch.zeros(1, 3, dtype=torch.float64)
        step[0, axis] = 0.25
        plus, minus = (
            solved(model, graph._replace(external_field=graph.external_field - sign * step), constant_charge)
            for sign in (1, -1)
        )
        assert error((plus["dipole"][0] - minus["dipole"][0]) / 0.5, exact.polarizability[:, axis]) <= 1e-8
        assert error((plus["density"] - minus["density"]) / 0.5, exact.by_field[:, :, axis]) <= 1e-8
    assert error(exact.polarizability, exact.polarizability.t()) <= 1e-10
    assert torch.linalg.eigvalsh(exact.polarizability).min() > 0


@CASES
def test_polarizability_by_adjoint(kind: str, constant_charge: bool) -> None:
    """`responses` and the derivatives of the energy that `evaluate` gives besides forces."""
    model, graph = system(kind, "open")
    settings = LoopSettings(100, 1e-12, 0.3, "anderson")
    out = model.responses(graph, settings, own_start(graph.positions), constant_charge)
    polarizability = exact_response(model, graph, constant_charge).polarizability
    difference = error(-out["dipole_by_field"][0], polarizability)
    at_most("known models: polarizability against the exact solve, e Å²/V", difference, 1e-8)
    state, exact = solved(model, graph, constant_charge), exact_solution(model, graph, constant_charge)
    assert error(state["energy_by_field"][0], exact.dipole) <= 1e-8
    if kind in CONDUCTING:
        conjugate = -exact.fermi_level if constant_charge else exact.total_charge
        assert error(state["energy_by_target"][0], conjugate) <= 1e-8


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("kind", KINDS)
def test_response_to_charge_and_level(kind: str, boundary: str) -> None:
    model, graph = system(kind, boundary)
    exact = exact_response(model, graph)
    plus, minus = (solved(model, graph._replace(total_charge=graph.total_charge + s)) for s in (0.5, -0.5))
    assert error(plus["density"] - minus["density"], exact.by_charge) <= 1e-8
    assert exact.by_charge[:, 0].sum().item() == pytest.approx(1.0, abs=1e-12)
    assert (exact.capacitance > 0) == (kind in CONDUCTING)
    if kind == "split charges":
        return
    plus, minus = (
        solved(model, graph._replace(fermi_level=graph.fermi_level + s), constant_charge=False) for s in (0.5, -0.5)
    )
    assert error(plus["density"] - minus["density"], exact.by_level) <= 1e-8
    assert (minus["total_charge"] - plus["total_charge"]).item() == pytest.approx(exact.capacitance.item(), abs=1e-8)


@CHARGE
@pytest.mark.parametrize("boundary", ["triclinic", "open"])
@pytest.mark.parametrize("kind", KINDS)
def test_jacobian_of_the_map(kind: str, boundary: str, constant_charge: bool) -> None:
    """The engine's map is affine with the exact Jacobian, and `transposed` is its transpose; no eigenvalue is > 0."""
    model, graph = system(kind, boundary)
    with torch.no_grad():
        local = model.local(graph, edge_vectors(graph))
        problem = model.problem(graph, local, graph.positions, graph.cell, constant_charge)
        density_map, n = model.solver.density_map, graph.positions.shape[0]
        exact = jacobian(model, graph, constant_charge)
        generator = torch.Generator().manual_seed(1)
        for _ in range(3):
            a, b, w = torch.randn(3, n, 4, generator=generator, dtype=torch.float64)
            difference = density_map(problem, a + b, problem.target)[0] - density_map(problem, a, problem.target)[0]
            assert error(difference.reshape(-1), exact @ b.reshape(-1)) <= 1e-9
            assert error(density_map.transposed(problem, w).reshape(-1), w.reshape(-1) @ exact) <= 1e-9
    eigenvalues = torch.linalg.eigvals(exact)
    assert eigenvalues.imag.abs().max() < 1e-7
    assert eigenvalues.real.max() < 1e-9 and eigenvalues.real.min() < -0.01


def edge_vectors(graph):
    i, j = graph.edge_index
    return graph.positions[j] - graph.positions[i] + graph.edge_shifts


def test_one_atom_by_hand() -> None:
    """q = Q, μ = -χ - (η + k_e/(sqrt(pi) σ)) Q, and 1/α + k_e/(6 sqrt(pi) σ³) as the inverse polarizability."""
    model = make("both", "Na")
    field = [0.0, 0.3, 0.0]
    graph = to_graph(Atoms("Na"), model, total_charge=0.7, external_field=field)
    out = solved(model, graph)
    na, own = model.options.elements["Na"], COULOMB / (math.sqrt(math.pi) * 1.5)
    alpha = 1.0 / (COULOMB / na.polarizability + own / (6 * 1.5**2))
    assert out["density"][0].tolist() == pytest.approx([0.7, -0.3 * alpha, 0.0, 0.0], abs=1e-12)
    assert out["fermi_level"].item() == pytest.approx(-na.electronegativity - (na.hardness + own) * 0.7, abs=1e-12)
    energy = na.electronegativity * 0.7 + 0.5 * (na.hardness + own) * 0.49 - 0.5 * alpha * 0.09
    assert out["energy"].item() == pytest.approx(energy, abs=1e-12)
    exact = exact_solution(model, graph)
    assert error(out["density"], exact.density) <= 1e-12
    assert error(exact.forces[0], -0.7 * graph.external_field[0]) <= 1e-12


def test_two_atoms_by_hand() -> None:
    """q = (χ_Cl - χ_Na) / (η_Na + η_Cl + 2 J_0 - 2 J_R), J_R = k_e erf(R/2σ)/R."""
    model = make("charges", "Na", "Cl", repulsion_energy=0.0)
    out = solved(model, to_graph(Atoms("NaCl", [[0, 0, 0], [0, 2.0, 2.1]]), model))
    na, cl = model.options.elements.values()
    distance = math.hypot(2.0, 2.1)
    j0, jr = COULOMB / (math.sqrt(math.pi) * 1.5), COULOMB * math.erf(distance / 3.0) / distance
    q = (cl.electronegativity - na.electronegativity) / (na.hardness + cl.hardness + 2 * (j0 - jr))
    assert out["density"][:, 0].tolist() == pytest.approx([q, -q], abs=1e-12)
    assert out["energy"].item() == pytest.approx(-0.5 * q * (cl.electronegativity - na.electronegativity), abs=1e-12)


def test_fixed_charges_are_those_of_the_elements_shifted_to_the_total() -> None:
    model = make("dipoles", "Na", "Cl", fermi_level_offset=-3.0)
    graph = to_graph(Atoms("Na2Cl", [[0, 0, 0], [0, 0, 5], [0, 0.5, 2.4]]), model, total_charge=0.4, fermi_level=-1.0)
    out = solved(model, graph)
    assert out["density"][:, 0].tolist() == pytest.approx([0.8, 0.8, -1.2], abs=1e-14)
    assert out["fermi_level"].item() == -3.0
    at_level = solved(model, graph, constant_charge=False)
    assert at_level["fermi_level"].item() == -1.0
    assert at_level["energy"].item() == pytest.approx(out["energy"].item() - 0.4, abs=1e-12)
    assert error(at_level["forces"], out["forces"]) <= 1e-10


def test_float32_follows_float64() -> None:
    for kind in KINDS:
        double, graph = system(kind, "triclinic")
        single = make(kind).float()
        as_float = graph._replace(**{k: v.float() for k, v in graph._asdict().items() if is_float(v)})
        a, b = solved(double, graph), evaluate(single, as_float, scf_tolerance=1e-6)
        assert b["status"].tolist() == [0]
        assert error(a["density"], b["density"].double()) < 2e-5
        assert error(a["forces"], b["forces"].double()) < 1e-3


def is_float(value) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()
