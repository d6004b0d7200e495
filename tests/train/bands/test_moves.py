"""Random moves of a pseudopotential: seven kernels, steps by species, acceptance, and runs that are repeated."""

import math
from itertools import pairwise

import pytest
import torch
from fp_potential.train.bands.config import MonteCarloOptions
from fp_potential.train.bands.perturbation import keep_allowed, perturb, step_parameters
from fp_potential.train.errors import InputError
from fp_potential.train.trainer import checkpoint
from fp_potential.train.trainer.moves import temperature_at

from bands_training import ZUNGER, bands_config, bands_problem, bands_trainer, parameters_of
from line_problem import log_rows, same_state, shown

ALL = ["local", "spin_orbit", "nonlocal"]
TERMS = {"spin_orbit": True, "non_local": True}


def groups(size=400):
    """Parameters of a network, and spin-orbit and non-local ones, of different magnitudes; local ones are fixed."""
    generator = torch.Generator().manual_seed(0)
    tensor = 10.0 ** (4 * torch.rand(size, generator=generator).double() - 2)
    return {
        "network": [torch.nn.Parameter(tensor.clone())],
        "local": [torch.nn.Parameter(tensor.clone(), requires_grad=False)],
        "spin_orbit": [torch.nn.Parameter(tensor[:50].clone())],
        "nonlocal": [torch.nn.Parameter(tensor[:60].clone())],
    }


def changes(kernel, magnitude=0.1, seed=5):
    """Parameters and changes by group."""
    own = groups()
    before = {name: group[0].detach().clone() for name, group in own.items()}
    perturb(own, kernel, magnitude, torch.Generator().manual_seed(seed))
    return before, {name: group[0].detach() - before[name] for name, group in own.items()}


@pytest.mark.parametrize("kernel", range(1, 8))
def test_kernels(kernel):
    before, change = changes(kernel)
    again = changes(kernel)[1]
    assert all(torch.equal(change[name], again[name]) for name in change)
    assert not change["local"].any()  # does not require gradients
    network, special = change["network"], torch.cat([change["spin_orbit"], change["nonlocal"]])
    moved = float((network != 0).double().mean())
    uniform = 0.1 / math.sqrt(3)
    if kernel == 1:
        relative = network / before["network"]
        assert float(relative.abs().max()) <= 0.1 and float(relative.std()) == pytest.approx(uniform, rel=0.1)
    elif kernel == 2:
        scaled = network / 10.0 ** torch.log10(before["network"]).round()
        assert float(scaled.abs().max()) <= 0.1 and float(scaled.std()) == pytest.approx(uniform, rel=0.1)
    elif kernel == 3:
        assert 0.4 < moved < 0.6
        assert float(network.norm() / before["network"].norm()) == pytest.approx(0.1 * math.sqrt(0.5), rel=0.1)
    elif kernel == 4:
        assert 0.53 < moved < 0.67 and float(network.abs().max()) <= 0.1
        assert 0.5e-4 < float(special.abs().max()) <= 1e-4 and bool((special != 0).all())
    elif kernel == 5:
        assert 0.9e-2 < float(network.abs().max()) <= 1e-2 and 0.09 < float(special.abs().max()) <= 0.1
    else:
        chosen, other = ("spin_orbit", "nonlocal") if kernel == 6 else ("nonlocal", "spin_orbit")
        assert not network.any() and not change[other].any()
        assert 0.08 < float(change[chosen].abs().max()) <= 0.1


