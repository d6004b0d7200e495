"""The report of a cloning: text, CSV and JSON."""

import csv
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..files import write_whole
from ..text_tables import aligned
from .compare import Comparison
from .options import CloningOptions


@dataclass(frozen=True)
class Clone:
    """One row of the report."""

    model: str
    seed: int | None
    seconds: float  #: of training
    comparison: Comparison


def table(rows: Sequence[Clone]) -> str:
    """The report as text, one row per clone; errors are root mean squares."""
    head = [
        "model",
        "seed",
        "point-wise charge [me] (largest)",
        "SCF charge [me] (largest)",
        "point-wise forces [meV/Å]",
        "SCF forces [meV/Å]",
        "SCF energy [meV/atom]",
        "applications (max)",
        "converged [%]",
        "eigenvalues of J",
    ]
    lines = [head]
    for row in rows:
        c = row.comparison
        point, scf = c.pointwise, c.self_consistent
        lines.append(
            [
                row.model,
                "-" if row.seed is None else str(row.seed),
                f"{1000 * point.charge:.2f} ({1000 * point.largest_charge:.2f})",
                f"{1000 * scf.charge:.2f} ({1000 * scf.largest_charge:.2f})",
                f"{1000 * point.forces:.1f}",
                f"{1000 * scf.forces:.1f}",
                f"{1000 * scf.energy:.2f}",
                f"{c.applications:.1f} ({c.most_applications})",
                f"{100 * c.converged:.0f}",
                f"{c.smallest_eigenvalue:.2f} ... {c.largest_eigenvalue:.2f}",
            ]
        )
    return aligned(lines, ruled=True)


def flat(row: Clone) -> dict[str, Any]:
    """One row with plain names and values, errors in e, e Å, eV and eV/Å."""
    content = asdict(row)
    comparison = content.pop("comparison")
    for part in ("pointwise", "self_consistent"):
        content |= {f"{part}_{name}": value for name, value in comparison.pop(part).items()}
    return content | comparison


def write_report(folder: Path, options: CloningOptions, rows: Sequence[Clone]) -> None:
    """``cloning.csv`` and ``cloning.json``: one row per clone, and what they were made with."""
    flat_rows = [{name: _finite(value) for name, value in flat(row).items()} for row in rows]
    with open(folder / "cloning.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(flat_rows[0]))
        writer.writeheader()
        writer.writerows(flat_rows)
    software = {"fp_potential": __version__, "torch": torch.__version__, "python": platform.python_version()}
    report = {"options": options.model_dump(), "software": software, "rows": flat_rows}
    write_whole(folder / "cloning.json", json.dumps(report, indent=1) + "\n")


def _finite(value: Any) -> Any:
    """None in place of numbers that JSON does not have."""
    return None if isinstance(value, float) and not np.isfinite(value) else value
