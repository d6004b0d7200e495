"""Bands in an order in which each runs on through crossings, along a path of k."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .eigenvalues import Eigenstates

#: energy (any unit) that forbids a move of more than the allowed number of places
FORBIDDEN = 1e9


def order_smoothly(energies: Tensor, largest_move: int = 5, paired: bool = True) -> Tensor:
    """The order ``(b, n)`` in which bands ``energies`` ``(b, n)`` run on smoothly: row i is energies[i, order[i]].

    Each band is extrapolated from its last points by the polynomial through up to four of them, and the bands at the
    next k are assigned to the extrapolations with the least sum of deviations. ``paired`` moves bands by pairs, as they
    are where each is listed twice; ``largest_move`` is the number of places that a band may move by.
    """
    values = energies.detach()
    if paired and values.shape[1] % 2:
        raise ValueError(f"bands ordered by pairs come in an even number, not {values.shape[1]}")
    if paired:
        means = values.unflatten(1, (-1, 2)).mean(2)
        pairs = order_smoothly(means, max(1, largest_move // 2), paired=False)
        return torch.stack([2 * pairs, 2 * pairs + 1], dim=2).flatten(1)
    b, n = values.shape
    order = torch.arange(n).repeat(b, 1)
    ordered = values.clone()
    far = (torch.arange(n)[:, None] - torch.arange(n)[None]).abs() > largest_move
    for i in range(1, b):
        predicted = _extrapolated(ordered[max(0, i - 4) : i])
        cost = (predicted[:, None] - values[i][None]).abs() + FORBIDDEN * far
        order[i] = torch.from_numpy(linear_sum_assignment(cost.numpy())[1])
        ordered[i] = values[i, order[i]]
    return order


def _extrapolated(points: Tensor) -> Tensor:
    """The next values of equally spaced ``points`` ``(1 to 4, n)``: their polynomial's."""
    weights = {1: [1.0], 2: [-1.0, 2.0], 3: [1.0, -3.0, 3.0], 4: [-1.0, 4.0, -6.0, 4.0]}[len(points)]
    return torch.tensor(weights, dtype=points.dtype) @ points


def order_by_overlap(states: Eigenstates) -> Tensor:
    """The order ``(b, n_bands)`` in which bands keep the character of their states: row i is bands[i, order[i]].

    States of neighbouring k are assigned to each other with the largest sum of |⟨n, k|m, k'⟩|², overlaps of the
    coefficients of the same G. Rotations within degenerate groups do not matter to groups, only to their members.
    """
    n = states.n_listed
    order = torch.arange(n).repeat(len(states.k), 1)
    for i in range(1, len(states.k)):
        before = states.vectors[i - 1][:, order[i - 1]]
        overlap = (before.conj().T @ states.vectors[i][:, :n]).abs() ** 2
        order[i] = torch.from_numpy(linear_sum_assignment(overlap.numpy(), maximize=True)[1])
    if states.doubled:
        order = torch.stack([2 * order, 2 * order + 1], dim=2).flatten(1)[:, : states.n_bands]
    return order
