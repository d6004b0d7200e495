"""What can be wrong with a frame although every value in it is readable.

Errors are raised for the frame. Contradictions between labels are summed over all frames and become warnings: a sign,
an order of components or a unit that is not what the training file says.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from ...periodicity import check_cell, has_volume, is_along_periodic_axes
from ..errors import InputError
from .frame import Frame
from .options import DataOptions

#: charges that differ by more than this from the total charge are a contradiction, e
CHARGE_TOLERANCE = 0.01
#: torques in a field: share that may be missing, and numbers of frames and standard errors that make it certain
TORQUE_TOLERANCE, TORQUE_FRAMES, TORQUE_ERRORS = 0.5, 5, 3.0


def check_elements(atoms: Atoms, source: str) -> None:
    """Refuse atoms that are of no element: number 0, which ASE writes as X, and beyond the last.

    Raises:
        InputError: naming the frame ``source`` and the atom.
    """
    wrong = np.flatnonzero((atoms.numbers < 1) | (atoms.numbers >= len(chemical_symbols)))
    if len(wrong):
        number = atoms.numbers[wrong[0]]
        what = "X, a dummy atom (ghost of a basis set, virtual site)" if number == 0 else f"number {number}"
        raise InputError(
            f"{source}: atom {wrong[0]} is no element: {what}; expected atomic numbers 1 to "
            f"{len(chemical_symbols) - 1}: remove it from the frame"
        )


def check_periodicity(atoms: Atoms, source: str, options: DataOptions | None) -> None:
    """Refuse periodic vectors without a volume, area or length and, with ``options``, a molecule in a periodic box.

    Args:
        atoms: the frame.
        source: what messages call it.
        options: limit of the volume per atom, and whether it is to be checked; none: it is not.

    Raises:
        InputError: naming the frame ``source``, what was found and what to do.
    """
    try:
        check_cell(atoms.cell.array, atoms.pbc)
    except ValueError as error:
        raise InputError(f"{source}: {error}") from error
    if not atoms.pbc.all():
        return
    if options is None or options.allow_low_density_pbc or options.override_pbc_checks:
        return
    volume = abs(np.linalg.det(atoms.cell.array))
    limit = options.low_density_pbc_max_volume_per_atom
    if volume / len(atoms) > limit:
        raise InputError(
            f"{source}: pbc = T T T with {volume / len(atoms):.1f} Å³ per atom, more than "
            f"data.low_density_pbc_max_volume_per_atom = {limit:g}: a molecule in a box, whose images would interact? "
            "Then set its pbc to F F F; if it is a solid or liquid of low density, set data.allow_low_density_pbc: true"
        )


def has_stress(atoms: Atoms) -> bool:
    """Whether a frame can have a stress: it has a periodic axis, and a volume to divide by."""
    return bool(atoms.pbc.any()) and has_volume(atoms.cell.array)


def check_field(atoms: Atoms, field: np.ndarray, source: str, key: str) -> None:
    """Refuse a ``field`` ``(3,)`` along a periodic axis, V/Å.

    Raises:
        InputError: naming the frame and the key.
    """
    if is_along_periodic_axes(field, atoms.cell.array, atoms.pbc):
        raise InputError(
            f"{source}: '{key}' has a component along a periodic axis, where the potential of "
            "a uniform field is not periodic; set it to zero or remove the frame"
        )


class Consistency:
    """Contradictions between labels, summed frame by frame.

    - Charges of the atoms add up to the total charge, Σ q_i = Q.
    - Charges and dipoles of the atoms add up to the dipole of an open frame, Σ (q_i r_i + d_i) = d; where that holds
      only for dipoles taken as x, y, z instead of y, z, x, the order is wrong.
    - In a uniform field E the forces on a neutral open frame exert the torque Σ r×F = d×E, because rotating frame and
      field together does not change the energy; a factor of −1 is a wrong sign of the field.
    - A stress belongs to periodic frames whose cell has a volume.
    """

    def __init__(self) -> None:
        self.unbalanced = self.unused_stress = 0
        self.worst_charge = (0.0, "")
        self.dipoles = np.zeros(3)  #: Σ |error|² in the stated order, in the order x y z, and frames
        #: t = torque · expected, s = |expected|² of a frame: number, Σt, Σs, Σt², Σts, Σs²
        self.torques = np.zeros(6)

    def add(self, frame: Frame) -> None:
        """Look at one frame."""
        labels, positions = frame.labels, frame.atoms.positions
        multipoles, dipole = labels["atomic_multipoles"], labels["dipole"]
        forces = labels["forces"] if frame.weights["forces"] > 0 else None
        if multipoles is not None:
            error = abs(float(multipoles[:, 0].sum()) - frame.total_charge)
            self.unbalanced += error > CHARGE_TOLERANCE
            self.worst_charge = max(self.worst_charge, (error, frame.source))
        self.unused_stress += labels["stress"] is not None and not has_stress(frame.atoms)
        if frame.atoms.pbc.any():
            return
        if multipoles is not None and multipoles[:, 1:].any():
            charges = multipoles[:, 0] @ positions
            total = multipoles[:, 1:].sum(0)
            if dipole is not None:
                stated, cartesian = charges + total[[2, 0, 1]] - dipole, charges + total - dipole
                self.dipoles += np.array([stated @ stated, cartesian @ cartesian, 1.0])
            else:
                dipole = charges + total[[2, 0, 1]]
        neutral = abs(frame.total_charge) < 1e-3
        if dipole is not None and forces is not None and neutral and frame.external_field.any():
            expected = np.cross(dipole, -frame.external_field)
            t, s = np.cross(positions, forces).sum(0) @ expected, expected @ expected
            self.torques += np.array([1.0, t, s, t * t, t * s, s * s])

    def warnings(self, field_key: str | None) -> list[str]:
        """One line per contradiction; ``field_key`` is the key of the field in the files."""
        lines = []
        if self.unbalanced:
            worst, source = self.worst_charge
            lines.append(
                f"WARNING: the atomic charges of {self.unbalanced} frames do not add up to their total charge, by up "
                f"to {worst:.3g} e ({source}); check data.keys.total_charge"
            )
        stated, cartesian, number = self.dipoles
        if number >= 1 and cartesian < 1e-2 * stated and stated / number > 1e-4:
            lines.append(
                "WARNING: atomic multipoles add up to the dipoles of the frames only if they are ordered q, x, y, z; "
                "data.keys.atomic_multipoles means q, y, z, x"
            )
        if self.unused_stress:
            lines.append(
                f"WARNING: {self.unused_stress} frames with pbc = F F F, or a cell without a volume, have a stress, "
                "which is not used; are they periodic?"
            )
        return lines + self._torque_warning(field_key)

    def _torque_warning(self, field_key: str | None) -> list[str]:
        number, t, s, tt, ts, ss = self.torques
        if number < TORQUE_FRAMES or s == 0:
            return []
        slope = t / s
        error = np.sqrt(max(tt - 2 * slope * ts + slope**2 * ss, 0.0)) / s
        if slope + TORQUE_ERRORS * error > 1 - TORQUE_TOLERANCE:
            return []
        advice = "check the units of dipoles and fields, and whether energies and forces are those in the field"
        if abs(slope + 1) < TORQUE_TOLERANCE:
            advice = (
                f"the field has the other sign: '{field_key}' belongs to the other one of data.keys.electric_field (E) "
                "and data.keys.external_field (F = -E)"
            )
        return [
            f"WARNING: forces, dipoles and fields of {number:.0f} open frames contradict each other: the torque of the "
            f"forces is {slope:.2f} ± {error:.2f} times dipole × E, 1 expected; {advice}"
        ]
