"""Options of the SCF loop as arguments of commands: names, choices and descriptions are those of `SCFOptions`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from fp_potential.options.kspace import KSpace

#: value that stands for all choices of an option, one run for each
BOTH = "both"


def add_scf_options(parser: argparse.ArgumentParser, names: Sequence[str], both: Sequence[str] = ()) -> None:
    """``--name`` for fields of `SCFOptions`; what is not given is the model's. Those in ``both`` take `BOTH`, too."""
    from fp_potential.options import SCFOptions

    for name in names:
        field = SCFOptions.model_fields[name]
        choices = [str(choice) for choice in get_args(field.annotation) if choice != "restart"]
        logical = "true|false"
        kind: Any = str if choices else field.annotation
        if field.annotation in (bool, float):
            kind = _true_or_false if field.annotation is bool else finite
        if name in both:
            choices, logical = choices and [*choices, BOTH], f"{logical}|{BOTH}"
            kind = _or_both(kind)
        parser.add_argument(
            f"--{name}",
            type=kind,
            choices=choices or None,
            metavar=logical if field.annotation is bool else None if choices else "X",
            help=f"{field.description} (default: the model's, else {_shown(field.default)})",
        )


def given_scf_options(arguments: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """Those of ``names`` that were given one value."""
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) not in (None, BOTH)}


def add_kspace_options(parser: argparse.ArgumentParser) -> None:
    """``--kspace`` and ``--kspace_accuracy``; what is not given is the model's."""
    from fp_potential.options import ModelOptions

    fields = ModelOptions.model_fields
    choices = get_args(fields["kspace"].annotation)
    parser.add_argument("--kspace", choices=choices, help=f"{fields['kspace'].description} (default: the model's)")
    accuracy = fields["kspace_accuracy"].description
    parser.add_argument("--kspace_accuracy", type=finite, metavar="X", help=f"{accuracy} (default: the model's)")


def given_kspace(arguments: argparse.Namespace) -> KSpace:
    """Those of them that were given."""
    from fp_potential.options.kspace import KSpace

    return KSpace(arguments.kspace, arguments.kspace_accuracy)


def finite(text: str) -> float:
    """A number of the command line: neither NaN nor infinite."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a finite number, got '{text}'")
    return value


def _or_both(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: BOTH if text.lower() == BOTH else kind(text)


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _true_or_false(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, got '{text}'")
    return text.lower() == "true"
