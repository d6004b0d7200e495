"""Options that every learned model shares: of the run, its optimiser and machine, and of its stages.

A learned model declares what it has besides in subclasses, which it names in a subclass of `RunOptions`: the
learning rate of each of its groups of parameters as ``<group>_lr`` of the stage, its data, its loss.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from ..config.schema import Section
from .monte_carlo_options import MonteCarloOptions

Optimizer = Literal[
    "adam",
    "adamw",
    "schedulefree",
    "sgd",
    "rmsprop",
    "lbfgs",
    "nadam",
    "radam",
    "adamax",
    "adagrad",
    "adadelta",
    "asgd",
]


class InitialiseOptions(Section):
    """Where parameters come from before they are trained."""

    method: Literal["random", "he", "xavier", "checkpoint"] = "random"
    """random: as the model draws them (variance 1/fan-in); he, xavier: the same with the variances 2/fan-in and
    2/(fan-in + fan-out); checkpoint: those of another model, by name and shape, the rest as they are."""
    init_from: str | None = None
    """Where the other model is: a run folder or a checkpoint; relative to where the command is called. Given alone it
    implies ``method: checkpoint``."""
    weights: Literal["average", "last"] = "average"
    """Of a run or checkpoint: the running average of its weights, or those of its last step."""

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"method": "checkpoint"} | value if isinstance(value, dict) and value.get("init_from") else value

    @model_validator(mode="after")
    def _source_where_needed(self) -> InitialiseOptions:
        if (self.method == "checkpoint") != (self.init_from is not None):
            raise ValueError("method: checkpoint and init_from: PATH go together")
        return self


class RunningOptions(Section):
    """How a stage runs."""

    workflow: Literal["gradient", "least_squares", "monte_carlo", "evaluate", "initialise_only"] = "gradient"
    """gradient: steps of an optimiser; least_squares: damped Gauss-Newton steps, of models whose loss is a sum of
    squares (bands); monte_carlo: random moves; evaluate: losses and errors of the model as it would be exported,
    nothing changes; initialise_only: the parameters are set by ``initialise``, nothing is trained."""
    optimizer: Optimizer | None = None
    """Optimiser of this stage; none: ``training.optimizer``."""
    lr: float = Field(default=0.01, gt=0)
    """Learning rate at the start of the stage."""
    lr_final: float | None = Field(default=None, gt=0)
    """Learning rate at its end (with plateau: the smallest); none: constant."""
    lr_decay: Literal["exponential", "cosine", "plateau", "step"] = "exponential"
    """How it goes from one to the other: in each step of the optimiser (exponential, cosine), by ``plateau_factor``
    whenever the loss has not fallen for ``plateau_patience`` epochs, or by ``step_factor`` every ``step_epochs`` epochs
    (step, which needs no ``lr_final``: with one it is the smallest)."""
    step_factor: float = Field(default=0.9, gt=0, le=1)
    """Factor on the learning rate every ``step_epochs`` epochs."""
    step_epochs: int = Field(default=100, gt=0)
    """Epochs between two factors."""
    plateau_factor: float = Field(default=0.5, gt=0, lt=1)
    """Factor on the learning rate on a plateau."""
    plateau_patience: int = Field(default=10, gt=0)
    """Epochs without a new smallest loss that make a plateau."""
    paced_by: Literal["valid", "train"] = "valid"
    """Loss that ``patience`` and plateaus follow: of the validation set, or the mean of the epoch's batches."""
    warmup_epochs: float = Field(default=0.0, ge=0)
    """Epochs (or part of one) over which the learning rate rises linearly from zero."""
    reset_optimizer: bool = True
    """Forget the optimiser's moments when the stage begins (its loss has another scale); lbfgs, and another
    optimiser than that of the stage before, begin anew in any case."""
    freeze: list[str] = Field(default=[])
    """Groups of parameters that do not change in this stage."""
    patience: int | None = Field(default=None, gt=0)
    """Early stop: after so many epochs without a new smallest loss (``paced_by``) the next stage begins."""
    damping: float = Field(default=0.001, gt=0)
    """First damping of ``workflow: least_squares``, relative to ``damping_by``; it falls while steps lower the loss."""
    damping_by: Literal["largest", "each"] = "largest"
    """The largest entry of the curvature's diagonal, for parameters of one kind (Levenberg), or the entry of each
    parameter, for parameters of different units (Marquardt)."""
    tries: int = Field(default=8, gt=0)
    """Its trials with rising damping before a step is given up."""
    monte_carlo: MonteCarloOptions | None = None
    """Moves and temperature of ``workflow: monte_carlo``."""
    initialise: InitialiseOptions | None = None
    """What ``workflow: initialise_only`` does (the start of a run is ``training.initialise``)."""

    @model_validator(mode="before")
    @classmethod
    def _moves_where_they_belong(cls, value: Any) -> Any:
        # before the sections are made: a subclass may have a class of its own for them
        if isinstance(value, dict) and value.get("workflow") == "monte_carlo" and value.get("monte_carlo") is None:
            return value | {"monte_carlo": {}}
        return value

    @model_validator(mode="after")
    def _options_of_the_workflow(self) -> RunningOptions:
        if self.monte_carlo is not None and self.workflow != "monte_carlo":
            raise ValueError(f"monte_carlo belongs to workflow: monte_carlo, not to workflow: {self.workflow}")
        if (self.initialise is not None) != (self.workflow == "initialise_only"):
            raise ValueError("workflow: initialise_only and initialise: {...} go together")
        if self.lr_decay == "plateau" and self.lr_final is not None and self.lr_final > self.lr:
            raise ValueError(f"lr_final {self.lr_final} is above lr {self.lr}: a plateau only lowers it")
        return self


