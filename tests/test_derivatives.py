"""Forces and stress are the derivatives of the reported energy: central differences, float64, SCF at 1e-11."""

import pytest
import torch

from figures import at_least, at_most
from fp_potential.graph import Graph
from fp_potential.model import FixedPointPotential
from fp_potential.scf.settings import LoopSettings
from structures import evaluate, make_model, salt_water_box, to_graph, water_cluster

STEP = 1e-4


def central_differences(model: FixedPointPotential, graph: Graph, atoms: list[int], **options) -> torch.Tensor:
    """-dE/dx of some atoms by fourth-order central differences ``(len(atoms), 3)``."""
    out = torch.zeros(len(atoms), 3, dtype=torch.float64)
    for row, atom in enumerate(atoms):
        for axis in range(3):
            energies = []
            for factor in (-2, -1, 1, 2):
                positions = graph.positions.clone()
                positions[atom, axis] += factor * STEP
                moved = evaluate(model, graph._replace(positions=positions), compute_forces=False, **options)
                energies.append(moved["energy"].sum())
            out[row, axis] = -(energies[0] - 8 * energies[1] + 8 * energies[2] - energies[3]) / (12 * STEP)
    return out


def deformed(graph: Graph, strain: torch.Tensor) -> Graph:
    d = torch.eye(3, dtype=torch.float64) + strain
    return graph._replace(positions=graph.positions @ d, cell=graph.cell @ d, edge_shifts=graph.edge_shifts @ d)


@pytest.mark.parametrize("constant_charge", [True, False], ids=["charge", "fermi"])
@pytest.mark.parametrize("boundary", ["periodic", "open"])
def test_forces(model: FixedPointPotential, boundary: str, constant_charge: bool) -> None:
    if boundary == "periodic":
        graph = to_graph(salt_water_box(), model, total_charge=0.3, fermi_level=-1.7)
    else:
        graph = to_graph(water_cluster(), model, total_charge=-0.5, fermi_level=-2.3, external_field=[0.02, -0.1, 0.05])
    out = evaluate(model, graph, constant_charge=constant_charge)
    assert out["status"].tolist() == [0]
    atoms = [0, 1, 5]
    numeric = central_differences(model, graph, atoms, constant_charge=constant_charge)
    at_most("forces against differences, eV/Å", (out["forces"][atoms] - numeric).abs(), 1e-6)
    assert out["forces"][atoms].abs().max() > 0.01


@pytest.mark.parametrize("constant_charge", [True, False], ids=["charge", "fermi"])
def test_stress(model: FixedPointPotential, constant_charge: bool) -> None:
    graph = to_graph(salt_water_box(), model, total_charge=0.4, fermi_level=-2.2)
    volume = torch.det(graph.cell[0]).abs()
    stress = evaluate(model, graph, constant_charge=constant_charge)["strain_gradient"][0] / volume
    assert torch.allclose(stress, stress.t(), atol=1e-14)
    for a in range(3):
        for b in range(a, 3):
            direction = torch.zeros(3, 3, dtype=torch.float64)
            direction[a, b] += 0.5
            direction[b, a] += 0.5
            energies = [
                evaluate(
                    model, deformed(graph, f * STEP * direction), constant_charge=constant_charge, compute_forces=False
                )["energy"][0]
                for f in (-2, -1, 1, 2)
            ]
            numeric = (energies[0] - 8 * energies[1] + 8 * energies[2] - energies[3]) / (12 * STEP) / volume
            at_most("stress against differences, eV/Å³", abs(stress[a, b] - numeric), 1e-7)


def test_fixed_density_forces_are_wrong_by_the_response(model: FixedPointPotential) -> None:
    graph = to_graph(water_cluster(), model)
    full, fixed = evaluate(model, graph), evaluate(model, graph, response_forces=False)
    assert (full["energy"] - fixed["energy"]).abs().max() < 1e-8
    assert (full["forces"] - fixed["forces"]).abs().max() > 1e-4


def test_corrected_energy_is_second_order_and_forces_first_order(model: FixedPointPotential) -> None:
    """log–log slopes of |E_c - E*| and of the rms force error against the SCF residual, adjoint converged."""
    graph = to_graph(salt_water_box(), model)
    exact = evaluate(model, graph)
    residuals, energy_errors, force_errors = [], [], []
    start = exact["density"] + 0.1 * torch.randn(
        graph.positions.shape[0], 4, generator=torch.Generator().manual_seed(5)
    )
    converged_adjoint = model.solver.adjoint
    for steps in range(1, 40):
        # plain mixing, so that residuals between 1e-2 and 1e-4 are met one after another; the adjoint runs to the end
        model.solver.adjoint = lambda problem, source, *_: converged_adjoint(
            problem, source, LoopSettings(80, 1e-12, 0.3, "anderson")
        )
        try:
            out = evaluate(
                model, graph, num_scf_steps=steps, solver="linear", mixing_parameter=0.3, initial_density=start.double()
            )
        finally:
            model.solver.adjoint = converged_adjoint
        residual = out["residual"].item()
        if 1e-4 <= residual <= 1e-2:
            residuals.append(residual)
            energy_errors.append((out["energy"] - exact["energy"]).abs().item())
            force_errors.append((out["forces"] - exact["forces"]).pow(2).mean().sqrt().item())
    assert len(residuals) >= 5
    at_least("slope of the energy's error over the residual", slope(residuals, energy_errors), 1.8)
    at_least("slope of the forces' error over the residual", slope(residuals, force_errors), 0.8)
    at_most("slope of the forces' error over the residual, from above", slope(residuals, force_errors), 1.3)


def slope(x: list[float], y: list[float]) -> float:
    """Least-squares slope in a log–log plot."""
    a, b = torch.tensor(x).log(), torch.tensor(y).log()
    return (((a - a.mean()) * (b - b.mean())).sum() / ((a - a.mean()) ** 2).sum()).item()


def test_variational_relations_of_the_field(model: FixedPointPotential) -> None:
    """In open boundaries the net force at constant charge is Q E, the force on the centre of charge."""
    graph = to_graph(water_cluster(), model, total_charge=0.7, external_field=[0.03, -0.02, 0.05])
    out = evaluate(model, graph)
    assert torch.allclose(out["forces"].sum(0), -0.7 * graph.external_field[0], atol=1e-9)


def test_float32_follows_float64() -> None:
    double, single = make_model(3), make_model(3).float()
    for atoms in (salt_water_box(), water_cluster()):
        a = evaluate(double, to_graph(atoms, double))
        b = evaluate(single, to_graph(atoms, single), scf_tolerance=1e-6)
        assert b["status"].tolist() == [0]
        assert (a["energy"] - b["energy"]).abs().max() < 1e-4
        assert (a["forces"] - b["forces"]).abs().max() < 2e-4
        assert (a["density"] - b["density"]).abs().max() < 1e-5
