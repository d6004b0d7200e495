"""Options of the loop that have no effect in a stage are named, and have none."""

import pytest
import torch
from fp_potential.train.data.sets import load_data
from fp_potential.train.potential.config import load_config
from fp_potential.train.potential.idle import idle_scf_options
from fp_potential.train.potential.problem import PotentialProblem

from training_data import training_file, write_frames

UPDATES = {
    "linear": {"type": "SymmetricUpdate"},
    "affine": {"type": "ManyBodyUpdate"},
    "neither": {"type": "OneBodyVariableUpdate", "nonlinearity_cls": "MLPNonLinearity"},
}
BASE = {"num_scf_steps": 30, "mixing_parameter": 0.3}

#: mode, update, option, another value: of each the line is said, and the loss is the same, bit for bit
IDLE = [
    ("unroll_scf", "linear", "scf_tolerance", 1e-3),
    ("unroll_scf", "linear", "solver", "anderson"),
    ("unroll_scf", "affine", "history", 5),
    ("unroll_scf", "linear", "initial_fermi_level", "from_data"),
    ("implicit", "affine", "mixing_parameter", 0.1),
    ("implicit", "neither", "mixing_parameter", 0.1),
    ("implicit", "linear", "initial_fermi_level", "from_data"),
    ("implicit", "linear", "history", 5),
    ("linearize_solve", "linear", "num_scf_steps", 1),
    ("linearize_solve", "linear", "mixing_parameter", 0.9),
    ("linearize_solve", "linear", "scf_tolerance", 1e-3),
    ("linearize_solve", "linear", "initial_density", "from_data"),
    ("linearize_solve", "linear", "solver", "linear"),
    ("linearize_solve", "affine", "mixing_parameter", 0.1),
]
#: of these no line is said
IN_USE = [
    ("unroll_scf", "linear", "mixing_parameter", 0.1),
    ("unroll_scf", "linear", "num_scf_steps", 3),
    ("unroll_scf", "linear", "initial_density", "from_data"),
    ("unroll_scf", "neither", "initial_fermi_level", "from_data"),
    ("implicit", "affine", "scf_tolerance", 1e-2),
    ("implicit", "affine", "initial_density", "from_data"),
]


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    folder = tmp_path_factory.mktemp("idle")
    path = training_file(folder, write_frames(folder / "a.xyz"))
    found = {}
    for name, update in UPDATES.items():
        config = load_config(path, [f"model.fixedpoint_update_config={update}"])
        found[name] = PotentialProblem(config, load_data(config.data))
    return found


def lines_of(problem, mode, scf):
    config = problem.config.model_copy(deep=True)
    options = config.train_schedule[1].fixed_point_training_options
    config.train_schedule[1].fixed_point_training_options = type(options)(mode=mode, scf=scf)
    density_map = problem.module.solver.density_map
    return idle_scf_options(config, density_map), config.train_schedule[1]


def loss(problem, stage):
    batch = problem.batch("train", [0, 1])
    return problem.loss(batch, stage, differentiable=False).total.detach()


@pytest.mark.parametrize(("mode", "update", "option", "value"), IDLE)
def test_option_without_effect_is_named(problems, mode, update, option, value):
    problem = problems[update]
    lines, stage = lines_of(problem, mode, BASE | {option: value})
    assert any(option in line.partition(":")[2] and ": no effect here, " in line for line in lines), lines
    assert torch.equal(loss(problem, stage), loss(problem, lines_of(problem, mode, BASE)[1]))


@pytest.mark.parametrize(("mode", "update", "option", "value"), IN_USE)
def test_option_with_an_effect_is_not(problems, mode, update, option, value):
    problem = problems[update]
    lines, stage = lines_of(problem, mode, BASE | {option: value})
    assert not any(option in line.partition("): scf.")[2].partition(": no effect")[0] for line in lines), lines
    assert not torch.equal(loss(problem, stage), loss(problem, lines_of(problem, mode, BASE)[1]))


def test_lines_are_part_of_the_introduction(problems):
    wanted = "train_schedule.1 ('loop'): scf.mixing_parameter: no effect here, it is one of solver: linear, "
    problem = problems["affine"]
    lines, _ = lines_of(problem, "implicit", BASE)
    assert lines == [wanted + "but where a structure has no solution and is unrolled"]
    assert not any("no effect here" in line for line in problem.introduction())


@pytest.mark.parametrize("mode", ["unroll_scf", "implicit", "linearize_solve"])
def test_forces_at_fixed_density_are_refused(problems, mode):
    scf = BASE | {"use_autograd_forces": False}
    with pytest.raises(ValueError, match=r"scf\.use_autograd_forces: false is the calculator's: in training, forces"):
        lines_of(problems["linear"], mode, scf)
