"""Sections ``training`` and ``train_schedule``: what a pseudopotential adds to the options of the trainer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from ...config.schema import FOLDER, Section
from ...trainer import options as shared
from .objective import ObjectiveOptions


class FitOptions(Section):
    """A fit of the network to a curve v(q) before the bands (``init_Zunger_*``)."""

    epochs: int = Field(default=1000, gt=0)
    """Epochs of the fit (``init_Zunger_num_epochs``)."""
    optimizer: Literal["adam", "sgd", "lbfgs"] = "adam"
    """Its optimiser (``init_Zunger_optimizer``); lbfgs: an epoch is up to 20 iterations, and ``lr: 1.0`` is usual."""
    lr: float = Field(default=0.1, gt=0)
    """Its learning rate (``init_Zunger_optimizer_lr``)."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    """Factor on the learning rate (``init_Zunger_scheduler_gamma``) …"""
    gamma_epochs: int = Field(default=20, gt=0)
    """… each so many epochs (``schedulerStep``)."""
    plot_every: int | None = Field(default=None, gt=0)
    """Epochs between pictures (``init_Zunger_plotEvery``); none: at the end only."""
    print_gradients: bool = False
    """Log the norms of gradients (``init_Zunger_printGrad``)."""


class InitialiseOptions(shared.InitialiseOptions):
    """Where parameters come from before they are trained."""

    method: Literal["random", "he", "xavier", "checkpoint", "zunger", "table"] = "random"  # type: ignore[assignment]
    """random: as the network draws them (``local.start``); he, xavier: the same with other variances; checkpoint: of
    another run or a published ``init_PPmodel.pth``; zunger: fitted to the analytic form of the parameters; table:
    fitted to v(q) of ``table``."""
    init_from: str | None = None
    """A run folder, a checkpoint, or a published state dict (``.pth``); relative to the training file. Given alone it
    implies ``method: checkpoint``."""
    optimizer_state: str | None = None
    """State of the optimiser to continue with (``init_AdamState.pth``)."""
    table: str | None = None
    """File with q and v(q) of each species in alphabetical order (``init_qSpace_pot.par``)."""
    fit: FitOptions = FitOptions()
    """How methods zunger and table fit."""

    @field_validator("init_from", "optimizer_state", "table")
    @classmethod
    def _from_the_folder_of_the_file(cls, value: Any, info: ValidationInfo) -> Any:
        folder: Path | None = (info.context or {}).get(FOLDER)
        return str((folder / value).absolute()) if isinstance(value, str) and folder is not None else value

    @model_validator(mode="after")
    def _table_where_needed(self) -> InitialiseOptions:
        if (self.method == "table") != (self.table is not None):
            raise ValueError("method: table and table: FILE go together")
        if self.optimizer_state is not None and self.method != "checkpoint":
            raise ValueError(f"optimizer_state belongs to method: checkpoint, not to method: {self.method}")
        return self


class TrainingOptions(shared.TrainingOptions):
    """Optimiser, batches and machine."""

    batch_size: int = Field(default=1000, gt=0)
    """Systems per step; the published method takes all of them."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay of all parameters."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay per step of the running average of the weights, used for validation and export; none: no average."""
    clip_grad: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient; none: no limit."""
    seed: int = 24
    """Seed of the initial weights and of random moves."""
    initialise: InitialiseOptions = InitialiseOptions()
    """Where the parameters come from at the start of the run."""
    separate_kpoints: bool = False
    """Accumulate gradients k-point by k-point (``separateKptGrad``): less memory, the same result."""
    hold_out: int | None = Field(default=None, gt=1)
    """Of every so many k-points the middle one is left out of the fit: they are the validation set; none: all are
    fitted."""
    print_gradients: bool = False
    """Log the norms of gradients by group (``printGrad``)."""


class PerturbationOptions(Section):
    """A random change of all parameters."""

    kernel: Literal[1, 2, 3, 4, 5, 6, 7] = 1
    """How (``mc_perturb_mode``), with the magnitude ε: 1 relative; 2 by magnitude; 3 normal, in normalised tensors, on
    half of the entries; 4 ±ε on 60 % of the network, ε/1000 on spin-orbit and non-local; 5 ±ε/10 and ε; 6 spin-orbit
    only; 7 non-local only."""
    magnitude: float = Field(default=0.01, gt=0)
    """ε (``mc_percentage``)."""