def test_steps_of_analytic_parameters():
    """One per cent of each parameter by default; by species and slot from a file; never of a fixed group."""
    problem = bands_problem(bands_config(model={"terms": TERMS, "trainable": ALL}), shift=0.0)
    start = problem.module.parameters_by_species.detach().clone()
    generator = torch.Generator().manual_seed(0)
    step_parameters(problem.groups, 0.01, None, generator)
    relative = problem.module.parameters_by_species.detach() / start - 1
    assert 0.008 < float(relative.abs().max()) <= 0.01
    fixed = [4, 8]
    assert not relative[:, fixed].any()
    steps = torch.zeros(3, 9, dtype=torch.float64)
    steps[1, 0], steps[2, 5] = 2.0, 1.0
    moved = problem.module.parameters_by_species.detach().clone()
    step_parameters(problem.groups, 0.01, steps, generator, factor=0.5)
    change = problem.module.parameters_by_species.detach() - moved
    assert set(map(tuple, change.nonzero().tolist())) == {(1, 0), (2, 5)}
    assert abs(float(change[1, 0])) <= 1.0
    with torch.no_grad():
        problem.groups["spin_orbit"][0].sub_(10.0)
    keep_allowed(problem.groups)
    assert bool((problem.module.parameters_by_species[:, 5] > 0).all())


def test_options_become_those_of_the_trainer():
    """T = 1/β; the published alternation of two temperatures, a schedule of β, and replicas."""
    plain = MonteCarloOptions(beta=4.0).shared()
    assert (plain.temperature, plain.acceptance, plain.finish) == (0.25, "root_loss", "best")
    assert MonteCarloOptions(beta=0.0).shared().temperature == math.inf
    two = MonteCarloOptions(tempering="two_temperatures", betas=[100, 1], steps_at=[5, 2], step_factors=[1, 3]).shared()
    found = [temperature_at(two, 0.0, move) for move in range(8)]
    assert found == [(0.01, 1.0)] * 5 + [(1.0, 3.0)] * 2 + [(0.01, 1.0)]
    falling = MonteCarloOptions(beta=2.0, beta_schedule=[(3, 10.0), (5, 100.0)]).shared()
    assert [temperature_at(falling, 0.0, move).temperature for move in (0, 2, 3, 4, 5, 99)] == [0.5] * 2 + [0.1] * 2 + [
        0.01
    ] * 2
    assert MonteCarloOptions(tempering="replicas", betas=[100, 1, 10]).shared().replicas == [0.01, 0.1, 1.0]


def run(folder, monte_carlo, epochs=4, stop_after=None, resumed=None, **options):
    stage = {"name": "moves", "workflow": "monte_carlo", "epochs": epochs, "monte_carlo": monte_carlo}
    config = bands_config(stage, run_dir=str(folder), **options)
    problem = bands_problem(config)
    if stop_after is not None:
        exact, calls = problem.loss, []

        def counted(*arguments, **named):
            calls.append(1)
            if len(calls) > stop_after:
                raise KeyboardInterrupt
            return exact(*arguments, **named)

        problem.loss = counted
    trainer = bands_trainer(problem, folder, resumed)
    if stop_after is None:
        trainer.run()
    else:
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
    return problem, trainer


PARAMETERS = {"moves": "parameters", "moves_per_batch": 5, "beta": 100.0, "relative_step": 0.01}
REPLICAS = PARAMETERS | {"tempering": "replicas", "betas": [1000.0, 10.0], "exchange_every": 2}


@pytest.mark.parametrize("options", [PARAMETERS, REPLICAS])
def test_runs_are_repeated_and_resumed_bitwise(tmp_path, options):
    """The same seed gives the same bits, an interrupted run those of a whole one; the best potential is written."""
    first, second, parts = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    problem, trainer = run(first, options)
    run(second, options)
    assert log_rows(first) == log_rows(second)
    run(parts, options, stop_after=17)
    state = checkpoint.load(parts / "checkpoints" / "latest.pt")
    assert 0 < state["epoch"] < 4
    run(parts, options, resumed=state)
    assert log_rows(parts) == log_rows(first)
    ends = [checkpoint.load(folder / "checkpoints" / "stage_0.pt") for folder in (first, second, parts)]
    for end in ends:
        del end["config"]["run_dir"]
    assert same_state(ends[0], ends[1]) and same_state(ends[0], ends[2])
    costs = [float(row["train loss"]) for row in log_rows(first)]
    batch = problem.batch("train", problem.plan("train")[0])
    final = float(problem.loss(batch, problem.config.train_schedule[0], False).total)
    assert final <= min(costs) * (1 + 1e-9) and final < costs[0] and "stage 0 'moves'" in shown(trainer)
    best = torch.load(first / "best_pot.pth", weights_only=True)
    assert best["cost"] == pytest.approx(final, rel=1e-12)
    assert torch.equal(best["parameters_by_species"], problem.module.parameters_by_species.detach())
    lines = (first / "best_pot_InParams.par").read_text().split()
    row = best["parameters_by_species"][problem.species.index("In")].tolist()
    assert [float(line) for line in lines] == pytest.approx(row, rel=1e-11)
    assert (first / "mc_checkpoint.pth").is_file()


