"""The page of an ensemble: runs of a pseudopotential that differ in their seed."""

from __future__ import annotations

from pathlib import Path

from fp_potential import __version__

from ...files import write_whole
from ..bands.tools.ensemble import (
    Ensemble,
    bands_spread_figure,
    ensemble_table,
    load_ensemble,
    members_of,
    potentials_spread_figure,
    write_ensemble,
)
from . import page
from .page import Section
from .style import embedded

NOTE = (
    "Spread: standard deviation among the members. It says how far the fit leaves the bands open, not how far the form "
    "of the model or the reference are wrong: compare it with the errors."
)


def is_ensemble(folder: Path) -> bool:
    """Whether ``folder`` holds members and is no run itself."""
    return not (folder / "config.yaml").is_file() and len(members_of(folder)) > 1


def write_ensemble_report(folder: Path, output: Path, processes: int = 1) -> Ensemble:
    """The page of the runs ``seed_*`` in ``folder``, and tables of mean and spread beside them.

    Raises:
        InputError: fewer than two runs, or runs of different systems.
    """
    found = load_ensemble(members_of(folder), processes)
    write_ensemble(found, folder)
    sections = [
        Section("overview", "Overview", [page.table(ensemble_table(found))], NOTE),
        Section(
            "bands",
            "Bands",
            [page.figure("mean bands and spread", embedded(bands_spread_figure(found)), wide=True)],
            "Lines: mean of the members, shaded: two spreads to each side; points: the reference.",
        ),
        Section(
            "potentials",
            "Local potentials",
            [page.figure("mean v(q) and spread", embedded(potentials_spread_figure(found)), wide=True)],
            "Shaded: two spreads to each side.",
        ),
    ]
    members = ", ".join(found.names)
    title = "Ensemble " + "/".join(folder.resolve().parts[-2:])
    text = page.render(title, f"{' '.join(found.species)} · {members}", sections, f"fp_potential {__version__}", None)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(output, text)
    return found
