"""What a model says over total charge and Fermi level, beside the reference.

Charges are in units of +e, so a Fermi level that belongs to its energy is μ = -dE/dQ. Units: eV, Å, e.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from ase import Atoms

from fp_potential.calculator import FixedPointCalculator

NAN = float("nan")


@dataclass(frozen=True)
class Answer:
    """A calculation: at given level ``energy`` is the grand potential E + μQ; what failed is NaN."""

    energy: float
    forces: np.ndarray  #: (n, 3)
    charges: np.ndarray  #: (n,)
    level: float
    charge: float
    defect: float  #: μ + dE/dQ, or dΩ/dμ - Q, from the model's own derivatives


class Model:
    """A calculator of an archive, asked at total charges and at Fermi levels.

    Attributes:
        failures: one line for every calculation that failed.
    """

    def __init__(self, archive: str | Path, tolerance: float = 1e-8) -> None:
        self.calculator = FixedPointCalculator(archive, scf_options={"scf_tolerance": tolerance})
        self.failures: list[str] = []

    def at_charge(self, atoms: Atoms, charge: float) -> Answer:
        return self._ask(atoms, charge, None)

    def at_level(self, atoms: Atoms, level: float) -> Answer:
        return self._ask(atoms, None, level)

    def _ask(self, atoms: Atoms, charge: float | None, level: float | None) -> Answer:
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        calculator = self.calculator
        calculator.reset()
        calculator.total_charge, calculator.fermi_level = charge, level
        try:
            calculator.calculate(bare)
        except (RuntimeError, ValueError) as error:  # the loop failed, or there is no level to hold
            held = f"level {level:.3f} eV" if charge is None else f"charge {charge:.3f} e"
            self.failures.append(f"{atoms.info.get('geometry', 'structure')}, {held}: {error}")
            nothing = np.full(len(atoms), NAN)
            return Answer(NAN, np.full((len(atoms), 3), NAN), nothing, NAN, NAN, NAN)
        found = calculator.results
        return Answer(
            found["energy"], found["forces"], found["charges"],
            found["fermi_level"], found["total_charge"], found["legendre_defect"],
        )  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """A frame of the reference, and the model at its charge and at its Fermi level (None: it has none)."""

    atoms: Atoms
    at_charge: Answer
    at_level: Answer | None

    @property
    def charge(self) -> float:
        return float(self.atoms.info["total_charge"])

    @property
    def level(self) -> float:
        return float(self.atoms.info.get("REF_fermi_level", NAN))

    @property
    def energy(self) -> float:
        return float(self.atoms.info["REF_energy"])


@dataclass(frozen=True)
class Slope:
    """dμ/dQ (V/e) between two neighbouring charges of one geometry, and dE/dQ + μ (eV) in their middle.

    ``model`` is from the levels at the two charges, ``own`` and ``defect`` from a central difference with a small step.
    """

    first: float
    second: float
    reference: float
    model: float
    own: float
    defect: float


def by_geometry(frames: list[Atoms]) -> dict[str, list[Atoms]]:
    """Frames of each geometry, from the most positive total charge to the most negative one."""
    groups: dict[str, list[Atoms]] = {}
    for atoms in frames:
        groups.setdefault(atoms.info["geometry"], []).append(atoms)
    return {name: sorted(group, key=lambda a: -a.info["total_charge"]) for name, group in groups.items()}


def compare(model: Model, frames: list[Atoms]) -> list[Compared]:
    """The model on every frame."""
    found = []
    for atoms in frames:
        level = atoms.info.get("REF_fermi_level")
        at_charge = model.at_charge(atoms, atoms.info["total_charge"])
        found.append(Compared(atoms, at_charge, None if level is None else model.at_level(atoms, level)))
    return found


def field_inside(model: Model, atoms: Atoms, metal: str, field: float = 0.05) -> float:
    """Field in the middle of the ``metal`` of ``atoms``, alone with open surfaces, over a ``field`` (V/Å) across it.

    From the change of the potentials of the two middle layers of atoms.
    """
    slab = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=(True, True, False))[atoms.symbols == metal]
    calculator, potentials = model.calculator, []
    calculator.total_charge, calculator.fermi_level = 0.0, None
    for applied in (0.0, field):
        calculator.reset()
        calculator.electric_field = [0.0, 0.0, applied]
        calculator.calculate(slab)
        potentials.append(calculator.results["electrostatic_potentials"] - applied * slab.positions[:, 2])
    calculator.electric_field = [0.0, 0.0, 0.0]
    change, height = potentials[1] - potentials[0], slab.positions[:, 2]
    inner = np.abs(height - np.median(height)) < 2.0
    below, above = inner & (height < np.median(height)), inner & (height > np.median(height))
    fall = change[below].mean() - change[above].mean()
    return float(fall / (field * (height[above].mean() - height[below].mean())))


def added_to(group: list[Compared], metal: str) -> tuple[float, float]:
    """Part of the charge that is added between the first and the last frame which the metal takes: DFT and model."""
    first, last = group[0], group[-1]
    here, added = first.atoms.symbols == metal, last.charge - first.charge
    reference = (last.atoms.arrays["REF_charges"] - first.atoms.arrays["REF_charges"])[here].sum()
    return float(reference / added), float((last.at_charge.charges - first.at_charge.charges)[here].sum() / added)


def slopes(model: Model, group: list[Compared], step: float) -> list[Slope]:
    """dμ/dQ along the charges of one geometry; ``step`` (e) is that of the model's own central differences."""
    found = []
    for a, b in pairwise(group):
        change, middle = b.charge - a.charge, 0.5 * (a.charge + b.charge)
        low, here, high = (model.at_charge(a.atoms, middle + sign * step) for sign in (-1, 0, 1))
        found.append(
            Slope(
                a.charge,
                b.charge,
                reference=(b.level - a.level) / change,
                model=(b.at_charge.level - a.at_charge.level) / change,
                own=(high.level - low.level) / (2 * step),
                defect=(high.energy - low.energy) / (2 * step) + here.level,
            )
        )
    return found


