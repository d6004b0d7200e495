"""Training modes: forces and parameter gradients against finite differences, and the limit of a long unroll."""

import numpy as np
import pytest
import torch
from fp_potential.train.potential.modes import density as densities
from fp_potential.train.potential.modes.predict import MODES, predict

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


OBSERVABLES = ("energy", "forces", "fermi_level", "density", "stress")


def small_batch(model):
    """A box and a molecule of different sizes, with few atoms."""
    box, molecule = salt_water_box()[:7], water_cluster(2)[:5]
    graph = collate([to_graph(box, model, total_charge=0.2), to_graph(molecule, model)])
    graph = graph._replace(fermi_level=torch.tensor([-2.2, -1.9], dtype=torch.float64))
    g = torch.Generator().manual_seed(3)
    return graph, 0.2 * torch.randn(12, 4, generator=g, dtype=torch.float64)


def small_model(update="skip path", **options):
    return make_model(num_channels=4, radial_MLP=[8], r_max=3.5, fixedpoint_update_config=UPDATES[update], **options)


def trainable(model):
    return [p for p in model.parameters() if p.requires_grad]


#: modes with the updates whose derivatives they take in ways of their own
MODES_AND_UPDATES = [
    *(("unroll_scf", name) for name in ("skip path", "one-body MLP", "tanh", "many-body", "many-body MLP")),
    *(("implicit", name) for name in ("skip path", "one-body MLP", "monotone", "many-body", "symmetric")),
    *(("linearize_solve", name) for name in ("skip path", "symmetric", "split charge", "tanh", "many-body MLP")),
    *(("matrix-free", name) for name in ("symmetric", "split charge")),
]


def check_observables(run, parameters) -> None:
    """A random combination of each observable, differentiated along a random direction of all parameters."""
    g = torch.Generator().manual_seed(7)
    directions = [torch.randn(p.shape, generator=g, dtype=torch.float64) for p in parameters]
    weights: dict[str, torch.Tensor] = {}

    def values() -> dict[str, torch.Tensor]:
        out = run()
        for key in [name for name in OBSERVABLES if name in out]:
            if key not in weights:
                scale = 100.0 if key == "stress" else 1.0
                weights[key] = scale * torch.randn(out[key].shape, generator=g, dtype=torch.float64)
        # a level that is given is no function of the parameters
        return {key: (weight * out[key]).sum() for key, weight in weights.items() if out[key].requires_grad}

    found = values()
    found["all"] = sum(found.values())
    slopes = {}
    for name, value in found.items():
        gradients = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
        parts = [(a * d).sum() for a, d in zip(gradients, directions, strict=True) if a is not None]
        slopes[name] = float(sum(parts))
    numeric = dict.fromkeys(found, 0.0)
    step = 1e-4
    for factor, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.add_(factor * step * d)
        parts = {key: value.item() for key, value in values().items()}
        for name, value in (parts | {"all": sum(parts.values())}).items():
            numeric[name] += weight * value / (12 * step)
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.sub_(factor * step * d)
    for name, slope in slopes.items():
        # energies are some 1e3, so differences of them are good to 1e-9 at best
        rounding = 1e-8 if name in ("energy", "all") else 1e-10
        assert abs(slope) > 1e-5, name
        assert slope == pytest.approx(numeric[name], rel=1e-6, abs=rounding), name