class MonteCarloOptions(Section):
    """Random moves, accepted if the cost is the lowest so far or with probability exp(-β(√L_new - √L_old))."""

    moves: Literal["kernel", "parameters"] = "kernel"
    """kernel: those of ``perturbation``; parameters: uniform steps of the analytic parameters of all species."""
    perturbation: PerturbationOptions = PerturbationOptions()
    """Of ``moves: kernel``."""
    relative_step: float = Field(default=0.01, gt=0)
    """Largest step of ``moves: parameters`` relative to each parameter."""
    steps: dict[str, list[float]] = Field(default={})
    """Largest steps by species, nine numbers each (``<atom>ParamSteps.par``), in the place of ``relative_step``."""
    moves_per_batch: int = Field(default=1, gt=0)
    """Moves in an epoch, that is, for a row of the log (``writePerIter``)."""
    beta: float = Field(default=1.0, ge=0)
    """Inverse temperature, 1/eV (``mc_beta``)."""
    beta_schedule: list[tuple[int, float]] = Field(default=[])
    """Pairs of a move and the β from it on (``mc_beta_schedule``)."""
    tempering: Literal["none", "two_temperatures", "replicas"] = "none"
    """two_temperatures: the published alternation in time; replicas: copies at the temperatures ``betas``, which are
    exchanged."""
    betas: list[float] = Field(default=[100.0, 1.0], min_length=2)
    """Inverse temperatures of ``tempering`` (``betas``), two of them for two_temperatures."""
    steps_at: list[int] = Field(default=[5000, 500], min_length=2, max_length=2)
    """Moves at each of two temperatures before it changes (``stepsAtTemp``)."""
    step_factors: list[float] = Field(default=[1.0, 1.0], min_length=2, max_length=2)
    """Factor on the steps at each of two temperatures (``tempStepSizeMod``)."""
    exchange_every: int = Field(default=10, gt=0)
    """Moves between exchanges of replicas."""
    finish: Literal["last", "best"] = "best"
    """What the stage ends with: the parameters of the last move, or those with the smallest cost."""

    @model_validator(mode="after")
    def _two(self) -> MonteCarloOptions:
        if self.tempering == "two_temperatures" and len(self.betas) != 2:
            raise ValueError(f"tempering: two_temperatures has two betas, got {len(self.betas)}")
        if self.steps and self.moves != "parameters":
            raise ValueError("steps belong to moves: parameters")
        begins = [move for move, _ in self.beta_schedule]
        if begins != sorted(set(begins)):
            raise ValueError(f"beta_schedule: the moves must increase, got {begins}")
        return self

    def shared(self) -> shared.MonteCarloOptions:
        """The same in the options of the trainer: T = 1/β, acceptance by the square root of the cost."""
        found: dict[str, Any] = {"temperature": _temperature(self.beta)}
        if self.tempering == "replicas":
            found["replicas"] = sorted(_temperature(beta) for beta in self.betas)
        elif self.tempering == "two_temperatures":
            rows = zip(self.betas, self.steps_at, self.step_factors, strict=True)
            found["tempering"] = [
                {"temperature": _temperature(beta), "moves": moves, "move_factor": factor}
                for beta, moves, factor in rows
                if moves > 0
            ]
        elif self.beta_schedule:
            found |= {"tempering": self._phases(), "repeat": False}
        return shared.MonteCarloOptions(
            acceptance="root_loss",
            moves_per_batch=self.moves_per_batch,
            exchange_every=self.exchange_every,
            finish=self.finish,
            **found,
        )

    def _phases(self) -> list[dict[str, Any]]:
        """Phases of ``beta_schedule``: ``beta`` up to its first move; the last one lasts to the end."""
        begins = [(0, self.beta), *self.beta_schedule]
        ends = [move for move, _ in self.beta_schedule] + [begins[-1][0] + 1]
        return [
            {"temperature": _temperature(beta), "moves": end - begin}
            for (begin, beta), end in zip(begins, ends, strict=True)
            if end > begin
        ]


def _temperature(beta: float) -> float:
    return 1 / beta if beta > 0 else math.inf


class BandsStage(shared.Stage):
    """One stage of the schedule."""

    network_lr: float | None = Field(default=None, gt=0)
    """Learning rate of the network; none: ``lr``."""
    local_lr: float | None = Field(default=None, gt=0)
    """That of the analytic local parameters a0 … a3."""
    long_range_lr: float | None = Field(default=None, gt=0)
    """That of a4 (``longRange_lr``)."""
    spin_orbit_lr: float | None = Field(default=None, gt=0)
    """That of a5."""
    nonlocal_lr: float | None = Field(default=None, gt=0)
    """That of a6 and a7."""
    strain_lr: float | None = Field(default=None, gt=0)
    """That of a8."""
    perturb_every: int | None = Field(default=None, gt=0)
    """Epochs between random changes of the parameters (``perturbEvery``); none: never."""
    perturbation: PerturbationOptions = PerturbationOptions()
    """Of ``perturb_every``."""
    pre_adjust_moves: int = Field(default=0, ge=0)
    """Steps before the first epoch that change only the entry with the largest gradient."""
    pre_adjust_step: float | None = Field(default=None, gt=0)
    """Learning rate of them (``pre_adjust_stepSize``); none: ``lr``."""
    plot_every: int | None = Field(default=None, gt=0)
    """Epochs between checkpoints ``epoch_N_*`` with pictures (``plotEvery``); none: at the end of the stage only."""
    reorder: Literal["none", "smooth", "eigenvectors"] = "none"
    """How bands are matched to the reference where they cross: as sorted; smoothly along the path
    (``smooth_reorder``); by the overlap of eigenvectors (``eigvec_reorder``)."""
    monte_carlo: MonteCarloOptions | None = None  # type: ignore[assignment]
    """Moves and temperatures of ``workflow: monte_carlo``."""
    initialise: InitialiseOptions | None = None
    """What ``workflow: initialise_only`` does."""
    objective: ObjectiveOptions | None = None
    """Objective of this stage; none: that of the file."""

    @property
    def random_moves(self) -> shared.MonteCarloOptions | None:
        """Moves and temperatures in the options of the trainer."""
        return None if self.monte_carlo is None else self.monte_carlo.shared()
