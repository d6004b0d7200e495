"""Columns of the log."""

from __future__ import annotations

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