def test_kernel_moves_of_a_network_are_rejected_bit_for_bit(tmp_path):
    """At β = ∞ (here 1e12) the cost never rises, and what is rejected leaves no trace."""
    local = {"form": "neural", "hidden_layers": [5], "envelope": {"type": "gaussian", "std": 2.0}}
    moves = {"moves": "kernel", "perturbation": {"kernel": 3, "magnitude": 0.05}, "beta": 1e12}
    run(tmp_path, moves, epochs=15, model={"local": local})
    costs = [float(row["train loss"]) for row in log_rows(tmp_path)]
    assert all(after <= before for before, after in pairwise(costs)) and costs[-1] < costs[0]
    accepted = [float(row["MC accepted [%]"]) for row in log_rows(tmp_path)]
    same = [a == b for a, b in pairwise(costs)]
    assert same == [a == 0 for a in accepted[1:]] and any(same)


def test_steps_by_species_need_all_of_them():
    stage = {"workflow": "monte_carlo", "epochs": 1}
    stage["monte_carlo"] = {"moves": "parameters", "steps": {"In": [0.1] * 9, "As": [0.1] * 9}}
    with pytest.raises(InputError, match="needs nine numbers for each species; not so for Ga"):
        bands_problem(bands_config(stage))


def test_perturbation_between_epochs(tmp_path):
    """Each second epoch; seeded, so that two runs are the same."""
    stage = {"epochs": 5, "lr": 1e-6, "perturb_every": 2, "perturbation": {"kernel": 1, "magnitude": 0.01}}
    ends = []
    for name in ("a", "b"):
        problem = bands_problem(bands_config(stage))
        trainer = bands_trainer(problem, tmp_path / name)
        trainer.run()
        assert shown(trainer).count("parameters changed by kernel 1, magnitude 0.01") == 2
        ends.append([p.detach().clone() for p in parameters_of(problem)])
    assert same_state(*ends)
    costs = [float(row["train loss"]) for row in log_rows(tmp_path / "a")]
    assert abs(costs[2] / costs[1] - 1) > 100 * abs(costs[1] / costs[0] - 1)


def test_first_steps_along_the_largest_entry(tmp_path):
    """They change the entry with the largest gradient and nothing else, before the first epoch."""
    stage = {"epochs": 1, "lr": 1e-12, "pre_adjust_moves": 1, "pre_adjust_step": 1e-3}
    problem = bands_problem(bands_config(stage))
    before = problem.module.parameters_by_species.detach().clone()
    batch = problem.batch("train", problem.plan("train")[0])
    result = problem.loss(batch, problem.config.train_schedule[0])
    (gradient,) = torch.autograd.grad(result.total, parameters_of(problem))
    bands_trainer(problem, tmp_path).run()
    change = problem.module.parameters_by_species.detach() - before
    place = divmod(int(gradient.abs().argmax()), 4)
    assert float(change[place]) == pytest.approx(-1e-3 * float(gradient[place]), rel=1e-6)
    change[place] = 0
    assert float(change.abs().max()) < 1e-10 and set(ZUNGER) == set(problem.species)
