"""Section ``training``: optimiser, batches and machine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ..schema import Section


class TrainingOptions(Section):
    """Optimiser, batches and machine."""

    batch_size: int = Field(default=8, gt=0)
    """Frames per step."""
    valid_batch_size: int = Field(default=16, gt=0)
    """Frames per batch in evaluation."""
    group_by_size: bool = False
    """Put frames with similar numbers of neighbours into the same batch: faster where sizes differ much."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """Optimiser."""
    amsgrad: bool = False
    """The AMSGrad variant of it."""
    beta_one: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the first moment."""
    beta_two: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the second moment."""
    weight_decay: float = Field(default=5e-7, ge=0)
    """Weight decay of the backbone and the energy read-outs."""
    local_charges_weight_decay: float = Field(default=5e-7, ge=0)
    """Weight decay of the local density read-out."""
    field_block_weight_decay: float = Field(default=5e-7, ge=0)
    """Weight decay of the response and field read-out blocks."""
    ema_decay: float | None = Field(default=0.99, gt=0, lt=1)
    """Decay per step of the running average of the weights, used for validation and export; none: no average."""
    clip_grad: float | None = Field(default=10.0, gt=0)
    """Largest norm of the gradient; none: no limit."""
    seed: int = 1
    """Seed of the initial weights and of the order of the frames."""
    device: str = "cpu"
    """cpu or cuda (or cuda:1 ...)."""
    workers: int = Field(default=1, gt=0)
    """Processes that share the work: a batch is split into as many parts, and its loss is the mean of theirs (each
    part's means weighted by its number of frames)."""
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

    @model_validator(mode="after")
    def _one_kind_of_parallelism(self) -> TrainingOptions:
        if self.workers > 1 and self.num_threads not in (None, 1):
            raise ValueError(f"workers: {self.workers} needs num_threads: 1, got {self.num_threads}")
        if self.workers > 1 and self.device != "cpu":
            raise ValueError(f"workers: {self.workers} needs device: cpu, got {self.device}")
        return self
