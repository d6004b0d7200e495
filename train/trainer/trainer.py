"""The trainer: stages, weight average, validation, checkpoints and log of any `Problem`.

A run can be stopped at any moment; the same command continues it from the last checkpoint, also inside of an epoch, and
gives the numbers of an uninterrupted run. The order of the frames is a function of (seed, epoch) alone, the learning
rate one of the step and of the validation losses of the stage.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.optim import Optimizer

from ...files import write_whole
from ..errors import InputError
from . import checkpoint, distributed
from .descent import Descent
from .gradients import BatchGradient, EpochSums
from .least_squares import LeastSquares, SumOfSquares
from .log import Log
from .monte_carlo import MonteCarlo
from .optimizers import averaged_values, build_optimizer, load_state, optimizer_name, with_rates
from .options import RunOptions, Stage
from .pacing import Pacing
from .problem import Attended, Problem
from .weight_average import WeightAverage, applied, set_values
from .workflow import TRAINING, Evaluation, Workflow, check_stage, checked_groups, free_groups, workflow_columns

OWN_COLUMNS = ("epoch", "stage", "lr", "time [s]", "train loss")


class Trainer:
    """Runs the schedule of ``config`` on ``problem``; results go to ``run_dir``.

    Args:
        problem: what is trained.
        config: sections ``training`` and ``train_schedule``; kept in checkpoints as a whole.
        run_dir: folder of ``log.csv``, ``checkpoints/`` and ``test_table.txt``.
        console: the screen.
        data: fingerprint of the data, kept in checkpoints.
        resumed: a checkpoint to continue, already checked against ``config``.

    Raises:
        InputError: a stage that cannot be run.
    """

    def __init__(
        self,
        problem: Problem,
        config: RunOptions,
        run_dir: Path,
        console: Console,
        data: str = "",
        resumed: dict[str, Any] | None = None,
    ) -> None:
        self.problem, self.config, self.run_dir, self.data = problem, config, run_dir, data
        self.options = config.training
        self.groups = checked_groups(problem)
        self.parameters: list[Tensor] = [parameter for group in self.groups for parameter in group["params"]]
        names = {id(parameter): name for name, parameter in problem.module.named_parameters()}
        self.average_names = [names[id(parameter)] for parameter in self.parameters]
        self.validated = len(problem.plan("valid")) > 0
        for stage in config.train_schedule:
            check_stage(stage, self.groups, self.options, self.validated, isinstance(problem, SumOfSquares))
        self.epoch, self.step, self.stage = 0, 0, -1
        self.so_far = EpochSums()
        self.pacing: Pacing | None = None
        self.optimizer: Optimizer | None = None
        self.optimizer_name = ""
        self.workflow: Workflow | None = None
        self.workflow_state: dict[str, Any] | None = None
        self.best: dict[str, Any] = {"stage": -1, "loss": math.inf}
        self.log: Log | None = None
        started: list[str] = []
        if resumed is None:
            torch.manual_seed(self.options.seed)
            started = problem.initialise(self.options.initialise, self.options.seed)
        self.average = (
            None if self.options.ema_decay is None else WeightAverage(self.parameters, self.options.ema_decay)
        )
        if resumed is not None:
            self._restore(resumed)
        self.saved = time.monotonic()
        if distributed.is_main():
            run_dir.mkdir(parents=True, exist_ok=True)
            checkpoint.remove_unfinished(run_dir / "checkpoints")
            self.log = Log(run_dir / "log.csv", self._columns(), console, self.epoch, self.options.tensorboard)
        self.say(*started)

    def run(self) -> str:
        """Train to the end of the schedule, then return the test table (also in ``test_table.txt``).

        Raises:
            InputError: a loss or gradient is not finite; names stage, epoch and what to try.
        """
        return distributed.run_together(self.options.workers, self._run)

    def _run(self) -> str:
        if len(set(distributed.gather((self.epoch, self.step)))) > 1:
            raise InputError(
                f"the processes found different checkpoints in {self.run_dir}; put run_dir where all machines see it"
            )
        distributed.same_start(self.problem.module)
        for number, stage in enumerate(self.config.train_schedule):
            if self.epoch < stage.first_epoch + stage.length:
                self._run_stage(number, stage)
        with self.evaluated():
            table = self.problem.report("test")
        if table and distributed.is_main():
            write_whole(self.run_dir / "test_table.txt", table + "\n")
        return table

    def _run_stage(self, number: int, stage: Stage) -> None:
        free = free_groups(stage, self.groups)
        frozen = [p for group in self.groups if group["name"] in stage.freeze for p in group["params"]]
        for parameter in frozen:
            parameter.requires_grad_(False)
            parameter.grad = None
        try:
            if self.stage != number:
                self._begin(number, stage)
            self.workflow = self._workflow(number, stage, free)
            last = stage.first_epoch + stage.length
            while self.epoch < last:
                self._run_epoch(number, stage, last)
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)

    def _begin(self, number: int, stage: Stage) -> None:
        """Optimiser and average for a stage that begins."""
        self.stage, self.pacing, self.workflow_state = number, Pacing(stage), None
        what = [f"stage {number} '{stage.name}': {stage.workflow}"]
        if stage.freeze:
            what.append("frozen: " + ", ".join(stage.freeze))
        if stage.workflow == "gradient":
            name = optimizer_name(stage, self.options)
            what.insert(1, name)
            # the curvature of lbfgs would move groups that were frozen since it was found
            keep = name == self.optimizer_name and name != "lbfgs" and not stage.reset_optimizer
            if self.optimizer is None or not keep:
                if self.optimizer_name == "schedulefree":
                    self._continue_from_evaluated()
                self._build_optimizer(name, stage)
        elif stage.workflow != "evaluate":
            self._continue_from_evaluated()
            self.optimizer, self.optimizer_name = None, ""
        self.say(", ".join(what))
        if stage.initialise is not None:
            frozen = [p for group in self.groups if group["name"] in stage.freeze for p in group["params"]]
            kept = [parameter.detach().clone() for parameter in frozen]
            self.say(*self.problem.initialise(stage.initialise, self.options.seed + number))
            set_values(frozen, kept)
            distributed.same_start(self.problem.module)
            if self.average is not None:
                self.average.reset()

    def _build_optimizer(self, name: str, stage: Stage) -> Optimizer:
        self.optimizer_name = name
        self.optimizer = build_optimizer(name, with_rates(stage, self.groups), self.options)
        if isinstance(self.problem, Attended):
            self.say(*self.problem.optimizer_built(self.optimizer))
        return self.optimizer

    def _workflow(self, number: int, stage: Stage, free: Sequence[dict[str, Any]]) -> Workflow:
        parameters = [p for group in free for p in group["params"]]
        batches = BatchGradient(self.problem, parameters, stage, self.options.accumulate)
        average = self.average
        workflow: Workflow
        if stage.workflow == "gradient":
            assert self.optimizer is not None and self.pacing is not None
            if self.optimizer_name == "schedulefree":
                average = None
            groups, clip = self.groups, None if self.optimizer_name == "lbfgs" else self.options.clip_grad
            workflow = Descent(stage, batches, self.optimizer, groups, self.pacing, average, clip)
        elif stage.workflow == "least_squares":
            workflow = LeastSquares(stage, batches, average)
        elif stage.workflow == "monte_carlo":
            workflow = MonteCarlo(stage, batches, free, average, seed=self.options.seed * 1_000_003 + number)
        else:
            batches.parameters = self.parameters
            workflow = Evaluation(batches, self._evaluated_values())
        if self.workflow_state is not None:
            workflow.load_state_dict(self.workflow_state)
            self.workflow_state = None
        return workflow

    def _run_epoch(self, number: int, stage: Stage, last: int) -> None:
        row = self._train_epoch(number, stage)
        in_stage = self.epoch + 1 - stage.first_epoch
        finished = self.epoch + 1 == last
        if self.validated and (finished or in_stage % self.options.eval_every == 0):
            with self.evaluated():
                row |= distributed.from_main(self.problem.evaluate("valid", stage, in_stage))
        loss = row.get(f"{stage.paced_by} loss")
        assert self.pacing is not None and self.workflow is not None
        if loss is not None and self.pacing.observe(in_stage, loss) and not finished:
            finished = True
            self.say(f"early stop of stage {number} '{stage.name}' {self.pacing.reason(in_stage)}")
        if finished:
            self.workflow.finish()
        if distributed.is_main():
            if self.log is not None:
                self.log.row(row)
            if isinstance(self.problem, Attended):
                with self.evaluated():
                    self.problem.after_epoch(stage, row, self.run_dir)
        done = self.epoch + 1
        self.epoch, self.step, self.so_far = (last if finished else done), 0, EpochSums()
        self._keep(number, row.get("valid loss"), finished, done)

    def _train_epoch(self, number: int, stage: Stage) -> dict[str, Any]:
        workflow = self.workflow
        assert workflow is not None
        plan = [] if stage.workflow == "initialise_only" else self.problem.plan("train", self._seed())
        begin = time.perf_counter() - self.so_far.seconds
        before = self.epoch - stage.first_epoch
        if self.step == 0:
            workflow.begin_epoch()
            if isinstance(self.problem, Attended):
                self.say(*self.problem.before_epoch(stage, before, self._seed()))
        steps: Any = range(self.step, len(plan))
        if self.log is not None and distributed.is_main():
            steps = self.log.bar(steps, len(steps), f"epoch {self.epoch} ({stage.name})")
        for step in steps:
            try:
                result = workflow.step(plan[step], before + step / len(plan), 1 / len(plan))
            except FloatingPointError as error:
                raise InputError(
                    f"{error} in epoch {self.epoch}, step {step} of stage {number} ('{stage.name}'); lower its lr or "
                    "training.clip_grad, or check the labels. The last good state is in "
                    f"{self.run_dir / 'checkpoints'}"
                ) from error
            self.so_far.add({"train loss": result.total} | result.terms, result.structures)
            self.so_far.seconds = time.perf_counter() - begin
            self.step = step + 1
            if self.step < len(plan) and checkpoint.due(self.options, self.step, self.saved):
                self._save(checkpoint.LATEST)
        row: dict[str, Any] = {"epoch": self.epoch, "stage": stage.name}
        if plan:
            means = self.so_far.means()
            row["train loss"] = means.pop("train loss")
            row |= self.problem.summarise(means)
        return row | workflow.row() | {"time [s]": time.perf_counter() - begin}

    @property
    def _device(self) -> torch.device:
        """Of the module: there may be no parameter that is trained."""
        return next(self.problem.module.parameters()).device

    def _seed(self) -> int:
        """Seed of the order of the frames."""
        return self.options.seed * 1_000_003 + self.epoch

    # ---- values of the parameters in evaluation -----------------------------------------------------------------

    def _evaluated_values(self) -> list[Tensor] | None:
        """The running average, or that of the optimiser; None: the parameters as they are."""
        if self.optimizer is not None and self.optimizer_name == "schedulefree":
            return averaged_values(self.optimizer, self.parameters)
        return self.average.values if self.average is not None else None

    def evaluated(self) -> AbstractContextManager[None]:
        """Within the block the parameters have their values in evaluation."""
        return applied(self.parameters, self._evaluated_values())

    def _continue_from_evaluated(self) -> None:
        """Give the parameters their values in evaluation and begin a new average there."""
        values = self._evaluated_values()
        if values is not None:
            set_values(self.parameters, values)
        if self.average is not None:
            self.average.reset()

    # ---- checkpoints and log ------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        values = self._evaluated_values()
        average = {"steps": 0 if self.average is None else self.average.steps, "average": values}
        workflow = self.workflow
        return {
            "config": self.config.model_dump(mode="json"),
            "data": self.data,
            "epoch": self.epoch,
            "step": self.step,
            "epoch_so_far": vars(self.so_far),
            "stage": self.stage,
            "best": self.best,
            "pacing": None if self.pacing is None else self.pacing.state_dict(),
            "workflow": {} if workflow is None else workflow.state_dict(),
            "problem": self.problem.state(),
            "module": self.problem.module.state_dict(),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
            "optimizer_name": self.optimizer_name,
            "average": None if values is None else average,
            "average_names": self.average_names,
            "generators": checkpoint.generators(self._device),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.problem.module.load_state_dict(state["module"])
        self.stage = state["stage"]
        if self.stage >= 0:
            stage = self.config.train_schedule[self.stage]
            self.pacing = Pacing(stage)
            self.pacing.load_state_dict(state["pacing"] or {})
            self.workflow_state = state["workflow"]
            self.optimizer_name = state["optimizer_name"]
            if state["optimizer"] is not None:
                load_state(self._build_optimizer(self.optimizer_name, stage), state["optimizer"])
        if self.average is not None and state["average"] is not None:
            self.average.load_state(state["average"]["steps"], state["average"]["average"])
        checkpoint.set_generators(state["generators"], self._device)
        self.epoch, self.step, self.best = state["epoch"], state["step"], state["best"]
        vars(self.so_far).update(state["epoch_so_far"] or {})

    def _keep(self, number: int, loss: float | None, finished: bool, done: int) -> None:
        """Checkpoints at the end of an epoch; the one that a run is resumed from comes last, after all it speaks of."""
        trains = self.config.train_schedule[number].workflow in TRAINING
        known = loss is not None and math.isfinite(loss)
        if trains and known and (number > self.best["stage"] or loss < self.best["loss"]):
            self.best = {"stage": number, "loss": loss}
            self._save(checkpoint.BEST)
        if finished:
            self._save(f"stage_{number}.pt")
        if finished or done % self.options.checkpoint_every == 0:
            self._save(checkpoint.LATEST)

    def _save(self, name: str) -> None:
        if distributed.is_main():
            checkpoint.save(self._state(), self.run_dir / "checkpoints" / name)
        if name == checkpoint.LATEST:
            self.saved = time.monotonic()

    def _columns(self) -> list[str]:
        return [*OWN_COLUMNS, *workflow_columns(self.config.train_schedule), *self.problem.columns()]

    def say(self, *lines: str) -> None:
        """Lines on the screen, by the process that writes."""
        if self.log is not None and distributed.is_main():
            for line in lines:
                self.log.message(line)
