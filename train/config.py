"""The training file: its options, their meaning, units and defaults.

``fixedpoint train --options`` prints this page. Sections: ``data`` (what to read), ``model`` (architecture,
:class:`fp_potential.options.ModelOptions`), ``statistics`` (constants taken from the training set), ``training``
(optimiser and machine) and ``train_schedule`` (stages). Units: eV, Å, e, V; dipoles e·Å, fields V/Å,
stress eV/Å³.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ..options import ModelOptions, SCFOptions
from .schema import Section


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) or value is None else [value]


def _weight_value(value: Any) -> Any:
    """A loss weight may be written ``100.0`` or ``{weight: 100.0}``."""
    if isinstance(value, dict):
        if set(value) != {"weight"}:
            raise ValueError(f"expected a number or {{weight: number}}, got keys {sorted(map(str, value))}")
        return value["weight"]
    return value


Names = Annotated[list[str], BeforeValidator(_as_list)]
Weight = Annotated[float, BeforeValidator(_weight_value), Field(ge=0)]


class Keys(Section):
    """Which key of the extended XYZ files holds what; an option that is left out is not read."""

    energy: str | None = None
    """Total energy of the frame, eV; in a field it contains −E·dipole (info key)."""
    forces: str | None = None
    """Forces, eV/Å (array with 3 columns)."""
    stress: str | None = None
    """Stress dE/d(strain)/V, eV/Å³: 9, 3×3 or 6 numbers xx yy zz yz xz xy (info key)."""
    atomic_multipoles: str | None = None
    """Atomic charges and dipoles ``[q, d_y, d_z, d_x]``, e and e·Å (array; further columns are ignored)."""
    dipole: str | None = None
    """Dipole about the origin of the coordinates, x y z, e·Å (info key)."""
    fermi_level: str | None = None
    """Fermi level, eV (info key). Not mapped: the model's own, from the charge constraint."""
    total_charge: str | None = None
    """Total charge, e (info key). Not mapped or missing in a frame: 0."""
    external_field: str | None = None
    """Gradient of the external potential, F = −E, V/Å (info key, 3 numbers)."""
    electric_field: str | None = None
    """Uniform physical field E = −F, V/Å (info key, 3 numbers). Give this one or ``external_field``."""

    @model_validator(mode="after")
    def _one_field(self) -> Keys:
        if self.external_field and self.electric_field:
            raise ValueError("give external_field (F) or electric_field (E = -F), not both")
        return self


class Split(Section):
    """Selection by an info key of the frames."""

    key: str = "split"
    """Info key that says to which set a frame belongs."""
    train: Names = Field(default=["train"])
    """Value or values of the training set."""
    valid: Annotated[list[str] | None, BeforeValidator(_as_list)] = None
    """Value or values of the validation set; none: ``valid_fraction`` of the training frames."""
    test: Names = Field(default=["test"])
    """Value or values of the test set."""


