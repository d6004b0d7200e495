"""Constants of the model from the training set: E0s, average number of neighbours, μ0, field-feature norms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor

from ..graph import Graph
from .config import StatisticsOptions
from .data import Batch, Sample
from .errors import InputError
from .frames import Frame

NORM_FLOOR = 1e-8


def elements_of(frames: Iterable[Frame]) -> list[int]:
    """Atomic numbers that occur, ascending."""
    return sorted({int(number) for frame in frames for number in np.unique(frame.atoms.numbers)})


def atomic_energies(frames: Sequence[Frame], elements: Sequence[int], options: StatisticsOptions) -> dict[int, float]:
    """E0 of each element, eV.

    ``least_squares`` minimises Σ_frames ((E − Σ_z n_z E0_z)/N)²; where compositions do not determine the E0s the
    solution of least norm about the mean energy per atom is taken.

    Raises:
        InputError: an element without energy, or energies missing in all frames.
    """
    if isinstance(options.E0s, dict):
        return _given_energies(options.E0s, elements)
    labelled = [frame for frame in frames if frame.labels["energy"] is not None]
    if options.E0s == "isolated_atoms":
        found = {
            int(frame.atoms.numbers[0]): float(frame.labels["energy"])
            for frame in labelled
            if len(frame.atoms) == 1 and frame.total_charge == 0.0
        }
        missing = [chemical_symbols[element] for element in elements if element not in found]
        if missing:
            raise InputError(
                f"statistics.E0s isolated_atoms: no frame with one neutral atom of {', '.join(missing)}; "
                "add such frames, give the energies, or use least_squares"
            )
        return {element: found[element] for element in elements}
    if not labelled:
        raise InputError("statistics.E0s least_squares needs energies: map data.keys.energy or give the E0s")
    counts = np.array([[np.sum(frame.atoms.numbers == element) for element in elements] for frame in labelled], float)
    sizes = counts.sum(axis=1)
    energies = np.array([frame.labels["energy"] for frame in labelled], float) / sizes
    mean = energies.mean()
    solution, *_ = np.linalg.lstsq(counts / sizes[:, None], energies - mean, rcond=1e-8)
    return {element: float(mean + shift) for element, shift in zip(elements, solution, strict=True)}


def _given_energies(given: dict[str, float], elements: Sequence[int]) -> dict[int, float]:
    energies = _by_number(given, "statistics.E0s")
    missing = [chemical_symbols[element] for element in elements if element not in energies]
    if missing:
        raise InputError(f"statistics.E0s: no energy for {', '.join(missing)}, which the training set contains")
    return {element: energies[element] for element in elements}


def average_neighbours(samples: Iterable[Sample]) -> float:
    """Mean number of neighbours within the cutoff, at least 1e-3 (isolated atoms)."""
    edges = atoms = 0
    for sample in samples:
        edges += sample.graph.edge_index.shape[1]
        atoms += sample.graph.batch.shape[0]
    return max(edges / max(atoms, 1), 1e-3)


def minimum_distances(samples: Iterable[Sample], n_elements: int) -> list[list[float]]:
    """Shortest distance of each pair of elements among the neighbours of all structures, Å; 0 where there is none."""
    nearest = torch.full((n_elements, n_elements), float("inf"), dtype=torch.float64)
    for sample in samples:
        graph = sample.graph
        i, j = graph.edge_index[0], graph.edge_index[1]
        distance = (graph.positions[j] + graph.edge_shifts - graph.positions[i]).norm(dim=1).double()
        pair = graph.species[i] * n_elements + graph.species[j]
        nearest.view(-1).scatter_reduce_(0, pair, distance, "amin")
    return torch.where(torch.isfinite(nearest), nearest, 0.0).tolist()


def mean_fermi_level(frames: Iterable[Frame]) -> float:
    """Mean of the Fermi levels that are present and weighted, eV; 0 without any."""
    levels = [
        float(frame.labels["fermi_level"])
        for frame in frames
        if frame.labels["fermi_level"] is not None and frame.weights["fermi_level"] > 0
    ]
    return float(np.mean(levels)) if levels else 0.0


def field_feature_norms(
    field_features: Callable[[Graph, Tensor, Tensor], Tensor], data: Iterable[Batch], fermi_level_offset: float
) -> list[float]:
    """RMS of the un-normalised field features over the atoms of the training set, one per (l, width), l-major.

    The features are those of the reference multipoles with external field and centred Fermi level (0 where the level
    is missing); structures without multipoles are left out. Units: V for l = 0; the same times sqrt(4π) and the
    factors of the receivers.

    Args:
        field_features: ``(graph, density [n, 4], centred Fermi level [B]) -> [n, widths, 4]``.

    Raises:
        InputError: no structure has multipoles.
    """
    squares: Tensor | None = None
    atoms = 0.0
    for batch in data:
        level = torch.nan_to_num(batch.labels.fermi_level - fermi_level_offset)
        with torch.no_grad():
            features = field_features(batch.graph, batch.labels.multipoles, level).double()
        known = (batch.labels.multipoles_weight > 0).to(features.dtype)[:, :, None]
        scalar = (known[..., 0] * features[..., 0].square()).sum(0)
        vector = (known * features[..., 1:].square()).sum((0, 2)) / 3
        squares = torch.cat([scalar, vector]) + (0.0 if squares is None else squares)
        atoms += float(known.sum())
    if squares is None or atoms == 0:
        raise InputError(
            "model.field_feature_norms: average needs atomic multipoles; map data.keys.atomic_multipoles "
            "or give the norms as a list"
        )
    return [max(norm, NORM_FLOOR) for norm in (squares / atoms).sqrt().tolist()]


def density_scaling(
    scaling: str | dict[str, float] | None, data: Iterable[Batch], elements: Sequence[int], l_max: int = 1
) -> dict[int, float]:
    """Scale of the linear local density per element, e (``model.atom_density_scaling``).

    ``average``: RMS over the atoms of the element and all multipole components with l <= ``l_max`` of the training
    set; structures without multipoles are left out.

    Raises:
        InputError: an element without a given scale, or without any reference multipoles.
    """
    if scaling is None:
        return {}
    if isinstance(scaling, dict):
        given = _by_number(scaling, "model.atom_density_scaling")
        missing = [chemical_symbols[element] for element in elements if element not in given]
        if missing:
            raise InputError(f"model.atom_density_scaling: no scale for {', '.join(missing)}; give one per element")
        return given
    squares, numbers = np.zeros(len(elements)), np.zeros(len(elements))
    components = (l_max + 1) ** 2
    for batch in data:
        known = (batch.labels.multipoles_weight > 0).double()
        rows = (known * batch.labels.multipoles.double().square())[:, :components].sum(1)
        species = batch.graph.species.cpu().numpy()
        np.add.at(squares, species, rows.cpu().numpy())
        np.add.at(numbers, species, float(components) * known[:, 0].cpu().numpy())
    missing = [chemical_symbols[element] for element, number in zip(elements, numbers, strict=True) if number == 0]
    if missing:
        raise InputError(f"model.atom_density_scaling: average found no atomic multipoles of {', '.join(missing)}")
    means = np.sqrt(squares / numbers)
    return {element: max(float(mean), NORM_FLOOR) for element, mean in zip(elements, means, strict=True)}


def _by_number(given: dict[str, float], where: str) -> dict[int, float]:
    """Values by symbol or atomic number -> by atomic number."""
    values: dict[int, float] = {}
    for name, value in given.items():
        number = int(name) if name.isdigit() else atomic_numbers.get(name)
        if number is None:
            raise InputError(f"{where}: '{name}' is not an element; give symbols or atomic numbers")
        values[number] = value
    return values
