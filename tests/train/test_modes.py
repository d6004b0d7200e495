"""Training modes: forces and parameter gradients against finite differences, and the limit of a long unroll."""

import pytest
import torch
from fp_potential.train.modes import predict

from fp_potential.graph import collate
from fp_potential.options import SCFOptions
from structures import UPDATES, evaluate, make_model, salt_water_box, to_graph, water_cluster


def batch(model):
    graphs = [to_graph(salt_water_box(), model, total_charge=0.2), to_graph(water_cluster(), model)]
    graph = collate(graphs)
    g = torch.Generator().manual_seed(3)
    reference = 0.2 * torch.randn(graph.positions.shape[0], 4, generator=g, dtype=torch.float64)
    return graph, reference


UNROLL = SCFOptions(num_scf_steps=4, mixing_parameter=0.3)
TIGHT = SCFOptions(num_scf_steps=100, scf_tolerance=1e-12)
SCF = {"direct": None, "unroll_scf": UNROLL, "implicit": TIGHT, "linearize_solve": UNROLL}


@pytest.mark.parametrize("mode", ["direct", "unroll_scf", "implicit", "linearize_solve"])
def test_forces_and_stress_are_derivatives_of_the_mode_s_energy(mode: str) -> None:
    model = make_model()
    graph, reference = batch(model)
    scf = SCF[mode]

    def run(g):
        return predict(model, g, mode, scf, reference, None, True, True, False)

    out = run(graph)
    step = 1e-4
    for atom, axis in [(0, 0), (6, 2), (len(graph.batch) - 1, 1)]:
        energies = []
        for sign in (1, -1):
            positions = graph.positions.clone()
            positions[atom, axis] += sign * step
            energies.append(run(graph._replace(positions=positions))["energy"].sum())
        numeric = -(energies[0] - energies[1]) / (2 * step)
        assert out["forces"][atom, axis].item() == pytest.approx(numeric.item(), abs=1e-6)
    strain = torch.zeros(3, 3, dtype=torch.float64)
    strain[0, 1] = strain[1, 0] = 0.5
    box = to_graph(salt_water_box(), model, total_charge=0.2)
    n = box.positions.shape[0]

    def energy(scale: float) -> torch.Tensor:
        d = torch.eye(3, dtype=torch.float64) + scale * strain
        moved = box._replace(positions=box.positions @ d, cell=box.cell @ d, edge_shifts=box.edge_shifts @ d)
        return predict(model, moved, mode, scf, reference[:n], None, False, False, False)["energy"][0]

    numeric = (energy(step) - energy(-step)) / (2 * step) / torch.det(box.cell[0]).abs()
    assert out["stress"][0, 0, 1].item() == pytest.approx(numeric.item(), abs=1e-7)
    assert out["stress"][1].abs().max() == 0


#: modes with the updates whose derivatives they take in ways of their own
MODES_AND_UPDATES = [
    *((mode, "skip path") for mode in ("unroll_scf", "implicit", "linearize_solve")),
    *(("implicit", name) for name in ("one-body MLP", "monotone", "many-body", "symmetric")),
    *(("linearize_solve", name) for name in ("symmetric", "tanh", "many-body MLP")),
]


@pytest.mark.parametrize(
    ("mode", "update", "constant_charge"),
    [("direct", "skip path", True), *((*pair, charge) for pair in MODES_AND_UPDATES for charge in (True, False))],
)
def test_parameter_gradients(mode: str, update: str, constant_charge: bool) -> None:
    """Energy, forces, density and Fermi level: one random combination, along random directions of each group."""
    model = make_model(fixedpoint_update_config=UPDATES[update])
    graph, reference = batch(model)
    graph = graph._replace(fermi_level=torch.tensor([-2.2, -1.9], dtype=torch.float64))
    scf = TIGHT if mode == "linearize_solve" and update != "symmetric" else SCF[mode]
    if scf is not None:
        scf = scf.model_copy(update={"constant_charge": constant_charge})
    g = torch.Generator().manual_seed(7)
    weights = {}

    def objective() -> torch.Tensor:
        out = predict(model, graph, mode, scf, reference, None, True, True, True)
        total = torch.zeros((), dtype=torch.float64)
        for key in ("energy", "forces", "density", "fermi_level", "stress"):
            if key not in weights:
                weights[key] = torch.randn(out[key].shape, generator=g, dtype=torch.float64)
            total = total + (weights[key] * out[key]).sum()
        return total

    objective().backward()
    for name, group in model.parameter_groups().items():
        directions = [torch.randn(p.shape, generator=g, dtype=torch.float64) for p in group]
        assert all(p.grad is not None for p in group), name
        slope = sum((p.grad * d).sum() for p, d in zip(group, directions, strict=True)).item()
        values = []
        for factor in (-2, -1, 1, 2):
            with torch.no_grad():
                for p, d in zip(group, directions, strict=True):
                    p.add_(factor * 1e-4 * d)
            values.append(objective().item())
            with torch.no_grad():
                for p, d in zip(group, directions, strict=True):
                    p.sub_(factor * 1e-4 * d)
        numeric = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * 1e-4)
        # the objective is some 1e3, so the differences of it are good to 1e-9 at best
        assert slope == pytest.approx(numeric, rel=1e-6, abs=1e-8), name


