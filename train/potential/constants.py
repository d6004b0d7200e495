"""The constants of the model, from the training file and the statistics of the training set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ase.data import chemical_symbols

from ...options import ModelStatistics
from ..data.sets import DataSets
from .config import TrainConfig
from .data_checks import check_isolated
from .scales import implausible_energies, norm_names, usable
from .statistics import SetStatistics


def model_statistics(
    config: TrainConfig,
    elements: Sequence[int],
    sums: SetStatistics,
    data: DataSets,
    norms_of: Callable[[ModelStatistics], list[float]],
) -> tuple[ModelStatistics, list[str]]:
    """The constants, and lines about those that are not what the training set says, or cannot be right.

    Args:
        config: the training file.
        elements: atomic numbers.
        sums: of the training set.
        data: all sets.
        norms_of: gives the RMS of the field features of a model with constants, where they are asked for.

    Raises:
        InputError: labels are missing that a constant needs.
    """
    options, e0s = config.model, config.statistics
    if e0s.E0s == "isolated_atoms":
        check_isolated(sums.isolated, elements, data)
    energies = sums.atomic_energies(elements, e0s)
    lines = implausible_energies(energies, e0s.E0s, sums.isolated_in)

    def checked(names: Iterable[str], scales: Sequence[float], option: str) -> list[float]:
        values, notes = usable(names, scales, option)
        lines.extend(notes)
        return values

    neighbours = options.avg_num_neighbors
    if neighbours is None:
        mean = sums.average_neighbours()
        (neighbours,) = checked(["the mean number of neighbours"], [mean], "model.avg_num_neighbors")
    scaling = sums.density_scaling(options.atom_density_scaling, elements, options.atomic_multipoles_max_l)
    if options.atom_density_scaling == "average":
        names = [f"the RMS multipole of {chemical_symbols[z]}" for z in scaling]
        scales = checked(names, list(scaling.values()), "model.atom_density_scaling: average")
        scaling = dict(zip(scaling, scales, strict=True))
    given, offset = options.field_feature_norms, options.fermi_level_offset
    constants = ModelStatistics(
        atomic_energies=energies,
        avg_num_neighbors=neighbours,
        field_feature_norms=given if isinstance(given, list) else [1.0] * options.number_of_norms,
        fermi_level_offset=sums.mean_fermi_level() if offset is None else offset,
        minimum_distances=sums.minimum_distances(elements),
        density_scaling=scaling,
    )
    if given == "average":
        number = options.number_of_norms
        names, norms = norm_names(options.field_feature_widths)[:number], norms_of(constants)[:number]
        constants.field_feature_norms = checked(names, norms, "model.field_feature_norms: average")
    return constants, lines
