"""What a run folder tells of the past: the log, the stages it went through, their times."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from ..potential.config import Stage

#: columns of the log that are not measured quantities
OWN = ("epoch", "stage")
TIME, RATE = "time [s]", "lr"
#: label of errors of the converged SCF where validation is of another mode
SOLVED = "validation, converged SCF"


@dataclass
class Series:
    """One column of the log."""

    label: str  #: train, valid ...
    column: str


@dataclass
class History:
    """Rows of ``log.csv`` and the stages they belong to; a value that is missing is NaN."""

    columns: list[str]
    rows: list[dict[str, str]]
    stages: list[Stage]  #: those of the schedule

    def epochs(self) -> list[int]:
        """Numbers of the epochs in the log."""
        return [int(row["epoch"]) for row in self.rows]

    def values(self, column: str) -> list[float]:
        """A column, row by row."""
        return [_number(row.get(column)) for row in self.rows]

    def rows_of(self, stage: Stage) -> list[int]:
        """Indices of the rows of a stage."""
        last = stage.first_epoch + stage.length
        return [index for index, epoch in enumerate(self.epochs()) if stage.first_epoch <= epoch < last]

    def begun(self) -> list[Stage]:
        """The stages that have rows."""
        return [stage for stage in self.stages if self.rows_of(stage)]

    def seconds(self, stage: Stage | None = None) -> float:
        """Time of the epochs of a stage (of all for None), s."""
        times = self.values(TIME)
        rows = range(len(times)) if stage is None else self.rows_of(stage)
        return sum(times[index] for index in rows if math.isfinite(times[index]))

    def panels(self) -> dict[str, list[Series]]:
        """Quantity -> the columns that show it: ``forces [meV/Å]`` of training, validation and the converged SCF."""
        panels: dict[str, list[Series]] = {}
        names = [column for column in self.columns if column not in (*OWN, TIME, RATE)]
        filled = [name for name in names if any(map(math.isfinite, self.values(name)))]
        for column in filled:
            part, _, rest = column.partition(" ")
            if part in ("train", "valid"):
                panels.setdefault(rest, []).append(Series({"valid": "validation"}.get(part, "training"), column))
        for column in filled:
            part, _, rest = column.partition(" ")
            if part == "SCF" and rest in panels:
                panels[rest].append(Series(SOLVED, column))
            elif part not in ("train", "valid"):
                panels.setdefault(column, []).append(Series(column, column))
        return panels


def read_history(run: Path, stages: list[Stage]) -> History:
    """The log of a run folder; no rows if it has none.

    A row that is just being written (cut short) is left out.
    """
    path = run / "log.csv"
    if not path.is_file():
        return History([], [], stages)
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or [])
        rows = [row for row in reader if None not in row.values() and (row.get("epoch") or "").isdigit()]
    return History(columns, rows, stages)


def _number(text: str | None) -> float:
    try:
        return float(text) if text else math.nan
    except ValueError:
        return math.nan
