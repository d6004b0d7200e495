"""Constants of the model from the training set: E0s, average number of neighbours, μ0, field-feature norms.

All are collected frame by frame or batch by batch; nothing grows with the number of frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols
from rich.console import Console
from torch import Tensor

from ...graph import Graph
from ..data.frame import LABELS, Frame, is_isolated_atom
from ..data.frame_sequence import FrameSequence
from ..data.neighbours import neighbour_lists, pair_distances
from ..data.prepared_set import PreparedSet
from ..errors import InputError
from ..progress import track
from .batch import Batch
from .charging import Charging, ChargingCollector
from .config.statistics import StatisticsOptions
from .ranges import Ranges, RangesCollector

#: atoms nearer than this deserve a look, Å
CLOSE = 0.4

#: rows of the least-squares problem of the E0s that are folded at a time
_ROWS = 256
_NUMBERS = len(chemical_symbols)


@dataclass
class SetStatistics:
    """Sums over the frames of a set, from which the constants follow; elements are named by their symbols."""

    frames: int = 0
    atoms: int = 0
    edges: int = 0  #: pairs within the cutoff
    largest: int = 0  #: atoms of the largest frame
    labels: dict[str, int] = field(default_factory=dict)  #: frames that have the label
    kinds: dict[str, int] = field(default_factory=dict)  #: frames of the kind
    elements: dict[str, int] = field(default_factory=dict)  #: atoms of the element, by atomic number
    #: triangular matrix with the scalar products of the columns n_z/N of the elements, 1, and E/N over all frames
    energies: list[list[float]] = field(default_factory=list)
    isolated: dict[str, float] = field(default_factory=dict)  #: lowest energy of an isolated atom
    isolated_in: dict[str, str] = field(default_factory=dict)  #: its frame
    levels: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])  #: Σμ, number; those with a weight, all
    #: Σq², number, Σ|d|², number of components: of the charges and dipoles of the element's atoms
    multipoles: dict[str, list[float]] = field(default_factory=dict)
    ranges: Ranges = field(default_factory=dict)  #: of charges, levels and fields (`ranges`)
    charging: Charging = field(default_factory=dict)  #: who takes added charge (`charging`)
    nearest: dict[str, float] = field(default_factory=dict)  #: shortest distance of each pair of elements, Å
    closest: str = ""  #: frame with the shortest distance of all

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it, without loss."""
        return asdict(self)

    def numbers(self) -> list[int]:
        """Atomic numbers that occur, ascending."""
        return [atomic_numbers[symbol] for symbol in self.elements]

    def average_neighbours(self) -> float:
        """Mean number of neighbours within the cutoff; zero of isolated atoms."""
        return self.edges / max(self.atoms, 1)

    def training_ranges(self) -> Ranges:
        """What the set spans: ``ranges``, and the shortest ``distances`` of pairs of elements, ``{"H-O": 0.93}``, Å.

        Symbols of a pair are in alphabetical order; pairs that are nowhere within the cutoff are left out.
        """
        distances = {
            pair: length for pair, length in self.nearest.items() if pair.split("-") == sorted(pair.split("-"))
        }
        return {**self.ranges, "distances": distances}

    def minimum_distances(self, elements: Sequence[int]) -> list[list[float]]:
        """Shortest distance of each pair of ``elements`` among the neighbours, Å; 0 where there is none."""
        symbols = [chemical_symbols[element] for element in elements]
        return [[self.nearest.get(f"{one}-{other}", 0.0) for other in symbols] for one in symbols]

    def mean_fermi_level(self) -> float:
        """Mean of the Fermi levels with a weight above zero, else of all there are, eV; 0 without any."""
        total, number, total_all, number_all = self.levels
        return total / number if number else total_all / max(number_all, 1.0)

    def atomic_energies(self, elements: Sequence[int], options: StatisticsOptions) -> dict[int, float]:
        """E0 of each element, eV.

        ``least_squares`` minimises Σ_frames ((E − Σ_z n_z E0_z)/N)² over the frames whose energy has a weight; where
        compositions do not determine the E0s the solution of least norm about the mean energy per atom is taken.

        Raises:
            InputError: an element without energy, or energies missing in all frames.
        """
        if isinstance(options.E0s, dict):
            energies = _by_number(options.E0s, "statistics.E0s")
            _demand(elements, energies, "statistics.E0s: no energy for {}, which the training set contains")
            return {element: energies[element] for element in elements}
        if options.E0s == "isolated_atoms":
            found = {atomic_numbers[symbol]: energy for symbol, energy in self.isolated.items()}
            _demand(
                elements,
                found,
                "statistics.E0s isolated_atoms: no training frame with one neutral atom of {} that has an energy, no "
                "periodic axis (pbc F F F) and no field; add such frames, give the energies, or use least_squares",
            )
            return {element: found[element] for element in elements}
        if not self.energies:
            raise InputError("statistics.E0s least_squares needs energies: map data.keys.energy or give the E0s")
        *columns, ones, energy = np.array(self.energies).T
        mean = (ones @ energy) / (ones @ ones)
        solution, *_ = np.linalg.lstsq(np.stack(columns, axis=1), energy - mean * ones, rcond=1e-8)
        shifts = dict(zip(self.numbers(), solution.tolist(), strict=True))
        return {element: float(mean + shifts.get(element, 0.0)) for element in elements}

    def density_scaling(
        self, scaling: str | dict[str, float] | None, elements: Sequence[int], l_max: int = 1
    ) -> dict[int, float]:
        """Scale of the linear local density per element, e (``model.atom_density_scaling``).

        ``average``: RMS over the atoms of the element and all multipole components p_lm up to ``l_max`` with a weight
        above zero, sqrt(Σ p² / number), in e and e·Å alike; zero where all are.

        Raises:
            InputError: an element without a given scale, or without any reference multipoles.
        """
        if scaling is None:
            return {}
        if isinstance(scaling, dict):
            given = _by_number(scaling, "model.atom_density_scaling")
            _demand(elements, given, "model.atom_density_scaling: no scale for {}; give one per element")
            return given
        means = {}
        for symbol, sums in self.multipoles.items():
            squares, components = (sum(sums[part : 2 * l_max + 2 : 2]) for part in (0, 1))
            if components:
                means[atomic_numbers[symbol]] = (squares / components) ** 0.5
        _demand(elements, means, "model.atom_density_scaling: average found no atomic multipoles of {}")
        return {element: means[element] for element in elements}

    def warnings(self) -> list[str]:
        """What deserves a look."""
        shortest = min(self.nearest.items(), key=lambda item: item[1], default=("", np.inf))
        if shortest[1] > CLOSE:
            return []
        return [f"WARNING: atoms as near as {shortest[1]:.3f} Å ({shortest[0]} in {self.closest})"]


