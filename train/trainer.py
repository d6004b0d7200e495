"""The trainer: stages, optimiser steps, weight average, validation, checkpoints and log of any :class:`Problem`.

A run can be stopped at any moment; the same command continues it from the last finished epoch and gives the numbers
of an uninterrupted run. The order of the frames is a function of (seed, epoch) alone, the
learning rate one of the step.
"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from . import checkpoint
from .config import Stage, TrainConfig
from .ema import WeightAverage
from .errors import InputError
from .gradients import BatchGradient
from .problem import Problem
from .progress import Log, write_whole

OWN_COLUMNS = ("epoch", "stage", "lr", "time [s]", "train loss")


def learning_rate(stage: Stage, fraction: float) -> float:
    """Learning rate after ``fraction`` (0 … 1) of the stage, between ``lr`` and ``lr_final``."""
    if stage.lr_final is None:
        return stage.lr
    if stage.lr_decay == "cosine":
        return stage.lr_final + 0.5 * (stage.lr - stage.lr_final) * (1 + math.cos(math.pi * fraction))
    return stage.lr * (stage.lr_final / stage.lr) ** fraction


class Trainer:
    """Runs the schedule of ``config`` on ``problem``; results go to ``run_dir``.

    Args:
        data: fingerprint of the data, kept in checkpoints.
        resumed: a checkpoint to continue, already checked against ``config``.
    """

    def __init__(
        self,
        problem: Problem,
        config: TrainConfig,
        run_dir: Path,
        console: Console,
        data: str = "",
        resumed: dict[str, Any] | None = None,
    ) -> None:
        self.problem, self.config, self.run_dir, self.data = problem, config, run_dir, data
        self.options = config.training
        groups = self._checked_groups()
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.options.optimizer]
        self.gradient = BatchGradient(problem, self.parameters, config.train_schedule, self.options.workers)
        names = {id(parameter): name for name, parameter in problem.module.named_parameters()}
        self.average_names = [names[id(parameter)] for parameter in self.parameters]
        self._new_optimizer = lambda: kind(
            [dict(group) for group in groups],
            lr=config.train_schedule[0].lr,
            amsgrad=self.options.amsgrad,
            betas=(self.options.beta_one, self.options.beta_two),
            fused=True,
        )
        self.optimizer = self._new_optimizer()
        self.average = None
        self.epoch = 0
        self.best: dict[str, Any] = {"stage": -1, "loss": math.inf}
        if resumed is None:
            torch.manual_seed(self.options.seed)
            problem.initialise()
        if self.options.ema_decay is not None:
            self.average = WeightAverage(self.parameters, self.options.ema_decay)
        if resumed is not None:
            self._restore(resumed)
        run_dir.mkdir(parents=True, exist_ok=True)
        columns = [*OWN_COLUMNS, *problem.columns()]
        self.log = Log(run_dir / "log.csv", columns, console, self.epoch, self.options.tensorboard)

    def run(self) -> str:
        """Train to the end of the schedule, then return the test table (also in ``test_table.txt``).

        Raises:
            InputError: the loss is not finite; names stage, epoch and what to try.
        """
        stages = self.config.train_schedule
        if self.epoch < stages[-1].first_epoch + stages[-1].length:
            self.gradient.start()
        try:
            for number, stage in enumerate(stages):
                self._stage(number, stage)
        finally:
            self.gradient.close()
        with self._averaged():
            table = self.problem.report("test")
        if table:
            write_whole(self.run_dir / "test_table.txt", table + "\n")
        return table

    def _stage(self, number: int, stage: Stage) -> None:
        last = stage.first_epoch + stage.length
        if self.epoch == stage.first_epoch and number > 0 and stage.reset_optimizer:
            self.optimizer = self._new_optimizer()
        while self.epoch < last:
            row = self._epoch(number, stage)
            self.epoch += 1
            finished = self.epoch == last
            in_stage = self.epoch - stage.first_epoch
            if self.problem.number_of_batches("valid") and (finished or in_stage % self.options.eval_every == 0):
                with self._averaged():
                    row |= self.problem.evaluate("valid", stage, in_stage)
            self.log.row(row)
            self._keep(number, row.get("valid loss"), finished)

    def _epoch(self, number: int, stage: Stage) -> dict[str, Any]:
        begin = time.perf_counter()
        steps = self.problem.number_of_batches("train")
        done = self.epoch - stage.first_epoch
        sums: dict[str, torch.Tensor] = {}
        structures = 0
        results = self.gradient.epoch(number, seed=self.options.seed * 1_000_003 + self.epoch)
        title = f"epoch {self.epoch} ({stage.name})"
        rate = stage.lr
        for step, result in enumerate(self.log.bar(results, steps, title)):
            rate = learning_rate(stage, (done + step / steps) / stage.length)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            loss = result.total.item()
            if not math.isfinite(loss):
                raise InputError(
                    f"the loss is {loss} in epoch {self.epoch}, step {step} of stage {number} ('{stage.name}'); lower "
                    "its lr or training.clip_grad, or check the labels. The last good state is in "
                    f"{self.run_dir / 'checkpoints'}"
                )
            if self.options.clip_grad is not None:
                torch.nn.utils.clip_grad_norm_(self.parameters, self.options.clip_grad)
            self.optimizer.step()
            if self.average is not None:
                self.average.update()
            structures += result.structures
            for name, value in ({"train loss": result.total} | result.terms).items():
                sums[name] = sums.get(name, 0.0) + value * result.structures
        means = {name: float(value) / structures for name, value in sums.items()}
        row: dict[str, Any] = {
            "epoch": self.epoch,
            "stage": stage.name,
            "lr": rate,
            "train loss": means.pop("train loss"),
        }
        row |= self.problem.summarise(means)
        row["time [s]"] = time.perf_counter() - begin
        return row

    def _averaged(self) -> Any:
        return self.average.applied() if self.average is not None else nullcontext()

    def _checked_groups(self) -> list[dict[str, Any]]:
        groups = [group for group in self.problem.parameter_groups() if group["params"]]
        grouped = [id(parameter) for group in groups for parameter in group["params"]]
        left = [
            name
            for name, parameter in self.problem.module.named_parameters()
            if parameter.requires_grad and id(parameter) not in grouped
        ]
        if left or len(grouped) != len(set(grouped)):
            raise RuntimeError(
                f"parameter groups of '{self.problem.name}' must hold every trainable parameter once; left out: {left}"
            )
        return groups

    def _state(self) -> dict[str, Any]:
        return {
            "config": self.config.model_dump(mode="json"),
            "data": self.data,
            "epoch": self.epoch,
            "best": self.best,
            "problem": self.problem.state(),
            "module": self.problem.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "average_names": self.average_names,
            "generators": {"torch": torch.get_rng_state()},
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.problem.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        torch.set_rng_state(state["generators"]["torch"])
        self.epoch, self.best = state["epoch"], state["best"]

    def _keep(self, number: int, loss: float | None, finished: bool) -> None:
        folder = self.run_dir / "checkpoints"
        improved = loss is not None and (number > self.best["stage"] or loss < self.best["loss"])
        if improved:
            self.best = {"stage": number, "loss": loss}
        if finished or self.epoch % self.options.checkpoint_every == 0:
            checkpoint.save(self._state(), folder / checkpoint.LATEST)
        if improved:
            checkpoint.save(self._state(), folder / checkpoint.BEST)
        if finished:
            checkpoint.save(self._state(), folder / f"stage_{number}.pt")
