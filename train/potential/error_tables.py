"""Tables of errors for people."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase.data import chemical_symbols

from ...text_tables import aligned
from .metrics import PROPERTIES, StructureErrors

#: frames whose Fermi level is labelled, while nothing of the model conducts: their levels do not count
NO_LEVEL = "no level [frames]"


def _cell(pair: tuple[float, float] | None) -> str:
    return "-" if pair is None else f"{pair[0]:.2f} / {pair[1]:.2f}"


def error_rows(errors: StructureErrors) -> list[list[str]]:
    """Heading and one row per kind and one for all; a cell holds ``RMSE / MAE``."""
    shown = [name for name in PROPERTIES if errors.rmse_mae(name) is not None]
    head = ["kind", "frames", "atoms", *(PROPERTIES[name] for name in shown)]
    if errors.no_level():
        head.append(NO_LEVEL)
    if errors.scf():
        head += ["SCF [median / p95 / max]", "converged [%]"]
    rows = [head]
    atoms = torch.cat(errors.atoms)
    for kind in errors.row_kinds():
        index = errors.chosen(kind)
        row = [kind or "all", str(len(index)), str(int(atoms[index].sum()))]
        row += [_cell(errors.rmse_mae(name, kind)) for name in shown]
        if errors.no_level():
            row.append(str(errors.no_level(kind)))
        scf = errors.scf(kind)
        if scf:
            row += [f"{scf.median:.0f} / {scf.p95:.0f} / {scf.largest}", f"{scf.converged:.1f}"]
        rows.append(row)
    return rows


def element_rows(errors: StructureErrors, elements: Sequence[int]) -> list[list[str]]:
    """Heading and one row per element, for the properties of atoms; the heading alone without such labels.

    Args:
        elements: atomic numbers, the model's list.
    """
    shown = [name for name in PROPERTIES if name in errors.by_element and errors.rmse_mae(name) is not None]
    rows = [["element", *(PROPERTIES[name] for name in shown)]]
    for index, number in enumerate(elements):
        pairs = [errors.element_rmse_mae(name, index) for name in shown]
        if any(pairs):
            rows.append([chemical_symbols[number], *map(_cell, pairs)])
    return rows


def error_table(errors: StructureErrors) -> str:
    """`error_rows` as text."""
    return "errors: RMSE / MAE\n" + aligned(error_rows(errors), ruled=True)
