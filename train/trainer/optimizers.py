"""The optimisers of a stage and their learning rates.

lbfgs minimises each batch by up to ``lbfgs_iterations`` quasi-Newton iterations with a line search that meets the
strong Wolfe conditions. schedulefree steps the sequence z, takes gradients at y = (1 - beta_one) z + beta_one x and
evaluates the average x; the module holds y, and x is computed from y and z when it is wanted, so that nothing has to be
switched back and forth.

Sources: Kingma and Ba, arXiv:1412.6980 (adam); Reddi, Kale and Kumar, arXiv:1904.09237 (amsgrad); Loshchilov and
Hutter, arXiv:1711.05101 (adamw) and arXiv:1608.03983 (the cosine); Liu and Nocedal, Math. Program. 45, 503 (1989),
doi:10.1007/BF01589116 (lbfgs); Defazio et al., NeurIPS 2024, arXiv:2405.15682 (schedulefree). The rest is PyTorch's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..errors import InputError
from .options import RunningOptions, Stage, TrainingOptions

Group = dict[str, Any]

#: torch's relatives of adam, by name
OF_TWO_MOMENTS: dict[str, Any] = {
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "adamax": torch.optim.Adamax,
}
#: further optimisers of torch, with its own numbers
FURTHER: dict[str, Any] = {
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "asgd": torch.optim.ASGD,
}


def optimizer_name(stage: RunningOptions, options: TrainingOptions) -> str:
    """The optimiser of a stage."""
    return stage.optimizer or options.optimizer


def build_optimizer(name: str, groups: Sequence[Group], options: TrainingOptions) -> Optimizer:
    """A new optimiser.

    Args:
        name: one of `options.Optimizer`.
        groups: of parameters, each with ``params``, ``weight_decay``, ``name`` and ``lr``.
        options: moments, momentum and iterations.

    Raises:
        InputError: an option that the optimiser does not have or need, or a missing package.
    """
    groups = [dict(group) for group in groups]
    if options.amsgrad and name not in ("adam", "adamw"):
        raise InputError(f"training.amsgrad belongs to adam and adamw, not to {name}")
    betas = (options.beta_one, options.beta_two)
    if name in ("adam", "adamw"):
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
        return kind(groups, betas=betas, amsgrad=options.amsgrad, fused=True)
    if name == "sgd":
        return torch.optim.SGD(groups, momentum=options.momentum, nesterov=options.nesterov)
    if name == "rmsprop":
        return torch.optim.RMSprop(groups, alpha=options.beta_two, momentum=options.momentum)
    if name == "lbfgs":
        return _lbfgs(groups, options)
    if name in OF_TWO_MOMENTS:
        return OF_TWO_MOMENTS[name](groups, betas=betas)
    if name in FURTHER:
        return FURTHER[name](groups)
    return _schedule_free(groups, options)


def _lbfgs(groups: Sequence[Group], options: TrainingOptions) -> Optimizer:
    rates = {group["name"]: group["lr"] for group in groups}
    if len(set(rates.values())) > 1:
        shown = ", ".join(f"{name} {rate:g}" for name, rate in rates.items())
        raise InputError(f"lbfgs has one learning rate for all parameters, got {shown}; remove the rates of groups")
    return torch.optim.LBFGS(
        [parameter for group in groups for parameter in group["params"]],
        lr=groups[0]["lr"],
        max_iter=options.lbfgs_iterations,
        history_size=options.lbfgs_history,
        line_search_fn="strong_wolfe",
    )


def _schedule_free(groups: Sequence[Group], options: TrainingOptions) -> Optimizer:
    try:
        from schedulefree import AdamWScheduleFree
    except ImportError as error:
        raise InputError(
            "optimizer: schedulefree needs the package schedulefree: pip install 'fp-potential[schedulefree]'"
        ) from error
    if options.beta_one == 0:
        raise InputError("schedulefree needs training.beta_one above zero")
    optimizer = AdamWScheduleFree(groups, betas=(options.beta_one, options.beta_two))
    optimizer.train()
    return optimizer


def load_state(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Continue from ``state_dict``, bit for bit: torch gives all that it loads the precision of the parameters."""
    optimizer.load_state_dict(state)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, saved in state["state"].items():
        for name, value in saved.items():
            loaded = optimizer.state[parameters[number]][name]
            if isinstance(value, Tensor) and loaded.dtype != value.dtype:
                optimizer.state[parameters[number]][name] = value.to(loaded.device)


def averaged_values(optimizer: Optimizer, parameters: Sequence[Tensor]) -> list[Tensor]:
    """x = y + (1 - 1/beta_one) (z - y) of the schedule-free optimiser; y where it has not stepped."""
    beta_one = {id(p): group["betas"][0] for group in optimizer.param_groups for p in group["params"]}
    values = []
    for y in parameters:
        z = optimizer.state[y].get("z") if y in optimizer.state else None
        values.append(y.detach().clone() if z is None else torch.lerp(y.detach(), z, 1 - 1 / beta_one[id(y)]))
    return values


def with_rates(stage: RunningOptions, groups: Sequence[Group]) -> list[Group]:
    """``groups`` with the learning rates ``lr`` that they have at the start of the stage."""
    own = [getattr(stage, f"{group['name']}_lr", None) for group in groups]
    return [group | {"lr": stage.lr if rate is None else rate} for group, rate in zip(groups, own, strict=True)]


def learning_rate(stage: Stage, fraction: float) -> float:
    """Learning rate after the fraction f (0 … 1) of the stage, warm-up and plateaus left out.

    exponential: lr (lr_final/lr)^f; cosine: lr_final + (lr - lr_final) (1 + cos πf)/2; step: lr step_factor^n after n
    times ``step_epochs`` epochs, at least lr_final; plateau, or without an ``lr_final``: lr.
    """
    if stage.lr_decay == "step":
        # a fraction that comes from a whole number of epochs must not fall below it
        done = math.floor(fraction * stage.length + 1e-6) // stage.step_epochs
        return max(stage.lr_final or 0.0, stage.lr * stage.step_factor**done)
    if stage.lr_final is None or stage.lr_decay == "plateau":
        return stage.lr
    if stage.lr_decay == "cosine":
        return stage.lr_final + 0.5 * (stage.lr - stage.lr_final) * (1 + math.cos(math.pi * fraction))
    return stage.lr * (stage.lr_final / stage.lr) ** fraction


def warmup(stage: RunningOptions, epochs: float) -> float:
    """Factor min(1, e/warmup_epochs) on the learning rate of the step that ends e epochs into the stage."""
    return min(1.0, epochs / stage.warmup_epochs) if stage.warmup_epochs > 0 else 1.0


class WeightDecay:
    """λ_g/2 Σ θ² of each group for an optimiser that has none of its own, as part of loss and gradient."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self.parts = [(group["params"], group["weight_decay"]) for group in groups if group["weight_decay"] > 0]

    @torch.no_grad()
    def add(self) -> float:
        """Adds λθ to the gradients that there are; returns the sum of λ/2 θ² of their parameters."""
        total = 0.0
        for parameters, decay in self.parts:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.add_(parameter, alpha=decay)
                    total += 0.5 * decay * float(parameter.square().sum())
        return total
