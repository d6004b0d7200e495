"""Potentials of several runs compared: principal components and k-means of their curves v(q).

A run is the vector of v_s(q) of all its species on one grid of q. Principal components are the right singular vectors
of the vectors less their mean; k-means (Lloyd, k-means++ starts, SciPy) runs on the projections on all of them, which
is the same as on the curves.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from scipy.spatial.distance import cdist

from ....files import write_whole
from ...errors import InputError
from ..bundle.files import read_potential_table
from ..data import Array
from ..pictures import PALETTE, curve, save, sheet
from .source import load_source

#: points of the grid in q
POINTS = 400
#: starts of k-means, of which the tightest clusters are taken
STARTS = 20
#: most clusters tried where their number is not given
MOST = 6


@dataclass(frozen=True)
class Curves:
    """v(q) ``(n, n_q, n_species)`` Ha Bohr³ of ``n`` potentials at ``q`` ``(n_q,)``."""

    names: list[str]
    species: tuple[str, ...]
    q: Array
    values: Array


@dataclass(frozen=True)
class Clusters:
    """Projections ``(n, m)`` on ``m`` components, their shares of the variance, and each potential's cluster ``(n,)``.

    ``silhouette``: mean of (b - a) / max(a, b), a the mean distance to the own cluster, b to the nearest other one.
    """

    curves: Curves
    projections: Array
    shares: Array
    labels: np.ndarray
    silhouette: float


def read_curves(sources: Sequence[str], largest: float) -> Curves:
    """Curves of the potentials that ``sources`` name (`source.load_source`), or of tables of all species.

    Raises:
        InputError: fewer than two, or potentials of different species.
    """
    if len(sources) < 2:
        raise InputError(f"{len(sources)} potential: expected two or more to compare")
    species: tuple[str, ...] | None = None
    values: list[Array | None] = []
    tables: list[str] = []
    q = torch.linspace(0.02, largest, POINTS, dtype=torch.float64)
    for name in sources:
        if Path(name).suffix == ".par":
            tables.append(name)
            values.append(None)
            continue
        potential = load_source(name).potential
        if species is not None and potential.species != species:
            raise InputError(
                f"{name}: a potential of {' '.join(potential.species)}, the others are of {' '.join(species)}"
            )
        species = potential.species
        grid, found = curve(potential, largest, POINTS)
        values.append(_on(q.numpy(), grid.numpy(), found.numpy()))
    if species is None:
        species = tuple(f"column {number + 1}" for number in range(_columns(Path(tables[0]))))
    for place, name in enumerate(sources):
        if values[place] is None:
            grid, found = read_potential_table(Path(name), len(species))
            if grid[-1] < largest:
                raise InputError(f"{name}: ends at q = {grid[-1]:g}; expected up to {largest:g} 1/Bohr (--largest)")
            values[place] = _on(q.numpy(), grid, found)
    return Curves(list(sources), species, q.numpy(), np.stack([value for value in values if value is not None]))


def _columns(path: Path) -> int:
    if not path.is_file():
        raise InputError(f"{path}: does not exist; expected a table of q and v(q) of all species")
    first = next((line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()), "")
    return max(1, len(first.split()) - 1)


def _on(q: Array, grid: Array, values: Array) -> Array:
    return np.stack([np.interp(q, grid, column) for column in values.T], 1)


def clustered(curves: Curves, components: int = 2, clusters: int | None = None, seed: int = 0) -> Clusters:
    """Principal components and k-means; without ``clusters`` the number from 2 to 6 with the largest silhouette.

    Raises:
        InputError: more clusters or components than potentials.
    """
    number = len(curves.names)
    if not 1 <= components < number:
        raise InputError(f"{components} components of {number} potentials: expected 1 … {number - 1}")
    if clusters is not None and not 1 <= clusters <= number:
        raise InputError(f"{clusters} clusters of {number} potentials: expected 1 … {number}")
    flat = curves.values.reshape(number, -1)
    u, s, _ = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    every = u * s
    total = float((s**2).sum())
    shares = s[:components] ** 2 / total if total > 0 else np.zeros(components)
    tried = range(2, min(MOST, number - 1) + 1) if clusters is None else [clusters]
    candidates = [_k_means(every, k, seed) for k in tried] or [np.zeros(number, dtype=int)]
    rated = [(_silhouette(every, labels), labels) for labels in candidates]
    silhouette, labels = max(rated, key=lambda pair: pair[0])
    return Clusters(curves, every[:, :components], shares, labels, silhouette)


def _k_means(points: Array, k: int, seed: int) -> np.ndarray:
    """Cluster of each point; numbered in the order in which they first occur."""
    generator = np.random.default_rng(seed)
    best, smallest = np.zeros(len(points), dtype=int), np.inf
    for _ in range(STARTS):
        centers, labels = kmeans2(points, k, minit="++", seed=generator, missing="warn" if k == 1 else "raise")
        spread = float(((points - centers[labels]) ** 2).sum())
        if spread < smallest:
            best, smallest = labels, spread
    first = list(dict.fromkeys(best.tolist()))
    return np.array([first.index(label) for label in best.tolist()])


def _silhouette(points: Array, labels: np.ndarray) -> float:
    present = np.unique(labels)
    if len(present) < 2:
        return 0.0
    distance, values = cdist(points, points), []
    for place, own in enumerate(labels):
        same = labels == own
        if same.sum() == 1:
            values.append(0.0)
            continue
        inside = distance[place, same].sum() / (same.sum() - 1)
        outside = min(distance[place, labels == other].mean() for other in present if other != own)
        largest = max(inside, outside)
        values.append((outside - inside) / largest if largest > 0 else 0.0)
    return float(np.mean(values))


def clusters_table(found: Clusters) -> list[list[str]]:
    """Rows of the potentials; the first is a heading."""
    components = [f"component {number + 1}" for number in range(found.projections.shape[1])]
    rows = [["potential", "cluster", *components]]
    for name, label, values in zip(found.curves.names, found.labels.tolist(), found.projections, strict=True):
        rows.append([name, str(label), *(f"{value:.4g}" for value in values)])
    return rows


def write_clusters(found: Clusters, folder: str | Path) -> list[Path]:
    """``clusters.csv``: the table; ``clusters.pdf``: the projections, and the curves in the colours of clusters."""
    table, picture = Path(folder) / "clusters.csv", Path(folder) / "clusters.pdf"
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(clusters_table(found))
    write_whole(table, text.getvalue())
    species = found.curves.species
    figure, axes = sheet(2.8 * (1 + len(species)), 2.8, columns=1 + len(species))
    second = found.projections[:, 1] if found.projections.shape[1] > 1 else np.zeros(len(found.labels))
    for place, label in enumerate(found.labels.tolist()):
        colour = PALETTE[label % len(PALETTE)]
        axes[0].plot(found.projections[place, 0], second[place], "o", color=colour, ms=4)
        for column in range(len(species)):
            axes[1 + column].plot(found.curves.q, found.curves.values[place, :, column], lw=0.8, color=colour)
    axes[0].set(xlabel="component 1", ylabel="component 2")
    for column, name in enumerate(species):
        axes[1 + column].set(title=name, xlabel="q [1/Bohr]")
    axes[1].set_ylabel("v(q) [Ha Bohr³]")
    save(figure, picture)
    return [table, picture]