def rms(values: object) -> float:
    """Root mean square of what is finite, NaN where nothing is."""
    flat = np.ravel(np.asarray(values, dtype=float))
    flat = flat[np.isfinite(flat)]
    return float(np.sqrt(np.mean(flat**2))) if len(flat) else NAN


def errors(group: list[Compared]) -> dict[str, float]:
    """Root mean squares over frames; names with units as the table shows them."""
    held = [c for c in group if c.at_level is not None]
    per_atom = [(c.at_charge.energy - c.energy) / len(c.atoms) for c in group]
    offsets: dict[str, list[float]] = {}
    for c in group:
        offsets.setdefault(c.atoms.info["geometry"], []).append(c.at_charge.energy - c.energy)
    relative = [values - np.nanmean(values) for values in map(np.array, offsets.values()) if len(values) > 1]
    forces = "REF_forces"
    return {
        "forces at charge [meV/Å]": 1000 * rms([c.at_charge.forces - c.atoms.arrays[forces] for c in group]),
        "forces at level [meV/Å]": 1000 * rms([c.at_level.forces - c.atoms.arrays[forces] for c in held]),
        "energy [meV/atom]": 1000 * rms(per_atom),
        "energy over charge [meV]": 1000 * rms(np.concatenate(relative) if relative else []),
        "charges [me]": 1000 * rms([c.at_charge.charges - c.atoms.arrays["REF_charges"] for c in group]),
        "Fermi level [meV]": 1000 * rms([c.at_charge.level - c.level for c in group]),
        "charge at level [e]": rms([c.at_level.charge - c.charge for c in held]),
        "dE/dQ + μ [meV]": 1000 * rms([c.at_charge.defect for c in group]),
    }