@pytest.mark.parametrize(
    ("mode", "update", "constant_charge"),
    [("direct", "skip path", True), *((*pair, charge) for pair in MODES_AND_UPDATES for charge in (True, False))],
)
def test_parameter_gradients(mode: str, update: str, constant_charge: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if mode == "matrix-free":
        monkeypatch.setattr(densities, "DENSE_ATOMS", 0)
        mode = "linearize_solve"
    model = small_model(update)
    graph, reference = small_batch(model)
    scf = {"direct": None, "unroll_scf": UNROLL}.get(mode, TIGHT)
    if scf is not None:
        scf = scf.model_copy(update={"constant_charge": constant_charge})
    check_observables(lambda: predict(model, graph, mode, scf, reference, None, True, True, True), trainable(model))


@pytest.mark.parametrize("mode", MODES)
def test_parameter_gradients_without_forces(mode: str) -> None:
    """No adjoint of the energy is needed then, and none is made."""
    model = small_model("one-body MLP" if mode == "implicit" else "skip path")
    graph, reference = small_batch(model)
    scf = {"direct": None, "unroll_scf": UNROLL}.get(mode, TIGHT)
    check_observables(lambda: predict(model, graph, mode, scf, reference, None, False, False, True), trainable(model))


def gradients_of_loss(model, graph, mode, scf, weights, reference=None):
    """Of a loss with energy, forces, stress, density and level, one number per structure and each weighted."""
    out = predict(model, graph, mode, scf, reference, None, True, True, True)
    per_atom = out["forces"].square().sum(1) + 0.3 * out["density"].square().sum(1)
    structures = torch.zeros_like(out["energy"]).index_add(0, graph.batch, per_atom)
    structures = structures + 0.1 * out["energy"] + 5.0 * out["stress"].square().sum((1, 2)) + out["fermi_level"]
    gradients = torch.autograd.grad((weights * structures).sum(), trainable(model), allow_unused=True)
    return torch.cat(
        [
            torch.zeros_like(p).reshape(-1) if a is None else a.reshape(-1)
            for a, p in zip(gradients, trainable(model), strict=True)
        ]
    )


@pytest.mark.parametrize("constant_charge", [True, False])
@pytest.mark.parametrize("update", ["skip path", "symmetric", "split charge", "one-body MLP"])
def test_modes_agree_with_a_long_unroll(update: str, constant_charge: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of a loss with forces and stress: a loop of 200 steps, the implicit function, the linear solve."""
    model = small_model(update)
    graph, _ = small_batch(model)
    tight = TIGHT.model_copy(update={"constant_charge": constant_charge})
    loop = tight.model_copy(update={"num_scf_steps": 200, "mixing_parameter": 0.4})
    weights = torch.tensor([0.7, 1.3], dtype=torch.float64)
    unrolled = gradients_of_loss(model, graph, "unroll_scf", loop, weights)
    found = {mode: gradients_of_loss(model, graph, mode, tight, weights) for mode in ("implicit", "linearize_solve")}
    if model.solver.density_map.linear:
        monkeypatch.setattr(densities, "DENSE_ATOMS", 0)
        few = tight.model_copy(update={"num_scf_steps": 4})  # no matter
        found["matrix-free"] = gradients_of_loss(model, graph, "linearize_solve", few, weights)
    for mode, gradient in found.items():
        assert (gradient - unrolled).abs().max() < 1e-6 * unrolled.abs().max(), mode
        assert (gradient - unrolled).norm() < 1e-6 * unrolled.norm(), mode


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("update", ["skip path", "one-body MLP"])
def test_a_batch_of_mixed_sizes_gives_the_sum_of_its_structures(mode: str, update: str) -> None:
    model = small_model(update)
    atoms = [water_cluster(1), salt_water_box()[:7], water_cluster(2)[:4], salt_water_box(seed=4)[:5]]
    graphs = [to_graph(a, model, total_charge=0.1 * k) for k, a in enumerate(atoms)]
    g = torch.Generator().manual_seed(3)
    references = [0.2 * torch.randn(len(a), 4, generator=g, dtype=torch.float64) for a in atoms]
    weights = torch.tensor([0.4, 1.0, 0.8, 1.7], dtype=torch.float64)
    scf = {"direct": None, "unroll_scf": UNROLL}.get(mode, TIGHT.model_copy(update={"scf_tolerance": 1e-13}))
    together = gradients_of_loss(model, collate(graphs), mode, scf, weights, torch.cat(references))
    single = sum(
        gradients_of_loss(model, graph, mode, scf, weights[k : k + 1], reference)
        for k, (graph, reference) in enumerate(zip(graphs, references, strict=True))
    )
    assert (together - single).abs().max() < 1e-10 * single.abs().max()


@pytest.mark.parametrize("with_forces", [True, False])
@pytest.mark.parametrize("mode", [*MODES, "fallback"])
@pytest.mark.parametrize("update", ["skip path", "one-body MLP", "many-body MLP"])
def test_every_parameter_receives_a_gradient(mode: str, update: str, with_forces: bool) -> None:
    """From a loss of energies alone as well; a loop that fails is no exception."""
    model = small_model(update)
    graph, reference = small_batch(model)
    scf = {"direct": None, "unroll_scf": UNROLL, "fallback": UNROLL.model_copy(update={"scf_tolerance": 1e-14})}
    name = "implicit" if mode == "fallback" else mode
    out = predict(model, graph, name, scf.get(mode, TIGHT), reference, None, with_forces, False, True)
    assert out["fallback"].all() if mode == "fallback" else not out["fallback"].any()
    loss = out["energy"].square().sum() + (out["forces"].square().sum() if with_forces else 0.0)
    loss.backward()
    for parameter_name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.isfinite().all(), parameter_name


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
    """Values and gradients are those of `unroll_scf`."""
    model = small_model()
    graph, _ = small_batch(model)
    few = SCFOptions(num_scf_steps=3, mixing_parameter=0.3, scf_tolerance=1e-12)
    weights = torch.ones(2, dtype=torch.float64)
    fallen, unrolled = (
        predict(model, graph, mode, few, None, None, True, False, True) for mode in ("implicit", "unroll_scf")
    )
    assert fallen["status"].tolist() == [1, 1] and fallen["fallback"].all() and not unrolled["fallback"].any()
    for key in ("energy", "forces", "density"):
        assert torch.allclose(fallen[key], unrolled[key], rtol=0, atol=1e-12), key
    by_fallen, by_unrolled = (
        gradients_of_loss(model, graph, mode, few, weights) for mode in ("implicit", "unroll_scf")
    )
    assert torch.allclose(by_fallen, by_unrolled, rtol=1e-9, atol=1e-11)


def test_one_structure_that_falls_back_leaves_the_others_alone() -> None:
    model = small_model("one-body MLP")
    graph, _ = small_batch(model)
    one_by_one = [
        to_graph(salt_water_box()[:7], model, total_charge=0.2),
        to_graph(water_cluster(2)[:5], model),
    ]
    # a tolerance that one of them meets a step before the other
    for tolerance in 10.0 ** -np.arange(3, 12, 0.25):
        steps = [int(evaluate(model, g, scf_tolerance=tolerance)["scf_steps"]) for g in one_by_one]
        if steps[0] != steps[1] and min(steps) >= 4:
            break
    scf = SCFOptions(num_scf_steps=min(steps), mixing_parameter=0.3, scf_tolerance=tolerance)
    out = predict(model, graph, "implicit", scf, None, None, True, False, True)
    slow = steps.index(max(steps))
    assert out["fallback"].tolist() == [slow == 0, slow == 1]
    for k, mode in ((slow, "unroll_scf"), (1 - slow, "implicit")):
        weights = torch.eye(2, dtype=torch.float64)[k]
        together = gradients_of_loss(model, graph, "implicit", scf, weights)
        alone = gradients_of_loss(model, one_by_one[k], mode, scf, weights[k : k + 1])
        # linear solves with few steps; the other structure must not matter at all
        assert torch.allclose(together, alone, rtol=1e-9, atol=1e-10), mode


def test_a_linear_system_without_a_solution_is_unrolled(monkeypatch: pytest.MonkeyPatch) -> None:
    """And does not spoil the gradient, whatever comes out of the solver."""
    model = small_model()
    graph, _ = small_batch(model)
    loop = SCFOptions(num_scf_steps=20, mixing_parameter=0.3)
    shorter = loop.model_copy(update={"num_scf_steps": densities.FALLBACK_STEPS})
    solve = torch.linalg.solve_ex

    def singular(system, right):
        solution, info = solve(system, right)
        return (solution * float("inf"), info) if system.shape[0] == 7 * 4 + 1 else (solution, info)

    weights = torch.tensor([1.0, 0.0], dtype=torch.float64)
    expected = gradients_of_loss(model, graph, "unroll_scf", shorter, weights)
    other = gradients_of_loss(model, graph, "linearize_solve", loop, 1 - weights)
    monkeypatch.setattr(torch.linalg, "solve_ex", singular)
    out = predict(model, graph, "linearize_solve", loop, None, None, True, False, True)
    assert out["fallback"].tolist() == [True, False] and out["status"].tolist() == [1, 0]
    assert torch.allclose(gradients_of_loss(model, graph, "linearize_solve", loop, weights), expected, rtol=1e-9)
    assert torch.allclose(gradients_of_loss(model, graph, "linearize_solve", loop, 1 - weights), other, rtol=1e-9)


def test_linear_solves_that_fail_are_counted_also_in_the_backward_pass() -> None:
    model = small_model("one-body MLP")
    graph, _ = small_batch(model)
    out = predict(model, graph, "implicit", TIGHT, None, None, True, False, True)
    out["forces"].square().sum().backward()
    assert out["solve_failures"].item() == 0.0
    # from the solution the loop needs one step, and two are too few for the linear solves
    short = SCFOptions(num_scf_steps=1, scf_tolerance=1e-10, initial_density="from_data")
    out = predict(model, graph, "implicit", short, out["density"].detach(), None, True, False, True)
    assert not out["fallback"].any()
    before = out["solve_failures"].item()
    out["forces"].square().sum().backward()
    assert out["solve_failures"].item() > before > 0.0


@pytest.mark.parametrize("update", ["one-body MLP", "symmetric"])
def test_implicit_in_single_precision(update: str) -> None:
    """Loop and linear solves meet their tolerances, and gradients follow double precision."""
    gradients = []
    for dtype in (torch.float64, torch.float32):
        model = make_model(dtype=dtype, fixedpoint_update_config=UPDATES[update])
        graph = to_graph(salt_water_box(), model, total_charge=0.2)
        out = predict(model, graph, "implicit", SCFOptions(scf_tolerance=1e-6), None, None, True, False, True)
        assert out["status"].tolist() == [0]
        loss = out["forces"].square().sum() + out["density"].square().sum()
        parts = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])
        assert out["solve_failures"].item() == 0.0
        gradients.append(torch.cat([part.reshape(-1).double() for part in parts]))
    assert (gradients[1] - gradients[0]).norm() < 1e-3 * gradients[0].norm()


@pytest.mark.parametrize("mode", MODES)
def test_the_search_for_the_level_begins_where_the_stage_says(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It decides between several levels of the same charge, where an update has them."""
    model = small_model("one-body MLP")
    graph, reference = small_batch(model)
    density_map = model.solver.density_map
    guesses, find = [], density_map.find_level

    def spy(problem, u, guess):
        guesses.append(guess.tolist())
        return find(problem, u, guess)

    monkeypatch.setattr(density_map, "find_level", spy)
    known = torch.tensor([-1.5, float("nan")], dtype=torch.float64)
    for start, first in (("zero", [0.0, 0.0]), ("from_data", [-1.5 - model.fermi_level_offset, 0.0])):
        scf = SCFOptions(num_scf_steps=3, scf_tolerance=1.0, mixing_parameter=0.3, initial_fermi_level=start)
        guesses.clear()
        predict(model, graph, mode, scf, reference, known, False, False, False)
        assert guesses[0] == pytest.approx(first, abs=1e-12)


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
