"""Options that a training file gives and that change nothing beside the others: said once, with the reason."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel

from .optimizers import optimizer_name
from .options import RunOptions, Stage, TrainingOptions

#: optimisers of two moments
_MOMENTS = ("adam", "adamw", "nadam", "radam", "adamax", "schedulefree")
_PLAIN = ("sgd", "rmsprop", "adagrad", "adadelta", "asgd")
#: option of `TrainingOptions` -> optimisers that have it
OF_OPTIMIZERS = {
    "beta_one": _MOMENTS,
    "beta_two": (*_MOMENTS, "rmsprop"),
    "momentum": ("sgd", "rmsprop"),
    "lbfgs_iterations": ("lbfgs",),
    "lbfgs_history": ("lbfgs",),
    "clip_grad": (*_MOMENTS, *_PLAIN),
    "ema_decay": (*(name for name in _MOMENTS if name != "schedulefree"), *_PLAIN, "lbfgs"),
}
#: options of a stage that optimisers use
OF_GRADIENT = ("optimizer", "lr", "lr_final", "lr_decay", "warmup_epochs", "reset_optimizer", "patience")
#: further ones of a way in which the learning rate falls
OF_DECAY = {"plateau": ["plateau_factor", "plateau_patience"], "step": ["step_factor", "step_epochs"]}


def given(options: BaseModel, names: Iterable[str]) -> list[str]:
    """Those of ``names`` that were given, with another value than the default."""
    fields = type(options).model_fields
    return [
        name
        for name in names
        if name in options.model_fields_set and name in fields and getattr(options, name) != fields[name].default
    ]


def idle_options(config: RunOptions) -> list[str]:
    """A line for each option, or several with one reason, that has no effect in this run."""
    lines = _of_training(config.training, config.train_schedule)
    for number, stage in enumerate(config.train_schedule):
        place = f"train_schedule.{number} ('{stage.name}')"
        lines += [f"{place}: {text}" for text in _of_stage(stage)]
    return lines


def no_effect(names: Iterable[str], reason: str) -> list[str]:
    """The line for options ``names``; none without any."""
    listed = ", ".join(names)
    return [f"{listed}: no effect here, {reason}"] if listed else []


def _of_stage(stage: Stage) -> list[str]:
    if stage.workflow != "gradient":
        rates = [name for name in type(stage).model_fields if name.endswith("_lr")]
        # an early end is one of any stage that is validated
        names = [name for name in OF_GRADIENT if name != "patience" or stage.workflow == "initialise_only"]
        names += [name for options in OF_DECAY.values() for name in options]
        names += ["freeze"] if stage.workflow not in ("monte_carlo", "least_squares") else []
        return no_effect(given(stage, [*names, *rates]), f"workflow: {stage.workflow} has no optimiser")
    lines = []
    for decay, options in OF_DECAY.items():
        if stage.lr_decay != decay:
            lines += no_effect(given(stage, options), f"they belong to lr_decay: {decay}")
    if stage.lr_decay != "plateau" and stage.patience is None:
        lines += no_effect(given(stage, ["paced_by"]), "it belongs to patience and lr_decay: plateau")
    if stage.lr_decay not in OF_DECAY:
        if stage.lr_final is None and "lr_decay" in stage.model_fields_set:
            lines += no_effect(given(stage, ["lr_decay"]), "the learning rate is constant without lr_final")
    return lines


def _of_training(options: TrainingOptions, stages: Iterable[Stage]) -> list[str]:
    used = {optimizer_name(stage, options) for stage in stages if stage.workflow == "gradient"}
    lines = []
    for name, optimizers in OF_OPTIMIZERS.items():
        if used and not used & set(optimizers):
            reason = f"it is an option of {', '.join(optimizers)}; this run uses {', '.join(sorted(used))}"
            lines += no_effect(given(options, [name]), reason)
    if options.max_atoms_per_batch is not None:
        names = given(options, ["batch_size", "valid_batch_size"])
        lines += no_effect(names, "max_atoms_per_batch fills the batches")
    return [f"training.{line}" for line in lines]