@pytest.mark.parametrize("constant_charge", [True, False])
@pytest.mark.parametrize("mode", ["unroll_scf", "implicit", "linearize_solve"])
def test_long_unroll_and_linear_solve_are_the_self_consistent_solution(mode: str, constant_charge: bool) -> None:
    model = make_model()
    graph, _ = batch(model)
    graph = graph._replace(fermi_level=torch.tensor([-2.2, -1.9], dtype=torch.float64))
    exact = evaluate(model, graph, constant_charge=constant_charge)
    scf = SCFOptions(num_scf_steps=120, mixing_parameter=0.3, scf_tolerance=1e-9, constant_charge=constant_charge)
    out = predict(model, graph, mode, scf, None, None, True, False, False)
    assert out["status"].tolist() == [0, 0]
    for key in ("energy", "forces", "density", "fermi_level", "dipole"):
        assert torch.allclose(out[key], exact[key], atol=1e-8), key


def test_a_loop_that_does_not_converge_is_unrolled_and_counted() -> None:
    """Values and gradients are those of `unroll_scf`; the other structure keeps its solution."""
    model = make_model()
    graph, _ = batch(model)
    few = SCFOptions(num_scf_steps=3, mixing_parameter=0.3, scf_tolerance=1e-12)

    def gradient(mode: str, scf: SCFOptions) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
        out = predict(model, graph, mode, scf, None, None, True, False, True)
        loss = out["forces"].square().sum() + out["energy"].sum() + out["density"].square().sum()
        return out, list(torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad]))

    (fallen, by_fallen), (unrolled, by_unrolled) = gradient("implicit", few), gradient("unroll_scf", few)
    assert fallen["status"].tolist() == [1, 1]
    for key in ("energy", "forces", "density"):
        assert torch.allclose(fallen[key], unrolled[key], rtol=0, atol=1e-12), key
    for a, b in zip(by_fallen, by_unrolled, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("update", ["one-body MLP", "symmetric"])
def test_implicit_in_single_precision(update: str) -> None:
    """Loop and linear solves meet their tolerances (a failure warns), and gradients follow double precision."""
    gradients = []
    for dtype in (torch.float64, torch.float32):
        model = make_model(dtype=dtype, fixedpoint_update_config=UPDATES[update])
        graph = to_graph(salt_water_box(), model, total_charge=0.2)
        out = predict(model, graph, "implicit", SCFOptions(scf_tolerance=1e-6), None, None, True, False, True)
        assert out["status"].tolist() == [0]
        loss = out["forces"].square().sum() + out["density"].square().sum()
        parts = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])
        gradients.append(torch.cat([part.reshape(-1).double() for part in parts]))
    assert (gradients[1] - gradients[0]).norm() < 1e-3 * gradients[0].norm()


def test_direct_holds_the_charge_unless_a_fermi_level_is_known() -> None:
    model = make_model()
    graph, reference = batch(model)
    unknown = torch.full((2,), float("nan"), dtype=torch.float64)
    out = predict(model, graph, "direct", None, reference, unknown, False, False, False)
    assert torch.allclose(out["total_charge"], graph.total_charge, atol=1e-12)
    known = torch.tensor([-1.5, float("nan")], dtype=torch.float64)
    mixed = predict(model, graph, "direct", None, reference, known, False, False, False)
    assert (mixed["total_charge"][0] - graph.total_charge[0]).abs() > 1e-3
    assert mixed["total_charge"][1].item() == pytest.approx(graph.total_charge[1].item(), abs=1e-12)
    # the known level is that of the density only
    for key in ("energy", "fermi_level"):
        assert torch.allclose(mixed[key], out[key], atol=1e-12), key
    with pytest.raises(ValueError, match="atomic_multipoles"):
        predict(model, graph, "direct", None, None, None, False, False, False)
    with pytest.raises(ValueError, match="not available"):
        predict(model, graph, "exact", UNROLL, reference, None, False, False, False)
