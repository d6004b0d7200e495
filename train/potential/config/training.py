"""Section ``training``, initial values and random moves: the options of the trainer, and what a potential adds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ...trainer import options as shared


class InitialiseOptions(shared.InitialiseOptions):
    """Where parameters come from before they are trained."""

    method: Literal["random", "he", "xavier", "checkpoint", "reference"] = "random"  # type: ignore[assignment]
    """random: as the model draws them (variance 1/fan-in); he, xavier: the same with the variances 2/fan-in and
    2/(fan-in + fan-out); checkpoint: those of another model, by name and shape, the rest as they are; reference: the
    last linear layers fitted to the labels of the training set by least squares, the rest as they are."""
    init_from: str | None = None
    """Where the other model is: a run folder, a checkpoint, an exported model, or the file that ``fixedpoint
    import-mace`` writes (backbone, energy read-outs and E0s of a mace-torch model); relative to where the command is
    called. Given alone it implies ``method: checkpoint``."""
    statistics: Literal["source", "training"] = "source"
    """Constants of the model (E0s, norms, numbers of neighbours, offset of the Fermi level): those of the other model,
    for which its parameters were trained, or those of the training set. Energies of elements that the other model does
    not have, and E0s that are given or taken from isolated atoms, are always those of this training."""


class MonteCarloOptions(shared.MonteCarloOptions):
    """Random moves of the parameters, accepted by the rule of Metropolis on the loss of a batch."""

    move: float | dict[str, float] = 0.01
    """Standard deviation of a move relative to the root mean square of the group's parameters at the start of the
    stage: one for all groups, or by group (``{readout: 0.02}``; groups that are not named do not move)."""


class TrainingOptions(shared.TrainingOptions):
    """Optimiser, batches and machine."""

    weight_decay: float = Field(default=5e-7, ge=0)
    """Weight decay of the backbone and of all energy read-outs."""
    local_charges_weight_decay: float = Field(default=5e-7, ge=0)
    """Weight decay of the local density read-out."""
    field_block_weight_decay: float = Field(default=5e-7, ge=0)
    """Weight decay of the response to the field."""
    initialise: InitialiseOptions = InitialiseOptions()
    """Where the parameters come from at the start of the run; ``{init_from: PATH}`` continues from another model."""
    scf_eval_every: int = Field(default=10, ge=0)
    """Epochs between validations through the converged SCF (100 applications, 1e-6) in direct stages; 0: never."""
