"""Section ``training``: optimiser, batches and machine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ..schema import Section
from .stage import InitialiseOptions, Optimizer


class TrainingOptions(Section):
    """Optimiser, batches and machine."""

    batch_size: int = Field(default=8, gt=0)
    """Frames per step."""
    valid_batch_size: int = Field(default=16, gt=0)
    """Frames per batch in evaluation."""
    max_atoms_per_batch: int | None = Field(default=None, gt=0)
    """Fill batches up to this number of atoms, instead of with ``batch_size`` (``valid_batch_size``) frames; a larger
    frame is a batch of its own."""
    group_by_size: bool = False
    """Put frames with similar numbers of neighbours into the same batch: faster where sizes differ much."""
    optimizer: Optimizer = "adam"
    """adam, sgd, rmsprop, lbfgs: weight decay is part of the gradient; adamw, schedulefree: it is not. schedulefree:
    AdamW with its own average of the weights, which needs no decay of the learning rate (Defazio et al. 2024; package
    schedulefree). lbfgs: iterations with a line search on each batch (a ``batch_size`` of all frames makes it the
    deterministic method); ``lr: 1.0`` is usual."""
    amsgrad: bool = False
    """The AMSGrad variant of adam and adamw."""
    beta_one: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the first moment (adam, adamw, schedulefree)."""
    beta_two: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the second moment (adam, adamw, schedulefree, rmsprop)."""
    momentum: float = Field(default=0.0, ge=0, lt=1)
    """Momentum (sgd, rmsprop)."""
    nesterov: bool = False
    """Nesterov's form of it (sgd)."""
    lbfgs_iterations: int = Field(default=20, gt=0)
    """Largest number of iterations of lbfgs on a batch; each takes one evaluation or more."""
    lbfgs_history: int = Field(default=20, gt=0)
    """Steps from which lbfgs builds its curvature."""
    weight_decay: float = Field(default=5e-7, ge=0)
    """Weight decay of the backbone and the energy read-outs."""
    local_charges_weight_decay: float = Field(default=5e-7, ge=0)
    """Weight decay of the local density read-out."""
    field_block_weight_decay: float = Field(default=5e-7, ge=0)
    """Weight decay of the response and field read-out blocks."""
    ema_decay: float | None = Field(default=0.99, gt=0, lt=1)
    """Decay per step of the running average of the weights, used for validation and export; none: no average.
    (schedulefree: its own average is used instead.)"""
    clip_grad: float | None = Field(default=10.0, gt=0)
    """Largest norm of the gradient; none: no limit. (lbfgs: none, its line search limits the step.)"""
    seed: int = 1
    """Seed of the initial weights and of the order of the frames."""
    initialise: InitialiseOptions = InitialiseOptions()
    """Where the parameters come from at the start of the run; ``{init_from: PATH}`` continues from another model."""
    device: str = "cpu"
    """cpu or cuda (or cuda:1 ...); with torchrun, cuda is one GPU for each process."""
    workers: int = Field(default=1, gt=0)
    """Processes of this machine that share each batch; the result is that of one, up to rounding. (For several GPUs or
    machines: torchrun.)"""
    default_dtype: Literal["float64", "float32"] = "float64"
    """Precision of the model and of the training."""
    num_threads: int | None = Field(default=None, gt=0)
    """Threads inside torch's operations (1 is best for small structures); none: 1 with several workers, else torch's
    own choice."""
    eval_every: int = Field(default=1, gt=0)
    """Epochs between validations (the last epoch of a stage always has one)."""
    scf_eval_every: int = Field(default=10, ge=0)
    """Epochs between validations through the converged SCF (100 applications, 1e-6) in direct stages; 0: never."""
    checkpoint_every: int = Field(default=1, gt=0)
    """Epochs between checkpoints."""
    tensorboard: bool = False
    """Write the rows of the log as TensorBoard events, too (``run_dir/tensorboard``; needs the extra
    ``fp-potential[tensorboard]``)."""
    checkpoint_minutes: float | None = Field(default=10.0, gt=0)
    """Minutes between checkpoints inside of an epoch; none: only at its end."""
    checkpoint_steps: int | None = Field(default=None, gt=0)
    """Steps between checkpoints inside of an epoch; none: not by steps."""

    @model_validator(mode="after")
    def _one_kind_of_parallelism(self) -> TrainingOptions:
        if self.workers > 1 and self.num_threads not in (None, 1):
            raise ValueError(f"workers: {self.workers} needs num_threads: 1, got {self.num_threads}")
        if self.workers > 1 and self.device != "cpu":
            raise ValueError(f"workers: {self.workers} needs device: cpu, got {self.device}")
        return self

    @model_validator(mode="after")
    def _options_that_go_together(self) -> TrainingOptions:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: true needs a momentum above zero")
        return self
