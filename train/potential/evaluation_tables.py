"""Results of evaluations as text for the screen and as files for programs: CSV and JSON."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols

from ...files import naming
from ...text_tables import aligned
from .error_tables import element_rows, error_table
from .evaluate import Evaluation, scf_title
from .evaluate_response import KindResponse, response_table
from .metrics import PROPERTIES


def evaluation_text(
    evaluations: Sequence[Evaluation], elements: Sequence[int], responses: Sequence[KindResponse] = ()
) -> str:
    """Errors by kind and by element of each charge mode, the SCF's statistics of several runs, and the responses."""
    parts = []
    seen: set[bool] = set()
    for evaluation in evaluations:
        if evaluation.scf.constant_charge in seen:  # another start, the same solution
            continue
        seen.add(evaluation.scf.constant_charge)
        title = [scf_title(evaluation.scf)] if len(evaluations) > 1 else []
        by_element = element_rows(evaluation.errors, elements)
        tables = [error_table(evaluation.errors), *([aligned(by_element, ruled=True)] if len(by_element) > 1 else [])]
        parts.append("\n".join([*title, *tables]))
    if len(evaluations) > 1:
        parts.append(aligned(scf_rows(evaluations), ruled=True))
    if responses:
        parts.append(response_table(responses))
    return "\n\n".join(parts)


def scf_rows(evaluations: Sequence[Evaluation]) -> list[list[str]]:
    """Heading and one row per run: frames, percentage converged; median, 95th percentile, most applications."""
    rows = [["SCF", "frames", "converged [%]", "median", "p95", "largest"]]
    for evaluation in evaluations:
        scf = evaluation.errors.scf()
        if scf is not None:
            cells = [f"{scf.converged:.1f}", f"{scf.median:.0f}", f"{scf.p95:.0f}", str(scf.largest)]
            rows.append([scf_title(evaluation.scf), str(len(evaluation.frames)), *cells])
    return rows


def write_table(
    path: str | Path,
    evaluations: Sequence[Evaluation],
    elements: Sequence[int],
    responses: Sequence[KindResponse] = (),
) -> None:
    """The results at ``path``: CSV (``.csv``), JSON (``.json``), else the text of `evaluation_text`.

    CSV has one row per run and kind, and per run and element, with RMSE, MAE and the statistics of the SCF in columns;
    units as in `PROPERTIES`. Empty cells: no such label. ``no_level`` counts the frames whose Fermi level is labelled
    while nothing conducts, if there are any. ``responses`` stand beside the rows of their kinds: frames tested, and
    the flows in me/V.
    """
    path = Path(path)
    ending = path.suffix.lower()
    with naming(path), open(path, "w", newline="", encoding="utf-8") as file:
        if ending == ".json":
            units = PROPERTIES | ({"response": "charge per volt [me/V]"} if responses else {})
            runs = [_run(item, elements, responses) for item in evaluations]
            json.dump({"units": units, "runs": runs}, file, indent=1)
            file.write("\n")
        elif ending == ".csv":
            rows = [_flat(item, row) for item in evaluations for row in _rows(item, elements, responses)]
            writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)), restval="")
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.write(evaluation_text(evaluations, elements, responses) + "\n")


def _run(evaluation: Evaluation, elements: Sequence[int], responses: Sequence[KindResponse]) -> dict[str, Any]:
    return {"scf": evaluation.scf.model_dump(), "rows": _rows(evaluation, elements, responses)}


def _rows(evaluation: Evaluation, elements: Sequence[int], responses: Sequence[KindResponse]) -> list[dict[str, Any]]:
    flows = {found.kind: _flows(found) for found in responses}
    errors = evaluation.errors
    shown = [name for name in PROPERTIES if errors.rmse_mae(name) is not None]
    atoms = torch.cat(errors.atoms)
    rows = []
    for kind in errors.row_kinds():
        index = errors.chosen(kind)
        scf = errors.scf(kind)
        row: dict[str, Any] = {"of": "kind", "name": kind or "all"}
        row |= {"frames": len(index), "atoms": int(atoms[index].sum())}
        row |= {name: _pair(errors.rmse_mae(name, kind)) for name in shown}
        if errors.no_level():
            row["no_level"] = errors.no_level(kind)
        if scf is not None:
            row["scf"] = {name: None if math.isnan(value) else value for name, value in scf._asdict().items()}
        if kind in flows:
            row["response"] = flows[kind]
        rows.append(row)
    for number, element in enumerate(elements):
        pairs = {name: _pair(errors.element_rmse_mae(name, number)) for name in shown if name in errors.by_element}
        if any(pairs.values()):
            rows.append({"of": "element", "name": chemical_symbols[element], **pairs})
    return rows


def _flows(found: KindResponse) -> dict[str, float | None]:
    values = {"flow": found.flow, "apart": found.apart}
    milli = {name: None if value is None else 1e3 * value for name, value in values.items()}
    return {"frames": found.frames, "failed": found.failed, **milli}


def _pair(pair: tuple[float, float] | None) -> dict[str, float] | None:
    return None if pair is None else {"rmse": pair[0], "mae": pair[1]}


def _flat(evaluation: Evaluation, row: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {
        "constant_charge": str(evaluation.scf.constant_charge).lower(),
        "initial_density": evaluation.scf.initial_density,
    }
    for name, value in row.items():
        if isinstance(value, dict):
            flat |= {f"{name}_{part}": "" if number is None else f"{number:.10g}" for part, number in value.items()}
        elif value is not None:
            flat[name] = value
    return flat
