"""Factorised 1 - J: near the map's own, whatever sums its fields, and of no effect on what training finds."""

import numpy as np
import pytest
import torch
from fp_potential.train.potential.modes import density as densities
from fp_potential.train.potential.modes.predict import predict

from figures import at_most
from fp_potential.density import factorised
from fp_potential.graph import collate
from fp_potential.options import SCFOptions
from structures import dense_jacobian, make_model, salt_water, salt_water_box, solved, to_graph, water_cluster

METAL = {"type": "SplitChargeUpdate"}


@pytest.mark.parametrize("constant_charge", [True, False])
@pytest.mark.parametrize("method", ["reciprocal", "mesh", "mesh TTF", "open"])
def test_factors_are_those_of_the_map(method: str, constant_charge: bool) -> None:
    model = make_model(fixedpoint_update_config=METAL)
    atoms = {"open": water_cluster(3), "mesh TTF": salt_water("TTF")}.get(method, salt_water_box())
    model.electrostatics.set_kspace(method.split()[0], 1e-7)
    graph = to_graph(atoms, model, fermi_level=-2.3)
    problem, density, level = solved(model, graph, constant_charge)
    system = np.eye(density.numel()) - dense_jacobian(model, problem, density, level)
    factors = factorised.factorised(model.solver.density_map, problem, graph)
    assert factors is not None
    right = torch.randn(density.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for transposed in (False, True):
        matrix = system.T if transposed else system
        found = factors.solve(right, transposed).numpy().reshape(-1)
        left = np.linalg.norm(matrix @ found - right.numpy().reshape(-1)) / np.linalg.norm(right.numpy())
        at_most("factorised 1 - J: what a solve leaves, relative", left, 1e-4)


@pytest.mark.parametrize(
    ("constant_charge", "dtype"), [(True, torch.float64), (False, torch.float64), (True, torch.float32)]
)
def test_training_finds_the_same_with_and_without(
    constant_charge: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A soft metal on a mesh, and a smaller one: density, level and gradients, in one application."""
    model = make_model(dtype=dtype, fixedpoint_update_config=METAL)
    tolerance, limit = (1e-11, 1e-8) if dtype == torch.float64 else (3e-6, 3e-6)
    with torch.no_grad():
        model.solver.density_map.response.metallic_bias.fill_(3.0)
    model.electrostatics.set_kspace("mesh", 1e-6 if dtype == torch.float64 else 1e-5)
    monkeypatch.setattr(densities, "DENSE_ATOMS", 0)
    box = salt_water_box(edge=8.0)
    graph = collate([to_graph(box, model, total_charge=0.3), to_graph(box[:7], model, total_charge=-0.1)])
    graph = graph._replace(fermi_level=torch.tensor([-2.2, -1.9], dtype=dtype))
    scf = SCFOptions(scf_tolerance=tolerance, constant_charge=constant_charge)
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = []
    for largest in (factorised.LARGEST, 0):
        monkeypatch.setattr(factorised, "LARGEST", largest)
        out = predict(model, graph, "linearize_solve", scf, None, None, True, True, True)
        loss = (
            out["forces"].square().sum()
            + out["density"].square().sum()
            + out["total_charge"].sum()
            + out["stress"].sum()
        )
        gradients = torch.autograd.grad(loss + out["fermi_level"].sum(), parameters, allow_unused=True)
        found.append((out, torch.cat([g.reshape(-1) for g in gradients if g is not None])))
        assert out["status"].tolist() == [0, 0] and out["solve_failures"].item() == 0
    (near, gradient), (far, other) = found
    assert 5 * int(near["scf_steps"].max()) <= int(far["scf_steps"].min())
    assert (near["density"] - far["density"]).abs().max() < limit
    assert (gradient - other).norm() < 100 * limit * other.norm()


def test_structures_that_insulate_or_are_large_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    insulator = make_model(fixedpoint_update_config=METAL | {"metallic": "none"})
    metal, several = make_model(fixedpoint_update_config=METAL), make_model(fixedpoint_update_config={})

    def made(model) -> bool:
        graph = to_graph(salt_water_box(), model)
        return factorised.factorised(model.solver.density_map, solved(model, graph)[0], graph) is not None

    assert [made(model) for model in (metal, insulator, several)] == [True, False, False]
    monkeypatch.setattr(factorised, "LARGEST", 19)
    assert not made(metal)
