"""Where `SplitChargeUpdate` starts to conduct: elements whose charges follow the Fermi level in the training set.

Over the frames of one composition that have multipoles and a Fermi level μ, with q_z the mean charge of the element's
atoms, s_z = -cov(q_z, μ) / var(μ), pooled over compositions. It is the response of the charges with all fields they
make, and so less than the softness itself, which the training finds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase.data import chemical_symbols

from ....model import FixedPointPotential
from ..samples import Sample

#: softness, e/V, from which an element counts as one whose charges follow the level
CONDUCTING = 1e-3
#: what elements of the training file's list start with if the data say less
LISTED = 0.02


class _Pooled:
    """Sums over the frames of one composition."""

    def __init__(self, elements: int) -> None:
        self.frames, self.level, self.squares = 0, 0.0, 0.0
        self.charges, self.products = np.zeros(elements), np.zeros(elements)

    def add(self, level: float, charges: np.ndarray) -> None:
        self.frames += 1
        self.level += level
        self.squares += level * level
        self.charges += charges
        self.products += level * charges

    def moments(self) -> tuple[float, np.ndarray]:
        """Σ (μ - <μ>)² and Σ (μ - <μ>)(q_z - <q_z>)."""
        variance = self.squares - self.level**2 / self.frames
        return variance, self.products - self.level * self.charges / self.frames


def softness_of(samples: Sequence[Sample], elements: int) -> tuple[np.ndarray, int]:
    """s_z ``(Z,)``, e/V, and the number of frames it is from; zeros where levels do not differ."""
    pools: dict[tuple[int, ...], _Pooled] = {}
    for sample in samples:
        labels = sample.labels
        if not (labels.fermi_level_weight[0] > 0 and labels.multipoles_weight[0, 0] > 0):
            continue
        species = sample.graph.species.numpy()
        counts = np.bincount(species, minlength=elements)
        sums = np.bincount(species, labels.multipoles[:, 0].double().numpy(), minlength=elements)
        pool = pools.setdefault(tuple(counts.tolist()), _Pooled(elements))
        pool.add(float(labels.fermi_level[0]), sums / np.maximum(counts, 1))
    variance, covariance = 0.0, np.zeros(elements)
    for pool in pools.values():
        own, products = pool.moments()
        variance, covariance = variance + own, covariance + products
    used = sum(pool.frames for pool in pools.values() if pool.frames > 1)
    return (-covariance / variance if variance > 1e-12 else np.zeros(elements)), used


def start_metallic(model: FixedPointPotential, samples: Sequence[Sample]) -> list[str]:
    """Sets the metallic softness that ``model`` starts with; a line of what was found, none for other updates.

    Elements of a list (`metallic: [Cu]`) start with s_z, at least `LISTED`; with ``auto`` those above `CONDUCTING`
    start with s_z and all others with none, which they keep.
    """
    update = model.solver.density_map.response
    if not update.shares_charge or not update.metallic_bias.requires_grad:
        return []
    found, frames = softness_of(samples, len(model.elements))
    able = update.metallic.cpu().numpy() > 0
    start = np.where(found > CONDUCTING, found, 0.0)
    if not able.all():
        start = np.maximum(start, LISTED)
    start = np.where(able, start, 0.0)
    amplitude = np.where(start > 0, np.sqrt(start) / update.metallic_scale, -1.0)
    with torch.no_grad():
        update.metallic_bias.copy_(torch.as_tensor(amplitude).to(update.metallic_bias))
    symbols = [chemical_symbols[z] for z in model.elements]
    soft = [f"{symbol} {s:.3g} e/V" for symbol, s in zip(symbols, start, strict=True) if s > 0]
    hard = [symbol for symbol, s in zip(symbols, start, strict=True) if s <= 0]
    text = f"metallic, from {frames} frames of one composition with Fermi levels: {', '.join(soft) or 'nothing'}"
    return [text + (f"; {', '.join(hard)} insulate" if hard else "")]
