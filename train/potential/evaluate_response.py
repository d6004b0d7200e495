"""How much charge a field moves between the fragments of a few frames of each kind: metals and insulators in data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...conduction import Exchange, NotConverged, ResponseSettings, exchange
from ...conduction.settings import CONDUCTING
from ...graph import Conditions
from ...options import SCFOptions
from ...periodicity import field_origin
from ...text_tables import aligned
from ..progress import track
from .evaluate import EvaluationSet
from .structure_solver import structure_solver, tight


class KindResponse(NamedTuple):
    """Largest change of a fragment's charge per volt over all fragments of a few frames of a kind, e/V.

    None where no frame has fragments and an open axis, or where no loop converged.
    """

    kind: str
    frames: int  #: that were tested
    failed: int  #: of them, whose loops did not converge
    flow: float | None  #: in the frames as they are
    apart: float | None  #: between their fragments far apart, which tells metals from insulators


def response_by_kind(
    data: EvaluationSet, scf: SCFOptions, per_kind: int, settings: ResponseSettings | None = None
) -> list[KindResponse]:
    """Flows of ``per_kind`` frames of each kind, spread evenly over it, at their total charges.

    Raises:
        InputError, ValueError: a frame whose array of fragments does not hold integers.
    """
    chosen = _chosen([frame.kind for frame in data.frames], per_kind)
    assert data.archive is not None, "a set of an archive"
    module, metadata = data.archive
    solver = structure_solver(module, metadata, tight(scf, metadata), data.device)
    found: dict[str, list[Exchange | None]] = {kind: [] for kind in chosen}
    tested = [(kind, index) for kind, indices in chosen.items() for index in indices]
    for kind, index in track(tested, "response", len(tested)):
        frame = data.frames[index]
        origin = field_origin(frame.atoms.cell.array, frame.atoms.pbc)
        conditions = Conditions(frame.total_charge, external_field=frame.external_field.tolist(), field_origin=origin)
        try:
            found[kind].append(exchange(solver, frame.atoms, conditions, settings))
        except NotConverged:
            found[kind].append(None)
    return [_of_kind(kind, results) for kind, results in found.items()]


def response_table(rows: Sequence[KindResponse]) -> str:
    """The flows as text."""
    cells = [["kind", "frames", "here [me/V]", "far apart [me/V]", "charge"]]
    for row in rows:
        failed = f" ({row.failed} not converged)" if row.failed else ""
        charge = "-" if row.apart is None else "flows, as in a metal" if row.apart >= CONDUCTING else "stays"
        cells.append([row.kind, f"{row.frames}{failed}", _milli(row.flow), _milli(row.apart), charge])
    title = "charge that a field moves between fragments: the largest change of one, per volt over all, of a few frames"
    return f"{title}\n{aligned(cells, ruled=True)}"


def _chosen(kinds: Sequence[str], per_kind: int) -> dict[str, list[int]]:
    by_kind: dict[str, list[int]] = {}
    for index, kind in enumerate(kinds):
        by_kind.setdefault(kind, []).append(index)
    places = {kind: np.linspace(0, len(rows) - 1, min(per_kind, len(rows))) for kind, rows in by_kind.items()}
    return {kind: [rows[int(place)] for place in places[kind]] for kind, rows in by_kind.items()}


def _of_kind(kind: str, results: Sequence[Exchange | None]) -> KindResponse:
    done = [result for result in results if result is not None]
    flow = max((result.flow for result in done if result.flow is not None), default=None)
    apart = max((result.apart for result in done if result.apart is not None), default=None)
    return KindResponse(kind, len(results), len(results) - len(done), flow, apart)


def _milli(value: float | None) -> str:
    return "-" if value is None else f"{1e3 * value:.3f}"
