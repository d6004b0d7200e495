"""Clusters with sodium that takes all charge that is added, as metals do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from structures import water_cluster

KEYS = {"charges": "q", "fermi_level": "mu", "total_charge": "charge", "energy": "energy", "forces": "forces"}
#: e/V
SOFTNESS = {"H": 0.0, "O": 0.0, "Na": 0.05}


def charged_frames(
    compositions: int = 2, levels: Sequence[float] = (-3.0, -2.2, -1.0), noise: float = 0.0, repeats: int = 1
) -> list[Atoms]:
    """Clusters whose Na follows the level, each composition with charges and levels of its own.

    ``noise`` is what geometries add to the charges within molecules, e, and to the level, V.
    """
    rng = np.random.default_rng(3)
    frames = []
    for n in range(1, 1 + compositions):
        base = water_cluster(n) + Atoms("Na2", [[-3.0, 0, 0], [-3.0, 3.0, 0]])
        start = rng.normal(scale=0.2, size=len(base))
        softness = np.array([SOFTNESS[symbol] for symbol in base.symbols])
        for level in [level - n for level in levels for _ in range(repeats)]:
            atoms = base.copy()
            moved = noise * rng.normal(size=n)
            atoms.arrays["q"] = start - softness * level
            atoms.arrays["q"][: 3 * n] += np.stack([-moved, 0.5 * moved, 0.5 * moved], axis=1).reshape(-1)
            atoms.arrays["forces"] = rng.normal(size=(len(atoms), 3))
            charge = float(atoms.arrays["q"].sum())
            seen = level + noise * rng.normal() + moved.sum()
            atoms.info |= {"mu": seen, "charge": charge, "energy": -500.0 * n + level}
            frames.append(atoms)
    return frames