class Collector:
    """Sums up frames one by one; `finish` gives the `SetStatistics`."""

    def __init__(self) -> None:
        self.sums = SetStatistics()
        self._atoms = np.zeros(_NUMBERS, np.int64)
        self._multipoles = np.zeros((_NUMBERS, 4))
        self._nearest = np.full(_NUMBERS * _NUMBERS, np.inf)
        self._rows: list[np.ndarray] = []
        self._shortest = np.inf
        self._charging, self._ranges = ChargingCollector(), RangesCollector()

    def add(self, frame: Frame, pairs: np.ndarray, cells: np.ndarray) -> None:
        """Count a frame with its neighbour list (see `fp_potential.graph.neighbour_list`)."""
        sums, numbers = self.sums, frame.atoms.numbers
        counts = np.bincount(numbers, minlength=_NUMBERS)
        sums.frames += 1
        sums.atoms += len(numbers)
        sums.edges += pairs.shape[1]
        sums.largest = max(sums.largest, len(numbers))
        sums.kinds[frame.kind] = sums.kinds.get(frame.kind, 0) + 1
        for name in LABELS:
            if frame.labels.get(name) is not None:
                sums.labels[name] = sums.labels.get(name, 0) + 1
        self._atoms += counts
        self._add_energy(frame, counts)
        self._add_density(frame)
        self._charging.add(frame)
        self._ranges.add(frame)
        if pairs.shape[1]:
            distances = pair_distances(frame, pairs, cells)
            np.minimum.at(self._nearest, numbers[pairs[0]] * _NUMBERS + numbers[pairs[1]], distances)
            if distances.min() < self._shortest:
                self._shortest, sums.closest = float(distances.min()), frame.source

    def finish(self) -> SetStatistics:
        """The sums over all frames added."""
        sums = self.sums
        present = np.flatnonzero(self._atoms)
        sums.elements = {chemical_symbols[z]: int(self._atoms[z]) for z in present}
        if self._rows:
            # only the columns of elements that occur, and again triangular
            columns = np.concatenate([present, [_NUMBERS, _NUMBERS + 1]])
            sums.energies = np.asarray(np.linalg.qr(np.stack(self._rows)[:, columns], mode="r")).tolist()
        sums.multipoles = {
            chemical_symbols[z]: self._multipoles[z].tolist() for z in present if self._multipoles[z].any()
        }
        sums.charging, sums.ranges = self._charging.finish(), self._ranges.finish()
        sums.nearest = {
            f"{chemical_symbols[one]}-{chemical_symbols[other]}": float(self._nearest[one * _NUMBERS + other])
            for one in present
            for other in present
            if np.isfinite(self._nearest[one * _NUMBERS + other])
        }
        return sums

    def _add_energy(self, frame: Frame, counts: np.ndarray) -> None:
        energy = frame.labels.get("energy")
        if energy is None:
            return
        size = len(frame.atoms)
        if is_isolated_atom(frame):
            symbol = chemical_symbols[frame.atoms.numbers[0]]
            if float(energy) < self.sums.isolated.get(symbol, np.inf):
                self.sums.isolated[symbol], self.sums.isolated_in[symbol] = float(energy), frame.source
        if frame.weights["energy"] > 0:
            self._rows.append(np.concatenate([counts / size, [1.0, float(energy) / size]]))
            if len(self._rows) >= _ROWS + _NUMBERS:
                self._rows = list(np.linalg.qr(np.stack(self._rows), mode="r"))

    def _add_density(self, frame: Frame) -> None:
        level, multipoles = frame.labels.get("fermi_level"), frame.labels.get("atomic_multipoles")
        if level is not None:
            known = float(frame.weights["fermi_level"] > 0)
            self.sums.levels = [
                total + term
                for total, term in zip(self.sums.levels, (known * level, known, float(level), 1.0), strict=True)
            ]
        if multipoles is not None:
            known = np.broadcast_to(np.asarray(frame.weights["atomic_multipoles"]) > 0, 4)
            squares = known * multipoles**2
            rows = np.empty_like(squares)
            rows[:, 0], rows[:, 1] = squares[:, 0], known[0]
            rows[:, 2], rows[:, 3] = squares[:, 1:].sum(1), known[1:].sum()
            np.add.at(self._multipoles, frame.atoms.numbers, rows)


