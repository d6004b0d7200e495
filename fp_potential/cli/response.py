"""``fixedpoint scf --response``: whether the charges of a structure behave as those of a metal, in tables and words."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from fp_potential.cli.scf_options import finite

if TYPE_CHECKING:
    from fp_potential.conduction import Exchange, ResponseDiagnosis, ResponseSettings, StructureSolver
    from fp_potential.train.data.frame import Frame

#: chains of copies: between them, Å, and their number
CHAIN_GAP, CHAIN_COPIES = 3.0, 16


def add_response_options(parser: argparse.ArgumentParser) -> None:
    """``--response`` and what belongs to it."""
    group = parser.add_argument_group("metal or insulator")
    group.add_argument(
        "--response", action="store_true", help="find out whether the charges behave as those of a metal"
    )
    group.add_argument(
        "--chain_gap", type=finite, default=CHAIN_GAP, metavar="X", help="between the copies of a chain, Å"
    )
    group.add_argument(
        "--chain_copies",
        type=int,
        default=CHAIN_COPIES,
        metavar="N",
        help="of the longest chain; the others are halves of it",
    )
    group.add_argument(
        "--bond_factor",
        type=finite,
        metavar="X",
        help="fragments are held together by bonds shorter than this times the sum of the covalent radii (default: "
        "1.25); an integer array 'fragment' of the structure takes their place",
    )


def response_settings(arguments: argparse.Namespace) -> ResponseSettings | None:
    """Those of the diagnosis; None where it is not asked for.

    Raises:
        ValueError: a length or a number that cannot be.
    """
    from fp_potential.conduction import ResponseSettings

    if not arguments.response:
        for name, default in (("chain_gap", CHAIN_GAP), ("chain_copies", CHAIN_COPIES), ("bond_factor", None)):
            if getattr(arguments, name) != default:
                raise ValueError(f"--{name} belongs to --response: add that, or leave it out")
        return None
    for name in ("chain_gap", "bond_factor"):
        value = getattr(arguments, name)
        if value is not None and not value > 0.0:
            raise ValueError(f"--{name} {value:g}: expected more than 0")
    if arguments.chain_copies < 1:
        raise ValueError(f"--chain_copies {arguments.chain_copies}: expected at least 1")
    lengths = [arguments.chain_copies]
    while lengths[0] > 1:
        lengths.insert(0, lengths[0] // 2)
    chosen = ResponseSettings(gap=arguments.chain_gap, lengths=tuple(lengths))
    return chosen if arguments.bond_factor is None else chosen._replace(bond_factor=arguments.bond_factor)


def response_text(solver: StructureSolver, frame: Frame, charge: float, settings: ResponseSettings) -> str:
    """Tables and verdict for the structure at the total ``charge``, e."""
    from fp_potential.conduction import NotConverged, diagnose_response
    from fp_potential.graph import Conditions
    from fp_potential.periodicity import field_origin

    atoms = frame.atoms
    origin = field_origin(atoms.cell.array, atoms.pbc)
    conditions = Conditions(charge, external_field=frame.external_field.tolist(), field_origin=origin)
    try:
        diagnosis = diagnose_response(solver, atoms, conditions, settings)
    except NotConverged as error:
        return f"response of the charges: not found, {error}"
    return "\n".join(_lines(diagnosis, settings.gap))


def _lines(diagnosis: ResponseDiagnosis, gap: float) -> list[str]:
    from fp_potential.text_tables import aligned

    lines = ["charge that a field moves between fragments, largest, per volt over all of them", *_exchange(diagnosis)]
    if diagnosis.chain:
        lines += ["", f"polarizability of a chain of copies along it, per copy, {gap:g} Å between them"]
        rows = [["copies", "[e Å²/V]", "by charge between copies [e Å²/V]"]]
        for point in diagnosis.chain:
            rows.append([str(point.copies), f"{point.polarizability:.4f}", f"{round(point.carried, 4) + 0.0:.4f}"])
        lines.append(aligned(rows, ruled=True))
    lines += ["", *_level(diagnosis), *_elements(diagnosis)]
    lines += [f"note: {note}" for note in diagnosis.notes]
    return [*lines, "", diagnosis.sentence, *(f"  - {reason}" for reason in diagnosis.reasons())]


def _level(diagnosis: ResponseDiagnosis) -> list[str]:
    from fp_potential.conduction.diagnosis import per_volt

    if not diagnosis.has_level:
        return ["capacitance -dQ/dmu: none, the model has no Fermi level here, as nothing conducts"]
    if diagnosis.capacitance is None:
        return []
    line = f"capacitance -dQ/dmu: {per_volt(diagnosis.capacitance + 0.0)} at constant Fermi level"
    if diagnosis.level_by_charge is not None:
        line += f"; dmu/dQ {diagnosis.level_by_charge:.2f} V/e at constant charge"
    return [line]


def _elements(diagnosis: ResponseDiagnosis) -> list[str]:
    from fp_potential.text_tables import aligned

    if not diagnosis.elements:
        return []
    known = any(element.softness is not None for element in diagnosis.elements)
    rows = [["element", "atoms", "share", *(["softness [e/V per atom]"] if known else [])]]
    for element in diagnosis.elements:
        softness = "-" if element.softness is None else f"{element.softness:.4f}"
        rows.append([element.symbol, str(element.atoms), f"{element.share:.3f}", *([softness] if known else [])])
    return ["charge that is added goes to", aligned(rows, ruled=True)]


def _exchange(diagnosis: ResponseDiagnosis) -> list[str]:
    from fp_potential.text_tables import aligned

    found: Exchange = diagnosis.exchange
    rows = [["fragment", "number", "here [me/V]", f"{found.gap:g} Å apart [me/V]", "conducts"]]
    for kind in found.kinds:
        answer = {True: "yes", False: "no", None: "-"}[kind.conducts]
        rows.append([kind.formula, str(kind.number), _milli(kind.flow), _milli(kind.apart), answer])
    return [aligned(rows, ruled=True)]


def _milli(value: float | None) -> str:
    """A thousand times ``value``."""
    return "-" if value is None else f"{1e3 * value:.3f}"
