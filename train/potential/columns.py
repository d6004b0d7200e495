"""Columns of the log of a potential: which there are, and what fills them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .config import TrainConfig
from .metrics import PROPERTIES, StructureErrors

#: terms of the loss shown in the log as root mean squares times 1000
TRAIN_COLUMNS = {
    "energy_per_atom": "train energy [meV/atom]",
    "forces": "train forces [meV/Å]",
    "stress": "train stress [meV/Å³]",
    "atomic_multipoles": "train multipoles [me, me·Å]",
    "esps": "train potentials [mV]",
    "polarizability": "train polarizability [me·Å²/V/atom]",
    "born_charges": "train Born charges [me]",
}
#: properties (`PROPERTIES`) whose errors on the validation set are shown
VALID_COLUMNS = (
    "energy",
    "forces",
    "stress",
    "charge",
    "atomic_dipole",
    "dipole",
    "esps",
    "polarizability",
    "born_charges",
)
#: modes whose structures may have to be unrolled, and that solve linear systems
SOLVING_MODES = ("implicit", "linearize_solve")

FALLBACKS, FAILED_SOLVES = "train SCF fallbacks", "train failed solves"
#: errors of the converged SCF in stages that are trained without one
SCF_FORCES = "SCF forces [meV/Å]"


class Columns:
    """The columns that a training file asks for.

    Args:
        config: the training file.
        train_frames: number of training frames.
        validated: whether there is a validation set.
        metals: symbols of elements that may conduct.
    """

    def __init__(self, config: TrainConfig, train_frames: int, validated: bool, metals: Sequence[str] = ()) -> None:
        self.train_frames = train_frames
        self.metals = list(metals)
        terms = {name for stage in config.train_schedule for name in stage.loss.active()}
        modes = {stage.fixed_point_training_options.mode for stage in config.train_schedule}
        self.headings = [heading for name, heading in TRAIN_COLUMNS.items() if name in terms]
        self.headings += _scf("train") if modes - {"direct"} else []
        self.headings += [FALLBACKS, FAILED_SOLVES] if modes & set(SOLVING_MODES) else []
        self.headings += [softness_column(symbol) for symbol in self.metals]
        if validated:
            labelled = [name for name in VALID_COLUMNS if _is_labelled(name, config, terms)]
            valid = [f"valid {PROPERTIES[name]}" for name in labelled]
            self.headings += ["valid loss", *valid, SCF_FORCES, *_scf("valid")]

    def of_training(self, terms: Mapping[str, float]) -> dict[str, float]:
        """Root mean squares of the terms that have a column, and how the SCF went.

        Args:
            terms: unweighted terms of the loss and counts, means over the structures of an epoch.
        """
        row = {TRAIN_COLUMNS[name]: 1000 * value**0.5 for name, value in terms.items() if name in TRAIN_COLUMNS}
        if "scf_steps" in terms:
            row |= zip(_scf("train"), (terms["scf_steps"], 100 * terms["scf_converged"]), strict=True)
            if FALLBACKS in self.headings:
                row[FALLBACKS] = round(terms["scf_fallback"] * self.train_frames)
                row[FAILED_SOLVES] = round(terms["solve_failures"] * self.train_frames)
        for symbol in self.metals:
            if terms.get(f"atoms {symbol}", 0.0) > 0:
                row[softness_column(symbol)] = terms[softness_column(symbol)] / terms[f"atoms {symbol}"]
        return row

    def of_validation(self, errors: StructureErrors) -> dict[str, float]:
        """Root mean square errors that have a column."""
        row = {}
        for name in VALID_COLUMNS:
            pair, heading = errors.rmse_mae(name), f"valid {PROPERTIES[name]}"
            if pair and heading in self.headings:
                row[heading] = pair[0]
        return row

    def of_solution(self, errors: StructureErrors) -> dict[str, float]:
        """Errors of the converged SCF, and how it went."""
        row = {}
        forces, scf = errors.rmse_mae("forces"), errors.scf()
        if forces:
            row[SCF_FORCES] = forces[0]
        if scf:
            row |= zip(_scf("valid"), (scf.mean, scf.converged), strict=True)
        return row


def softness_column(symbol: str) -> str:
    """Mean metallic softness of the atoms of an element."""
    return f"s {symbol} [e/V]"


def _scf(split: str) -> list[str]:
    return [f"{split} SCF applications", f"{split} SCF converged [%]"]


def _is_labelled(name: str, config: TrainConfig, terms: set[str]) -> bool:
    """Whether the data have what a property of ``VALID_COLUMNS`` is compared with."""
    keys = config.data.keys
    mapped: dict[str, Any] = {
        "charge": keys.atomic_multipoles or keys.charges,
        "atomic_dipole": keys.atomic_multipoles,
        "stress": keys.stress or keys.virial,
        "esps": "esps" in terms or keys.electrostatic_potentials,
    }
    return bool(mapped[name] if name in mapped else getattr(keys, name))