def collect(
    frames: Sequence[Frame], cutoff: float, console: Console | None = None, title: str = "statistics"
) -> SetStatistics:
    """Statistics of a set: those a prepared set holds if they are for just these frames, else from all its frames.

    Args:
        frames: the set.
        cutoff: of the neighbour lists, Å.
        console: where the progress is shown; none: on standard error.
        title: of the bar.
    """
    known = _stored(frames, cutoff) if isinstance(frames, FrameSequence) else None
    if known is not None:
        return SetStatistics(**known)
    collector = Collector()
    for index, frame in enumerate(track(frames, title, len(frames), console)):
        collector.add(frame, *neighbour_lists(frames, index, frame, cutoff))
    return collector.finish()


def _stored(frames: FrameSequence, cutoff: float) -> dict[str, Any] | None:
    prepared = frames.sources[0]
    zeroed = any(factor == 0 for own in frames.factors.values() for factor in own.values())
    if len(frames.sources) > 1 or not isinstance(prepared, PreparedSet) or zeroed:
        return None
    if prepared.cutoff != cutoff or not prepared.complete:
        return None
    for name, statistics in prepared.manifest["statistics"].items():
        # sets that were prepared by earlier versions say neither who takes added charge nor what they span
        if {"charging", "ranges"} <= set(statistics) and np.array_equal(prepared.members(name), frames.places[:, 1]):
            return statistics
    return None


def field_feature_norms(
    field_features: Callable[[Graph, Tensor, Tensor], Tensor], data: Iterable[Batch], fermi_level_offset: float
) -> list[float]:
    """RMS of the un-normalised field features over the atoms of the training set, one per (l, width), l-major.

    With the features v_i,lm of each width, n_l = sqrt(Σ_i Σ_m v_i,lm² / ((2l + 1) Σ_i 1)). They are those of the
    reference multipoles with external field and centred Fermi level μ - μ0. Only structures that have both, with a
    weight, count; where none has a Fermi level, all that have multipoles, at the level 0. Units: V for l = 0; the same
    times sqrt(4π) and the factors of the receivers.

    Args:
        field_features: takes a graph, a density ``(n, 4)`` and centred Fermi levels ``(B,)``; gives ``(n, widths, 4)``.
        data: batches of the training set.
        fermi_level_offset: μ0, eV.

    Raises:
        InputError: no structure has multipoles.
    """
    squares: dict[bool, Tensor | float] = {True: 0.0, False: 0.0}  # with and without a Fermi level
    atoms = {True: 0.0, False: 0.0}
    for batch in data:
        labels = batch.labels
        known = labels.fermi_level_weight > 0
        level = torch.where(known, labels.fermi_level - fermi_level_offset, 0.0)
        with torch.no_grad():
            features = field_features(batch.graph, labels.multipoles, level).double()
        with_density = labels.multipoles_weight[:, 0] > 0
        for has_level in squares:
            rows = (with_density & (known[batch.graph.batch] == has_level)).double()[:, None, None]
            chosen = (rows * features.square()).sum(0)
            squares[has_level] = squares[has_level] + torch.cat([chosen[:, 0], chosen[:, 1:].sum(1) / 3])
            atoms[has_level] += float(rows.sum())
    used = atoms[True] > 0
    total = squares[used]
    if atoms[used] == 0 or not isinstance(total, Tensor):
        raise InputError(
            "model.field_feature_norms: average needs atomic multipoles; map data.keys.atomic_multipoles "
            "or give the norms as a list"
        )
    return (total / atoms[used]).sqrt().tolist()


def _demand(elements: Sequence[int], given: Mapping[int, object], message: str) -> None:
    missing = [chemical_symbols[element] for element in elements if element not in given]
    if missing:
        raise InputError(message.format(", ".join(missing)))


def _by_number(given: dict[str, float], where: str) -> dict[int, float]:
    """Values by symbol or atomic number -> by atomic number."""
    values: dict[int, float] = {}
    for name, value in given.items():
        number = int(name) if name.isdigit() else atomic_numbers.get(name)
        if number is None:
            raise InputError(f"{where}: '{name}' is not an element; give symbols or atomic numbers")
        values[number] = value
    return values
