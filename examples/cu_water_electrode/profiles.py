"""Where the charge is: per layer of metal and water, and along the normal of the slab.

Atomic charges only, on both sides: dipoles of the model's atoms are left out, Bader charges have none. Units: Å, e.
"""

from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from ase import Atoms

matplotlib.use("agg")
import matplotlib.pyplot as plt

CONTACT = 4.2  # Å from the outermost metal layer to the oxygen: waters that touch the metal
GAP = 1.0  # Å between atoms of two metal layers
WIDTH = 0.7  # Å, of the Gaussians that the profile along z is drawn with


@dataclass(frozen=True)
class Profile:
    """Total charge of a frame with the reference's atomic charges and the model's."""

    atoms: Atoms
    charge: float
    reference: np.ndarray  #: (n,)
    model: np.ndarray  #: (n,)


def heights(atoms: Atoms, metal: str) -> np.ndarray:
    """z of the atoms ``(n,)`` about the middle of the metal, within half a cell; the third vector is along z."""
    length = atoms.cell.lengths()[2]
    z = atoms.positions[:, 2]
    chosen = z[[symbol == metal for symbol in atoms.get_chemical_symbols()]]
    centre = np.angle(np.exp(2j * np.pi * chosen / length).mean()) * length / (2 * np.pi)
    return (z - centre + length / 2) % length - length / 2


def layers(atoms: Atoms, metal: str = "Cu") -> dict[str, np.ndarray]:
    """Names and atoms (indices) of the layers, from low z to high z; a hydrogen goes with its nearest oxygen."""
    z, symbols = heights(atoms, metal), np.array(atoms.get_chemical_symbols())
    solid = np.flatnonzero(symbols == metal)
    solid = solid[np.argsort(z[solid])]
    sheets = np.split(solid, np.flatnonzero(np.diff(z[solid]) > GAP) + 1)
    low, high = z[sheets[0]].mean(), z[sheets[-1]].mean()
    oxygens, hydrogens = np.flatnonzero(symbols == "O"), np.flatnonzero(symbols == "H")
    distances = atoms.get_all_distances(mic=True)[np.ix_(hydrogens, oxygens)]
    owner = np.arange(len(atoms))
    owner[hydrogens] = oxygens[distances.argmin(1)]
    water = np.concatenate([oxygens, hydrogens])
    place = z[owner[water]]
    below, above = low - place, place - high  # distances from the metal
    found = {
        "water below": water[(below > CONTACT) & (place < 0)],
        "contact below": water[(below <= CONTACT) & (place < 0)],
    }
    found |= {f"{metal} {number + 1}": sheet for number, sheet in enumerate(sheets)}
    return found | {
        "contact above": water[(above <= CONTACT) & (place > 0)],
        "water above": water[(above > CONTACT) & (place > 0)],
    }


def along_z(atoms: Atoms, charges: np.ndarray, metal: str = "Cu", points: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """z (Å, about the middle of the metal) and the laterally integrated charge (e/Å) there, of smeared atoms."""
    length = atoms.cell.lengths()[2]
    grid = (np.arange(points) + 0.5) / points * length - length / 2
    distance = grid[:, None] - heights(atoms, metal)[None]
    distance -= length * np.round(distance / length)
    shape = np.exp(-0.5 * (distance / WIDTH) ** 2)
    return grid, (shape / (shape.sum(0) * length / points)) @ charges


def three(profiles: list[Profile]) -> list[Profile]:
    """Those with the most positive, the middle and the most negative total charge."""
    ordered = sorted(profiles, key=lambda p: -p.charge)
    if len(ordered) < 3:
        return ordered
    middle = 0.5 * (ordered[0].charge + ordered[-1].charge)
    return [ordered[0], min(ordered[1:-1], key=lambda p: abs(p.charge - middle)), ordered[-1]]


def draw(groups: dict[str, list[Profile]], path: Path, metal: str = "Cu") -> None:
    """A row for each geometry: profiles along z, their change from the first charge, and that change per layer."""
    figure, rows = plt.subplots(len(groups), 3, figsize=(13, 3.4 * len(groups)), squeeze=False, layout="constrained")
    colours = ("tab:blue", "tab:orange", "tab:red")
    for panels, (name, profiles) in zip(rows, groups.items(), strict=True):
        first = profiles[0]
        parts = layers(first.atoms, metal)
        for profile, colour in zip(profiles, colours, strict=False):
            for kind, style, marker in (("reference", "-", "o"), ("model", "--", "x")):
                values, start = getattr(profile, kind), getattr(first, kind)
                label = f"{profile.charge:.2f} e, {'DFT' if kind == 'reference' else 'model'}"
                panels[0].plot(*along_z(profile.atoms, values, metal), style, color=colour, lw=1, label=label)
                if profile is first:
                    continue
                panels[1].plot(*along_z(profile.atoms, values - start, metal), style, color=colour, lw=1, label=label)
                change = [(values - start)[atoms].sum() for atoms in parts.values()]
                panels[2].plot(change, marker + style, color=colour, lw=1, label=label)
        panels[0].set(title=f"{name}: charge", ylabel="e/Å", xlabel="z [Å]")
        panels[1].set(title=f"change from {first.charge:.2f} e", ylabel="e/Å", xlabel="z [Å]")
        panels[2].set(title="the same per layer", ylabel="e")
        panels[2].set_xticks(range(len(parts)), list(parts), rotation=60, fontsize=7)
        for panel in (panels[0], panels[2]):
            panel.legend(fontsize=6)
    figure.savefig(path, dpi=120)
    plt.close(figure)
