"""Principal components and k-means clusters of local potentials, as functions of q."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.cluster.vq import kmeans2

from ..errors import InputError
from .bundle.files import read_potential_table
from .data import Array

#: distance (1/Bohr) of the points at which potentials are compared
STEP = 0.02


class Clusters(NamedTuple):
    """Components (n, m) along the principal directions, their shares of the variance (m,), and labels (n,)."""

    components: Array
    variance: Array
    labels: Array


def read_curves(paths: Sequence[Path], q_max: float) -> Array:
    """v(q) (n, m) of tables of q and v(q), interpolated to common points up to ``q_max``.

    Raises:
        InputError: a table that ends before ``q_max``, or fewer than two of them.
    """
    if len(paths) < 2:
        raise InputError(f"expected two tables or more to compare, got {len(paths)}")
    q = np.arange(0.0, q_max + STEP / 2, STEP)
    curves = []
    for path in paths:
        own, values = read_potential_table(path, 1)
        if own[-1] < q_max - 1e-9:
            raise InputError(f"{path}: ends at q = {own[-1]:g}, before {q_max:g} 1/Bohr; give a smaller --q-max")
        curves.append(np.interp(q, own, values[:, 0]))
    return np.array(curves)


def cluster(curves: Array, number: int, seed: int) -> Clusters:
    """Principal components of ``curves`` (n, m) about their mean, and ``number`` clusters of these by k-means.

    Raises:
        InputError: more clusters than curves.
    """
    if not 1 <= number <= len(curves):
        raise InputError(f"--clusters {number}: expected 1 … {len(curves)}, the number of tables")
    left, sizes, _ = np.linalg.svd(curves - curves.mean(0), full_matrices=False)
    components = left * sizes
    total = float((sizes**2).sum())
    variance = sizes**2 / total if total > 0 else np.zeros_like(sizes)
    _, labels = kmeans2(components, number, seed=seed, minit="++")
    return Clusters(components, variance, labels)