class DataOptions(Section):
    """The reference data: extended XYZ, plain or .gz."""

    files: Names = Field(min_length=1)
    """Files or globs, relative to the training file."""
    valid_files: Names = Field(default=[])
    """Further files, all of whose frames are validation frames."""
    test_files: Names = Field(default=[])
    """Further files, all of whose frames are test frames."""
    keys: Keys
    """Names of the keys in the files."""
    split: Split | None = None
    """Selection by an info key; without it every frame of ``files`` is a training frame."""
    valid_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Fraction of the training frames set aside for validation when no validation set is named."""
    valid_seed: int = 1
    """Seed of that choice."""
    kind_key: str = "kind"
    """Info key by which the test table has one row each; without it, the name of the file."""
    kind_weights: dict[str, dict[str, float]] = Field(default={})
    """Factors on the weights of labels by kind, ``{cluster: {energy: 4.0}}``; training and validation frames only."""


class StatisticsOptions(Section):
    """Constants that come from the training set (others are in ``model``, where null means the average)."""

    E0s: Literal["least_squares", "isolated_atoms"] | dict[str, float] = "least_squares"
    """Energies of the atoms, eV: fitted to the compositions (per atom, least squares), taken from frames with one
    neutral atom, or given as ``{H: -13.6, O: -2040.1}`` (symbols or atomic numbers)."""

    @field_validator("E0s", mode="before")
    @classmethod
    def _string_keys(cls, value: Any) -> Any:
        if value == "average":
            return "least_squares"
        return {str(key): energy for key, energy in value.items()} if isinstance(value, dict) else value


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

    @model_validator(mode="after")
    def _one_kind_of_parallelism(self) -> TrainingOptions:
        if self.workers > 1 and self.num_threads not in (None, 1):
            raise ValueError(f"workers: {self.workers} needs num_threads: 1, got {self.num_threads}")
        if self.workers > 1 and self.device != "cpu":
            raise ValueError(f"workers: {self.workers} needs device: cpu, got {self.device}")
        return self


class LossWeights(Section):
    """Weights of the terms of the loss; each term is a mean over the batch (``fp_potential.train.losses``)."""

    energy_per_atom: Weight = 0.0
    """((E − E*)/N)², eV²."""
    forces: Weight = 0.0
    """(F − F*)², (eV/Å)²."""
    stress: Weight = 0.0
    """(σ − σ*)², (eV/Å³)²."""
    atomic_multipoles: Weight = 0.0
    """(p − p*)², e² and (e·Å)²."""
    total_charge: Weight = 0.0
    """(Σq − Q)², e²."""
    total_charge_per_atom: Weight = 0.0
    """((Σq − Q)/N)², e²."""
    dipole: Weight = 0.0
    """(d − d*)² along the open axes, (e·Å)²."""
    dipole_per_atom: Weight = 0.0
    """((d − d*)/N)² along the open axes, (e·Å)²."""
    fermi_level: Weight = 0.0
    """(μ − μ*)², eV²."""
    fermi_level_per_atom: Weight = 0.0
    """((μ − μ*)/N)², eV²."""

    def active(self) -> dict[str, float]:
        """The terms with a weight above zero."""
        return {name: weight for name, weight in self.model_dump().items() if weight > 0}


class FixedPointTrainingOptions(Section):
    """How a stage obtains the density it is trained on."""

    mode: Literal["direct", "unroll_scf", "implicit", "linearize_solve"]
    """direct: one application of the map to the reference density; unroll_scf: the model's own SCF, differentiated
    through its iterations; implicit, linearize_solve: the converged SCF, differentiated at the solution."""
    scf: SCFOptions | None = None
    """The SCF of every mode but direct; ``num_scf_steps`` and ``mixing_parameter`` must be written out."""

    @model_validator(mode="after")
    def _scf_where_it_belongs(self) -> FixedPointTrainingOptions:
        if self.mode == "direct":
            if self.scf is not None:
                raise ValueError("mode 'direct' runs no SCF: remove the scf block, or choose mode 'unroll_scf'")
            return self
        given = self.scf.model_fields_set if self.scf is not None else set()
        missing = [name for name in ("num_scf_steps", "mixing_parameter") if name not in given]
        if missing:
            raise ValueError(f"mode '{self.mode}' must explicitly set " + " and ".join(f"scf.{m}" for m in missing))
        return self


class Stage(Section):
    """One stage of the schedule."""

    name: str
    """Name in the log."""
    epochs: int | None = Field(default=None, gt=0)
    """Number of epochs; or give ``start`` and ``end``."""
    start: int | None = Field(default=None, ge=0)
    """First epoch: that after the ``end`` of the stage before."""
    end: int | None = Field(default=None, ge=0)
    """Last epoch, itself included."""
    loss: LossWeights
    """Weights of the loss terms."""
    lr: float = Field(default=0.01, gt=0)
    """Learning rate at the start of the stage."""
    lr_final: float | None = Field(default=None, gt=0)
    """Learning rate at its end; none: constant."""
    lr_decay: Literal["exponential", "cosine"] = "exponential"
    """How it goes from one to the other, step by step."""
    reset_optimizer: bool = True
    """Forget the optimiser's moments when the stage begins (its loss has another scale)."""
    fixed_point_training_options: FixedPointTrainingOptions
    """Mode and SCF of the stage."""

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


class TrainConfig(Section):
    """The whole training file."""

    run_dir: str = "run"
    """Folder of the results, relative to where the command is called."""
    data: DataOptions
    """Reference data."""
    model: ModelOptions
    """Architecture."""
    statistics: StatisticsOptions = StatisticsOptions()
    """Constants from the training set."""
    training: TrainingOptions = TrainingOptions()
    """Optimiser and machine."""
    train_schedule: list[Stage] = Field(min_length=1)
    """Stages, one after the other: a list, or a mapping with the keys 0, 1, 2 ..."""

    @field_validator("train_schedule", mode="before")
    @classmethod
    def _schedule_as_list(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        numbers = list(range(len(value)))
        if sorted(value, key=str) != sorted(numbers, key=str):
            raise ValueError(f"the stages must be numbered 0, 1, 2 ...; got {list(value)}")
        return [value[number] for number in numbers]

    @field_validator("train_schedule")
    @classmethod
    def _consecutive(cls, stages: list[Stage]) -> list[Stage]:
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

    @model_validator(mode="after")
    def _labels_for_losses(self) -> TrainConfig:
        labels = {name: name.removesuffix("_per_atom") for name in LossWeights.model_fields}
        for number, stage in enumerate(self.train_schedule):
            for name in stage.loss.active():
                label = labels[name]
                if label != "total_charge" and getattr(self.data.keys, label) is None:
                    raise ValueError(
                        f"train_schedule.{number}.loss.{name} needs the label data.keys.{label}, which is not mapped"
                    )
            if not stage.loss.active():
                raise ValueError(f"train_schedule.{number}.loss has no term with a weight above zero")
            if stage.fixed_point_training_options.mode == "direct" and self.data.keys.atomic_multipoles is None:
                raise ValueError(f"train_schedule.{number}: mode 'direct' needs data.keys.atomic_multipoles")
        return self
