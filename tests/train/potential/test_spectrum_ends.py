"""Ends of the spectrum of the SCF map and their derivatives."""

import numpy as np
import pytest
import torch
from fp_potential.train.potential.modes.predict import predict

from fp_potential.density.jacobian import jacobian_product
from fp_potential.graph import collate
from fp_potential.options import SCFOptions
from fp_potential.scf.arnoldi import LARGEST_BASIS
from structures import (
    UPDATES,
    dense_jacobian,
    make_model,
    salt_water_box,
    soften,
    solved,
    to_graph,
    water_cluster,
)

TIGHT = SCFOptions(num_scf_steps=100, scf_tolerance=1e-12, mixing_parameter=0.3)


def ends(model, graph, mode="implicit", scf=TIGHT, reference=None, training=True):
    return predict(model, graph, mode, scf, reference, None, False, False, training, ("spectrum",))["spectrum"]


@pytest.mark.parametrize("constant_charge", [True, False])
@pytest.mark.parametrize("update", ["skip path", "one-body MLP", "many-body", "symmetric"])
def test_ends_are_those_of_the_dense_jacobian(update: str, constant_charge: bool) -> None:
    """Of structures of different sizes in one batch; that of the box is larger than a basis."""
    model = make_model(fixedpoint_update_config=UPDATES[update])
    if update == "skip path":
        soften(model, 3.0)
    graphs = [to_graph(water_cluster(1), model), to_graph(salt_water_box(), model, total_charge=0.2)]
    graphs = [g._replace(fermi_level=torch.tensor([-2.1], dtype=torch.float64)) for g in graphs]
    scf = TIGHT.model_copy(update={"constant_charge": constant_charge})
    found = ends(model, collate(graphs), scf=scf).detach().numpy()
    assert 4 * 20 > LARGEST_BASIS > 4 * 3
    for row, graph in zip(found, graphs, strict=True):
        problem, density, level = solved(model, graph, constant_charge)
        values = np.linalg.eigvals(dense_jacobian(model, problem, density, level)).real
        assert row == pytest.approx([values.max(), values.min()], abs=1e-6)


def test_single_precision() -> None:
    """A space that is exhausted is exhausted to the rounding of its numbers."""
    found = []
    for dtype in (torch.float64, torch.float32):
        model = make_model(dtype=dtype)
        graph = collate([to_graph(water_cluster(1), model), to_graph(water_cluster(3), model)])
        found.append(ends(model, graph, "linearize_solve").detach())
    assert torch.allclose(found[1].double(), found[0], rtol=0, atol=1e-5)


def test_product_with_the_jacobian() -> None:
    for update in ("skip path", "many-body MLP"):
        model = make_model(fixedpoint_update_config=UPDATES[update])
        graph = to_graph(water_cluster(2), model)
        problem, density, level = solved(model, graph)
        point = model.total_field(problem, model.electrostatics.field(problem.cache, density, False), level)
        v = torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        product = jacobian_product(model.solver.density_map, problem, point, v)
        expected = dense_jacobian(model, problem, density, level) @ v.reshape(-1).numpy()
        assert product.reshape(-1).numpy() == pytest.approx(expected, abs=1e-7)


def test_complex_eigenvalues(monkeypatch: pytest.MonkeyPatch) -> None:
    """A response that is not symmetric has pairs of them, here at the lower end."""
    monkeypatch.setattr("fp_potential.scf.arnoldi.ACCURACY", 1e-11)
    model = make_model(seed=7)
    graph = to_graph(water_cluster(2), model)
    with torch.no_grad():
        update = model.solver.density_map.response
        update.scalars.skip_bias.zero_()
        update.scalars.skip_bias[0] = -1e-3
        update.output.element_readout.mul_(40.0)
    problem, density, level = solved(model, graph, converges=False)
    values = np.linalg.eigvals(dense_jacobian(model, problem, density, level))
    assert abs(values[values.real.argmin()].imag) > 1e-2
    found = ends(model, graph, "linearize_solve")[0]
    assert found.tolist() == pytest.approx([values.real.max(), values.real.min()], abs=1e-6)
    check_gradient(model, lambda: ends(model, graph, "linearize_solve")[0])


@pytest.mark.parametrize("mode", ["direct", "unroll_scf", "implicit", "linearize_solve"])
def test_gradients_in_every_mode(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fp_potential.scf.arnoldi.ACCURACY", 1e-11)
    update = "many-body MLP" if mode == "implicit" else "one-body MLP"
    model = make_model(fixedpoint_update_config=UPDATES[update])
    graph = collate([to_graph(water_cluster(1), model), to_graph(water_cluster(2), model)])
    reference = 0.2 * torch.randn(9, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scf = {"direct": None, "unroll_scf": SCFOptions(num_scf_steps=3, mixing_parameter=0.3)}.get(mode, TIGHT)
    check_gradient(model, lambda: ends(model, graph, mode, scf, reference))


def check_gradient(model, function) -> None:
    """Derivatives of a random combination along a random direction of the parameters."""
    generator = torch.Generator().manual_seed(5)
    parameters = [p for p in model.parameters() if p.requires_grad]
    directions = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]
    value = function()
    weights = torch.randn(value.shape, generator=generator, dtype=torch.float64)
    gradients = torch.autograd.grad((weights * value).sum(), parameters, allow_unused=True)
    slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True) if g is not None).item()
    step, numeric = 1e-5, 0.0
    for factor, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.add_(factor * step * d)
        numeric += weight * (weights * function()).sum().item() / (12 * step)
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.sub_(factor * step * d)
    assert slope != 0.0
    assert slope == pytest.approx(numeric, rel=1e-6, abs=1e-9)
