"""Structures for the viewer of the page: which frames, and what is shown of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..errors import InputError
from .results import SetResults

#: frames of each kind: the middle one and the worst by their error; and of how many kinds
MOST_KINDS = 10
#: atoms of all frames together, unless they are asked for: some 130 bytes of the page each
MOST_ATOMS = 20_000
#: properties whose error ranks frames: the first that has labels
NAMES = {"forces": "forces", "charge": "charges", "energy": "energy"}


def check_frames(asked: Sequence[int], name: str, number: int) -> None:
    """Raises `InputError` if the set does not have one of the frames."""
    for index in asked:
        if not 0 <= index < number:
            raise InputError(f"--frames {index}: {number} frames of the {name} set are evaluated, counted from 0")


def chosen_frames(results: SetResults, asked: Sequence[int] | None) -> dict[int, str]:
    """Index of a frame in its set -> why it is shown: those asked for, or of each kind the middle and the worst.

    Raises:
        InputError: there is no such frame.
    """
    if asked is not None:
        check_frames(asked, results.name, len(results.frames))
        return {index: "" for index in asked}
    ranked = next((name for name in NAMES if results.errors.rmse_mae(name) is not None), None)
    chosen: dict[int, str] = {}
    kinds = [kind for kind in results.errors.row_kinds() if kind is not None]
    for kind in kinds[:MOST_KINDS]:
        rows = results.errors.chosen(kind).tolist()
        if ranked is None:
            chosen |= {row: "" for row in rows[:2]}
            continue
        sums = torch.cat(results.errors.sums[ranked])[rows]
        order = np.argsort((sums[:, 0] / sums[:, 2].clamp(min=1)).nan_to_num(torch.inf).numpy(), kind="stable")
        chosen[rows[int(order[-1])]] = f"largest error of {NAMES[ranked]}"
        chosen.setdefault(rows[int(order[(len(order) - 1) // 2])], f"median error of {NAMES[ranked]}")
    atoms = 0
    kept: dict[int, str] = {}
    for index, why in chosen.items():
        atoms += len(results.frames[index].atoms)
        if atoms <= MOST_ATOMS or not kept:
            kept[index] = why
    return kept


def viewer_data(results: SetResults, chosen: dict[int, str]) -> str:
    """The frames as JSON that may stand in a script element."""
    frames = [_frame(results, index, why) for index, why in chosen.items()]
    return json.dumps({"frames": frames}, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c")


def _frame(results: SetResults, index: int, why: str) -> dict[str, Any]:
    frame, prediction = results.frames[index], results.predictions[index]
    atoms = frame.atoms
    label = frame.labels["atomic_multipoles"]
    forces = frame.labels["forces"]
    name = " · ".join([frame.kind, *([why] if why else []), frame.source])
    error = None if forces is None else np.linalg.norm(prediction.forces - forces, axis=1)
    return {
        "name": name,
        "symbols": atoms.get_chemical_symbols(),
        "positions": _rounded(atoms.positions),
        "cell": _rounded(atoms.cell.array) if atoms.pbc.any() else None,
        "charges": _rounded(prediction.density[:, 0]),
        "dipoles": _rounded(prediction.density[:, [3, 1, 2]]),
        "reference": None if label is None else _rounded(label[:, 0]),
        "reference_dipoles": None if label is None else _rounded(label[:, [3, 1, 2]]),
        "force_error": None if error is None else _rounded(error),
    }


def _rounded(values: np.ndarray) -> list[Any]:
    return np.round(np.nan_to_num(np.asarray(values, dtype=float)), 4).tolist()
