"""Options that have no effect are named once, with the reason."""

import pytest
from fp_potential.train.trainer.idle import idle_options

from line_problem import line_config

SGD = {"optimizer": "sgd"}


@pytest.mark.parametrize(
    ("stages", "training", "expected"),
    [
        ([{"lr": 0.1, "lr_final": 0.01, "lr_decay": "cosine"}], {}, []),
        ([{"lr_decay": "cosine"}], {}, ["lr_decay: no effect here, the learning rate is constant without lr_final"]),
        (
            [{"plateau_factor": 0.3, "plateau_patience": 4}],
            {},
            ["plateau_factor, plateau_patience: no effect here, they belong to lr_decay: plateau"],
        ),
        ([{"plateau_factor": 0.3, "lr_decay": "plateau"}], {}, []),
        (
            [{"workflow": "evaluate", "lr": 0.1, "slope_lr": 0.2, "freeze": ["slope"]}],
            {},
            ["lr, freeze, slope_lr: no effect here, workflow: evaluate has no optimiser"],
        ),
        ([{"workflow": "monte_carlo", "freeze": ["slope"], "patience": 3}], {}, []),
        ([{}], SGD | {"beta_one": 0.5}, ["training.beta_one: no effect here, it is an option of adam"]),
        ([{}, {"optimizer": "adam"}], SGD | {"beta_one": 0.5, "momentum": 0.5}, []),
        (
            [{}],
            {"optimizer": "lbfgs", "clip_grad": 1.0},
            ["training.clip_grad: no effect here, it is an option of adam"],
        ),
        ([{}], {"optimizer": "schedulefree", "ema_decay": None}, ["training.ema_decay: no effect here"]),
        (
            [{}],
            {"max_atoms_per_batch": 100, "batch_size": 2},
            ["training.batch_size: no effect here, max_atoms_per_batch fills the batches"],
        ),
    ],
)
def test_options_without_effect(stages, training, expected):
    lines = idle_options(line_config(*({"epochs": 1} | stage for stage in stages), **training))
    assert len(lines) == len(expected)
    for line, start in zip(lines, expected, strict=True):
        assert line.removeprefix("train_schedule.0 ('stage0'): ").startswith(start), line
