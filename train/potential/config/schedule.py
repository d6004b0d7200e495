"""Section ``train_schedule``: the stages, their modes and learning rates."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from ....options import SCFOptions
from ...config.schema import Section
from ...trainer import options as shared
from .loss import LossWeights
from .training import InitialiseOptions, MonteCarloOptions


class FixedPointTrainingOptions(Section):
    """How a stage obtains the density it is trained on."""

    mode: Literal["direct", "unroll_scf", "implicit", "linearize_solve"]
    """direct: one application of the map to the reference density; unroll_scf: the model's own SCF, differentiated
    through its iterations; implicit, linearize_solve: the converged SCF, differentiated at the solution."""
    scf: SCFOptions | None = None
    """The SCF of every mode but direct; ``num_scf_steps`` and ``mixing_parameter`` must be written out."""
    linear_solve: Literal["inverse"] | None = None
    """How mode linearize_solve solves its linear systems, for those who want to say it: directly, one dense system per
    structure."""
    fixedpoint_scf_stability: bool | None = None
    """Whether the stage has the penalty of that name; it must agree with the stage's loss, which alone decides."""

    refused: ClassVar[dict[str, dict[str, str]]] = {
        "linear_solve": {
            "normal_cg": "the normal equations square the condition number; modes implicit and linearize_solve solve "
            "the system itself; leave linear_solve out"
        }
    }

    @model_validator(mode="after")
    def _scf_where_it_belongs(self) -> FixedPointTrainingOptions:
        if self.linear_solve is not None and self.mode != "linearize_solve":
            reason = "solves without a matrix" if self.mode == "implicit" else "solves no linear system"
            raise ValueError(f"linear_solve: mode '{self.mode}' {reason}: leave it out, or use mode linearize_solve")
        if self.scf is not None and self.scf.initial_density == "restart":
            raise ValueError("scf.initial_density 'restart' is the calculator's: use local_guess or from_data")
        if self.scf is not None and not self.scf.use_autograd_forces:
            raise ValueError(
                "scf.use_autograd_forces: false is the calculator's: in training, forces are the derivatives of the "
                "energy, the response of the density included; leave it out"
            )
        if self.mode == "direct":
            if self.scf is not None:
                raise ValueError("mode 'direct' runs no SCF: remove the scf block, or choose mode 'unroll_scf'")
            return self
        given = self.scf.model_fields_set if self.scf is not None else set()
        missing = [name for name in ("num_scf_steps", "mixing_parameter") if name not in given]
        if missing:
            raise ValueError(f"mode '{self.mode}' must explicitly set " + " and ".join(f"scf.{m}" for m in missing))
        return self


class Stage(shared.Stage):
    """One stage of the schedule."""

    backbone_lr: float | None = Field(default=None, gt=0)
    """That of the backbone and the local energy; none: ``lr``. All rates follow the same schedule."""
    local_charges_lr: float | None = Field(default=None, gt=0)
    """That of the local density read-out; none: ``lr``."""
    field_block_lr: float | None = Field(default=None, gt=0)
    """That of the response to the field; none: ``lr``."""
    readout_lr: float | None = Field(default=None, gt=0)
    """That of the non-local energy; none: ``lr``."""
    freeze: list[str] = Field(default=[])
    """Groups of parameters that do not change in this stage: backbone, local_charges, field_block, readout."""
    monte_carlo: MonteCarloOptions | None = None
    """Moves and temperature of ``workflow: monte_carlo``."""
    initialise: InitialiseOptions | None = None
    """What ``workflow: initialise_only`` does (the start of a run is ``training.initialise``)."""
    loss: LossWeights
    """Weights of the loss terms."""
    fixed_point_training_options: FixedPointTrainingOptions
    """Mode and SCF of the stage."""

    @model_validator(mode="after")
    def _stability_in_the_loss(self) -> Stage:
        wanted = self.fixed_point_training_options.fixedpoint_scf_stability
        if wanted is not None and wanted != ("fixedpoint_scf_stability" in self.loss.active()):
            raise ValueError(
                f"fixed_point_training_options.fixedpoint_scf_stability is {str(wanted).lower()}, but the loss says "
                "otherwise: leave the key out and give loss.fixedpoint_scf_stability a weight, or none"
            )
        return self

    @property
    def constant_charge(self) -> bool:
        """Whether the stage holds the total charge (or else the Fermi level)."""
        scf = self.fixed_point_training_options.scf
        return scf is None or scf.constant_charge