class Stage(RunningOptions):
    """One stage of the schedule."""

    name: str
    """Name in the log."""
    epochs: int | None = Field(default=None, gt=0)
    """Number of epochs; or give ``start`` and ``end``."""
    start: int | None = Field(default=None, ge=0)
    """First epoch: that after the ``end`` of the stage before."""
    end: int | None = Field(default=None, ge=0)
    """Last epoch, itself included."""

    @model_validator(mode="after")
    def _one_row(self) -> Stage:
        untrained = self.workflow in ("evaluate", "initialise_only")
        if untrained and self.epochs is None and self.end is None:
            self.epochs = 1
        if self.workflow == "initialise_only" and (self.epochs not in (None, 1) or self.end != self.start):
            raise ValueError("workflow: initialise_only has one epoch: leave out epochs, start and end")
        return self

    @property
    def random_moves(self) -> MonteCarloOptions | None:
        """Moves and temperatures of ``workflow: monte_carlo``; a subclass may have them under other options."""
        return self.monte_carlo

    @property
    def length(self) -> int:
        """Number of epochs."""
        assert self.epochs is not None
        return self.epochs

    @property
    def first_epoch(self) -> int:
        """Number of the first epoch, counted from 0 over all stages."""
        assert self.start is not None
        return self.start


class TrainingOptions(Section):
    """Optimiser, batches and machine."""

    batch_size: int = Field(default=8, gt=0)
    """Frames per step."""
    valid_batch_size: int = Field(default=16, gt=0)
    """Frames per batch in evaluation."""
    max_atoms_per_batch: int | None = Field(default=None, gt=0)
    """Fill batches up to this number of atoms, instead of with ``batch_size`` (``valid_batch_size``) frames; a larger
    frame is a batch of its own."""
    accumulate: int = Field(default=1, gt=0)
    """Pieces into which each process divides its part of a batch; losses and gradients are those of the whole, added
    piece by piece, the memory that of one piece."""
    group_by_size: bool = False
    """Put frames with similar numbers of neighbours into the same batch: faster where sizes differ much."""
    optimizer: Optimizer = "adam"
    """adamw, schedulefree: weight decay is not part of the gradient; all others: it is. nadam, radam, adamax, adagrad,
    adadelta, asgd: those of torch, for who knows them; adadelta is used with ``lr: 1.0``. schedulefree:
    AdamW with its own average of the weights, which needs no decay of the learning rate (Defazio et al. 2024; package
    schedulefree). lbfgs: iterations with a line search on each batch (a ``batch_size`` of all frames makes it the
    deterministic method); ``lr: 1.0`` is usual."""
    amsgrad: bool = False
    """The AMSGrad variant of adam and adamw."""
    beta_one: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the first moment (adam, adamw, nadam, radam, adamax, schedulefree)."""
    beta_two: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the second moment (those, rmsprop)."""
    momentum: float = Field(default=0.0, ge=0, lt=1)
    """Momentum (sgd, rmsprop)."""
    nesterov: bool = False
    """Nesterov's form of it (sgd)."""
    lbfgs_iterations: int = Field(default=20, gt=0)
    """Largest number of iterations of lbfgs on a batch; each takes one evaluation or more."""
    lbfgs_history: int = Field(default=20, gt=0)
    """Steps from which lbfgs builds its curvature."""
    weight_decay: float = Field(default=5e-7, ge=0)
    """Weight decay of the groups of parameters that have none of their own."""
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


#: key of a stage in a mapping
Number = Annotated[str, StringConstraints(pattern=r"^\d+$")]


class RunFolder(Section):
    """Where the results of a run go."""

    run_dir: str = "run"
    """Folder of the results, relative to where the command is called."""


class RunOptions(RunFolder):
    """What the trainer reads of a training file, whatever is trained.

    Where the sections have options of a learned model, its subclass names theirs: ``train_schedule: list[OwnStage]``.
    """

    training: TrainingOptions = TrainingOptions()
    """Optimiser and machine."""
    train_schedule: list[Stage] = Field(min_length=1)
    """Stages, one after the other: a list, or a mapping with the keys 0, 1, 2 ..."""

    @field_validator("train_schedule", mode="before", json_schema_input_type=list[Stage] | dict[Number, Stage])
    @classmethod
    def _schedule_as_list(cls, value: Any) -> Any:
        return stages_in_order(value)

    @field_validator("train_schedule")
    @classmethod
    def _consecutive(cls, stages: list[Any]) -> list[Any]:
        begin = 0
        for number, stage in enumerate(stages):
            label = f"stage {number} ('{stage.name}')"
            if stage.epochs is None:
                if stage.start is None or stage.end is None:
                    raise ValueError(f"{label}: give epochs, or start and end")
                stage.epochs = stage.end - stage.start + 1
            if stage.start is not None and stage.start != begin:
                raise ValueError(
                    f"{label}: start is {stage.start}, expected {begin} (the epoch after the stage before)"
                )
            if stage.end is not None and stage.end != begin + stage.epochs - 1:
                raise ValueError(f"{label}: end is {stage.end}, expected {begin + stage.epochs - 1}; end counts itself")
            if stage.epochs <= 0:
                raise ValueError(f"{label}: end {stage.end} is before start {stage.start}")
            stage.start, stage.end = begin, begin + stage.epochs - 1
            begin += stage.epochs
        return stages


def stages_in_order(value: Any) -> Any:
    """Stages that are given by number as a list.

    Raises:
        ValueError: the numbers are not 0, 1, 2 ...
    """
    if not isinstance(value, dict):
        return value
    numbers = list(range(len(value)))
    if sorted(value, key=str) != sorted(numbers, key=str):
        raise ValueError(f"the stages must be numbered 0, 1, 2 ...; got {list(value)}")
    return [value[number] for number in numbers]
