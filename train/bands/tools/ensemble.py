"""Runs that differ in their seed: mean and spread of their bands and potentials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ....files import write_whole
from ...errors import InputError
from ..pictures import MODEL, PALETTE, REFERENCE, curve, sheet
from ..targets import System
from ..trained import is_bands_run
from .dense import bands_at
from .edges import edges_of
from .source import Source, load_source

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..evaluation import SystemResult

#: subfolder of a member
MEMBER = "seed_"


@dataclass(frozen=True)
class Ensemble:
    """Members and what each gives.

    Attributes:
        names: of the members' folders.
        systems: in the order of ``energies``, which are (n, nk, nb) eV.
        q: (n_q,) 1/Bohr of ``potentials`` (n, n_q, n_species) Ha Bohr³.
    """

    names: list[str]
    species: tuple[str, ...]
    systems: list[System]
    energies: list[Tensor]
    q: Tensor
    potentials: Tensor

    def results(self, place: int) -> list[SystemResult]:
        """Of system ``place``, those of each member."""
        from ..evaluation import SystemResult

        nothing = torch.zeros(0, dtype=torch.float64)
        return [SystemResult(self.systems[place], energies, nothing) for energies in self.energies[place]]

    def mean(self, place: int) -> SystemResult:
        """The mean bands of system ``place``."""
        from ..evaluation import SystemResult

        return SystemResult(self.systems[place], self.energies[place].mean(0), torch.zeros(0, dtype=torch.float64))

    def spread(self, place: int) -> Tensor:
        """Standard deviation ``(nk, nb)`` eV of the bands of system ``place`` among the members."""
        return self.energies[place].std(0)


def members_of(folder: str | Path) -> list[Path]:
    """The runs ``seed_*`` in ``folder``, by their number."""
    found = [path for path in Path(folder).glob(f"{MEMBER}*") if path.is_dir() and is_bands_run(path)]
    return sorted(found, key=lambda path: (len(path.name), path.name))


def load_ensemble(folders: Sequence[str | Path], processes: int = 1) -> Ensemble:
    """Bands and potentials of runs of one training file with different seeds.

    Raises:
        InputError: fewer than two, or runs of different species or systems.
    """
    if len(folders) < 2:
        raise InputError(f"{len(folders)} run: expected two or more with different seeds, for a mean and a spread")
    sources = [load_source(folder) for folder in folders]
    first = sources[0]
    for folder, source in zip(folders, sources, strict=True):
        if _kind(source) != _kind(first):
            raise InputError(f"{folder}: other species, systems or bands than {folders[0]}; expected another seed only")
    systems = first.systems()
    energies = [torch.stack([_bands(system, source, processes) for source in sources]) for system in systems]
    curves = [curve(source.potential) for source in sources]
    names = [Path(folder).name for folder in folders]
    return Ensemble(
        names, first.potential.species, systems, energies, curves[0][0], torch.stack([v for _, v in curves])
    )


def _bands(system: System, source: Source, processes: int) -> Tensor:
    energies = bands_at(system.hamiltonian, source.potential, system.k, system.data.n_bands, processes)
    order = system.data.band_order
    return energies if order is None else energies.gather(1, torch.from_numpy(order))


def _kind(source: Source) -> tuple[object, ...]:
    return (
        source.potential.species,
        source.potential.terms,
        [(system.name, system.n_bands, system.max_ke, system.kpoints.tobytes()) for system in source.data],
    )


def ensemble_table(found: Ensemble) -> list[list[str]]:
    """Errors, spreads and gaps of the systems, a row each; the first is a heading.

    ``within 2`` is the part of the fitted energies whose error is below two spreads.
    """
    rows = [
        [
            "system",
            "rms [meV]",
            "rms of mean [meV]",
            "spread [meV]",
            "largest [meV]",
            "within 2",
            "gap [eV]",
            "ref. [eV]",
        ]
    ]
    for place, system in enumerate(found.systems):
        spread, mean = found.spread(place), found.mean(place)
        members = [result.rms(system.fitted) for result in found.results(place)] if system.fitted else []
        gaps = torch.tensor([edges_of(result).gap for result in found.results(place)])
        reference, fitted = mean.gaps(), system.weights > 0
        inside = (mean.errors().abs() <= 2 * spread)[fitted].to(torch.float64).mean() if members else None
        rows.append(
            [
                system.data.name,
                f"{1000 * sum(members) / len(members):.1f}" if members else "-",
                f"{1000 * mean.rms(system.fitted):.1f}" if members else "-",
                f"{1000 * float(spread.square().mean().sqrt()):.1f}",
                f"{1000 * float(spread.max()):.1f}",
                "-" if inside is None else f"{100 * float(inside):.0f} %",
                f"{float(gaps.mean()):.4f} ± {float(gaps.std()):.4f}",
                "-" if reference is None else f"{reference[1]:.4f}",
            ]
        )
    return rows


def bands_spread_figure(found: Ensemble) -> Figure:
    """Mean bands with two spreads to each side, and the reference."""
    number = len(found.systems)
    columns = min(4, number)
    rows = -(-number // columns)
    figure, axes = sheet(2.6 * columns + 0.4, 3.2 * rows, columns, rows)
    for place, system in enumerate(found.systems):
        mean, spread = found.mean(place).energies, found.spread(place)
        x = torch.arange(len(mean)).numpy()
        for band in range(mean.shape[1]):
            middle, width = mean[:, band].numpy(), 2 * spread[:, band].numpy()
            axes[place].plot(x, middle, lw=0.8, color=MODEL)
            axes[place].fill_between(x, middle - width, middle + width, color=MODEL, alpha=0.3, lw=0)
            used = (system.weights[:, band] > 0).numpy()
            axes[place].plot(x[used], system.reference[:, band].numpy()[used], "o", ms=1.8, color=REFERENCE, mew=0)
        axes[place].set(title=system.data.name, xticks=[], ylabel="E [eV]")
    for empty in axes[number:]:
        empty.set_visible(False)
    return figure


def potentials_spread_figure(found: Ensemble) -> Figure:
    """Mean v(q) of all species with two spreads to each side."""
    figure, (axes,) = sheet(5.2, 3.4)
    mean, spread = found.potentials.mean(0), found.potentials.std(0)
    for column, name in enumerate(found.species):
        colour, middle, width = PALETTE[column % len(PALETTE)], mean[:, column].numpy(), 2 * spread[:, column].numpy()
        axes.plot(found.q.numpy(), middle, lw=1.1, color=colour, label=name)
        axes.fill_between(found.q.numpy(), middle - width, middle + width, color=colour, alpha=0.3, lw=0)
    axes.axhline(0.0, color=REFERENCE, lw=0.6)
    axes.set(xlabel="q [1/Bohr]", ylabel="v(q) [Ha Bohr³]", xlim=(0.0, float(found.q[-1])))
    axes.legend(fontsize=7)
    return figure


def write_ensemble(found: Ensemble, folder: str | Path) -> list[Path]:
    """``ensemble_<system>.dat`` (length along the path, mean and spread of the bands), ``ensemble_potentials.dat``."""
    written = []
    for place, system in enumerate(found.systems):
        columns = torch.cat([found.mean(place).energies, found.spread(place)], 1)
        path = Path(folder) / f"ensemble_{system.data.name}.dat"
        heading = f"length along the path [1/Bohr], mean of {columns.shape[1] // 2} bands [eV], their spread [eV]"
        _write(path, torch.cat([torch.from_numpy(system.data.path)[:, None], columns], 1), heading)
        written.append(path)
    path = Path(folder) / "ensemble_potentials.dat"
    table = torch.cat([found.q[:, None], found.potentials.mean(0), found.potentials.std(0)], 1)
    _write(path, table, f"q [1/Bohr], mean v(q) of {' '.join(found.species)} [Ha Bohr³], their spread")
    return [*written, path]


def _write(path: Path, table: Tensor, heading: str) -> None:
    rows = [" ".join(f"{value:.10g}" for value in row) for row in table.tolist()]
    write_whole(path, "\n".join([f"# {heading}", *rows]) + "\n")
