"""What a pseudopotential predicts of a system, in the order and units of its reference: eV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from ase.data import atomic_numbers
from torch import Tensor

from ...bands import (
    HARTREE,
    Crystal,
    Eigenstates,
    Hamiltonian,
    PlaneWaves,
    Pseudopotential,
    Terms,
    band_energies,
    solve,
)
from ...bands.basis import BasisKind
from ...bands.ordering import order_by_overlap, order_smoothly
from ..errors import InputError
from .config import BandsStage
from .data import BandSystem, Transition

#: distance (1/Bohr) of the k-points from which effective masses are taken
MASS_STEP = 0.01
#: gap (eV) between bands above which it may be that of valence and conduction bands
SMALLEST_GAP = 0.1
#: atomic numbers of the cores
NOBLE_GASES = (2, 10, 18, 36, 54, 86)


@dataclass(eq=False)
class System:
    """A system with its Hamiltonian, and tensors of its targets.

    Attributes:
        fitted: indices of the k-points of the training set, and ``held_out`` those that are not in it.
        reference: (nk, nb) eV; zeros where there is none.
        weights: (nk, nb), w_k w_b; 0 where there is no reference.
    """

    data: BandSystem
    hamiltonian: Hamiltonian
    fitted: tuple[int, ...]
    held_out: tuple[int, ...]
    k: Tensor
    reference: Tensor
    weights: Tensor
    scaled: dict[float, Hamiltonian] = field(default_factory=dict)
    order: Tensor | None = None  #: (nk, nb) band of each column of the reference; none: as they are sorted
    last: Eigenstates | None = None  #: states of the last call, from which an iterative solution begins

    def at_ratio(self, ratio: float) -> Hamiltonian:
        """The Hamiltonian with the lattice scaled by ``ratio`` and the same integers G."""
        if ratio not in self.scaled:
            self.scaled[ratio] = self.hamiltonian.scaled(ratio)
        return self.scaled[ratio]


def make_system(data: BandSystem, basis: BasisKind, terms: Terms, cache: bool, hold_out: int | None) -> System:
    """Tensors and the Hamiltonian of ``data``; the middle one of every ``hold_out`` k-points is not fitted."""
    geometry = data.geometry
    crystal = Crystal(torch.from_numpy(geometry.cell), geometry.species, torch.from_numpy(geometry.positions))
    hamiltonian = Hamiltonian(crystal, _waves(data, crystal, basis), terms, cache)
    numbers = range(len(data.kpoints))
    held = tuple(number for number in numbers if hold_out is not None and number % hold_out == hold_out // 2)
    fitted = tuple(number for number in numbers if number not in held) if data.reference is not None else ()
    k_weights = torch.from_numpy(data.k_weights)
    weights = torch.from_numpy(data.band_weights) * k_weights[:, None]
    nothing = torch.zeros(len(data.kpoints), data.n_bands, dtype=torch.float64)
    reference = nothing if data.reference is None else torch.from_numpy(data.reference)
    weights = nothing if data.reference is None else weights
    return System(
        data,
        hamiltonian,
        fitted,
        held if data.reference is not None else (),
        torch.from_numpy(data.kpoints),
        reference,
        weights,
        order=None if data.band_order is None else torch.from_numpy(data.band_order),
    )


def something_to_fit(systems: Sequence[System], stages: Sequence[BandsStage]) -> None:
    """Refuse a fit of nothing.

    Raises:
        InputError: a stage fits, but no energy is known and has a weight, and there is no other target.
    """
    fits = [stage.name for stage in stages if stage.workflow not in ("evaluate", "initialise_only")]
    for system in systems:
        data = system.data
        rows = any(row.weight > 0 for row in data.transitions)
        if rows or data.couplings or data.masses or bool((system.weights > 0).any()):
            return
    if fits:
        raise InputError(
            f"stage '{fits[0]}' has nothing to fit: no energy of the reference is known and has a weight above zero "
            "(of its band and of its k-point), and there is no other target"
        )


def _waves(data: BandSystem, crystal: Crystal, basis: BasisKind) -> PlaneWaves:
    """The plane waves of ``data``, as many as its bands need.

    Raises:
        InputError: too few, or too many for any computer, or none near a k-point.
    """
    try:
        waves = PlaneWaves(crystal, data.max_ke, basis)
    except ValueError as error:
        raise InputError(f"{data.name}: {error}") from error
    if data.n_bands > 2 * len(waves):
        raise InputError(
            f"{data.name}: {data.n_bands} bands, but {len(waves)} plane waves below {data.max_ke:g} Ha have "
            f"{2 * len(waves)}, two of each wave; expected fewer bands (n_bands, nBands) or a higher "
            "cutoff (max_ke, maxKE)"
        )
    kinetic = 0.5 * (torch.from_numpy(data.kpoints) @ crystal.reciprocal).square().sum(1)
    if float(kinetic.max()) > data.max_ke:
        number = int(kinetic.argmax())
        raise InputError(
            f"{data.name}: k-point {number}, {' '.join(f'{x:g}' for x in data.kpoints[number])}, has |k|²/2 = "
            f"{float(kinetic[number]):.4g} Ha above the cutoff {data.max_ke:g} Ha: waves with small |k + G| "
            "are missing, since the cutoff is on G; expected the equivalent point of the first zone, or a higher cutoff"
        )
    return waves


def bands(system: System, potential: Pseudopotential, numbers: Sequence[int]) -> Tensor:
    """Energies (len(numbers), n_bands) eV of the k-points ``numbers``, in the order of the reference's columns."""
    points = system.k[list(numbers)]
    system.last = solve(system.hamiltonian, potential, points, system.data.n_bands, start=system.last)
    energies = HARTREE * system.last.bands(potential)
    return energies if system.order is None else energies.gather(1, system.order[list(numbers)])


def match_bands(system: System, potential: Pseudopotential, how: str) -> None:
    """Set the order in which bands belong to the reference: smoothly along the path, or by overlaps of their states."""
    with torch.no_grad():
        states = solve(system.hamiltonian, potential, system.k, system.data.n_bands, start=system.last)
        if how == "eigenvectors":
            system.order = order_by_overlap(states)
        else:
            system.order = order_smoothly(states.bands(potential), paired=states.doubled)


def bands_cost(energies: Tensor, system: System, numbers: Sequence[int], gaps: bool) -> Tensor:
    """Σ_k w_k Σ_b w_b (E - E_ref)², eV², of the k-points ``numbers``.

    With a ``relative_band`` r both sides are E_b - E_r at each k; with ``gaps`` they are E_{b+1} - E_b, weighted by the
    mean of the two weights where both are fitted.
    """
    reference, weights = system.reference[list(numbers)], system.weights[list(numbers)]
    relative = system.data.relative_band
    if gaps:
        both = (weights[:, 1:] > 0) & (weights[:, :-1] > 0)
        weights = 0.5 * (weights[:, 1:] + weights[:, :-1]) * both
        return (weights * (energies.diff(dim=1) - reference.diff(dim=1)).square()).sum()
    if relative is not None:
        energies = energies - energies[:, relative, None]
        reference = reference - reference[:, relative, None]
    return (weights * (energies - reference).square()).sum()


def number_fitted(system: System, gaps: bool) -> int:
    """How many energies, or gaps, of the training set are fitted."""
    used = system.weights[list(system.fitted)] > 0
    return int((used[:, 1:] & used[:, :-1]).sum()) if gaps else int(used.sum())


def deformation(system: System, potential: Pseudopotential, transitions: Sequence[Transition]) -> Tensor:
    """D (len(transitions),) eV of ``transitions``.

    D = (E - E_s)/2 (1 + s³)/(1 - s³) of the state ``to``, less that of ``from`` if there is one; E_s is the energy with
    the lattice scaled by s and the same plane waves.
    """
    if not transitions:
        return torch.zeros(0, dtype=torch.float64)
    places = sorted({k for row in transitions for k in (row.k_from, row.k_to) if k is not None})
    at = bands(system, potential, places)
    strained = {}
    for ratio in sorted({row.ratio for row in transitions}):
        own = [row for row in transitions if row.ratio == ratio]
        needed = sorted({k for row in own for k in (row.k_from, row.k_to) if k is not None})
        n_bands = system.data.n_bands
        energies = HARTREE * band_energies(system.at_ratio(ratio), potential, system.k[needed], n_bands)
        strained[ratio] = (needed, energies)

    def state(k: int, b: int, ratio: float) -> Tensor:
        needed, energies = strained[ratio]
        factor = 0.5 * (1 + ratio**3) / (1 - ratio**3)
        return (at[places.index(k), b] - energies[needed.index(k), b]) * factor

    found = []
    for row in transitions:
        value = state(row.k_to, row.b_to, row.ratio)
        if row.k_from is not None and row.b_from is not None:
            value = value - state(row.k_from, row.b_from, row.ratio)
        found.append(value)
    return torch.stack(found)


def masses(system: System, potential: Pseudopotential) -> Tensor:
    """Effective masses (2,) of the conduction and the valence edge at the k-point of the gap, in electron masses.

    1/m = |∂²E/∂k²| by central differences, the mean over the three axes; the band is the edge's.
    """
    place, valence, conduction = edges(system)
    steps = torch.eye(3, dtype=torch.float64) * MASS_STEP @ torch.linalg.inv(system.hamiltonian.crystal.reciprocal)
    center = system.k[place]
    points = torch.cat([center[None], center + steps, center - steps])
    energies = band_energies(system.hamiltonian, potential, points, system.data.n_bands)
    curvature = (energies[1:4] + energies[4:7] - 2 * energies[0]).mean(0) / MASS_STEP**2
    return 1.0 / torch.stack([curvature[conduction], curvature[valence]]).abs()


def edges(system: System) -> tuple[int, int, int]:
    """k-point, valence and conduction band of the gap: given, or where the reference has its smallest one.

    Without given bands they are those of `valence_band`.
    """
    data = system.data
    missing = (system.reference == 0) & (system.weights == 0)
    reference = torch.where(missing, torch.nan, system.reference)
    valence, conduction = data.valence_band, data.conduction_band
    if valence is None or conduction is None:
        if valence is None:
            valence = valence_band(system.data.species, reference)
        conduction = valence + 1 if conduction is None else conduction
    place = data.gap_kpoint
    if place is None:
        place = int((reference[:, conduction] - reference[:, valence]).nan_to_num(nan=torch.inf).argmin())
    return place, valence, conduction


def valence_band(species: Sequence[str], energies: Tensor) -> int:
    """The highest valence band of bands ``(nk, nb)`` from the lowest: as many as there are valence electrons.

    Energies that are nan are not known.
    Where these are not known, odd, or as many as the bands or more, it is the band below the highest gap of at least
    0.1 eV that all k-points share; where there is none, the one below the largest difference.
    """
    electrons = sum(map(valence_electrons, species))
    if electrons and electrons % 2 == 0 and electrons < energies.shape[1] and all(map(valence_electrons, species)):
        return electrons - 1
    bottom, top = energies.nan_to_num(nan=torch.inf).amin(0), energies.nan_to_num(nan=-torch.inf).amax(0)
    gap = (bottom[1:] - top[:-1]).nan_to_num(posinf=-torch.inf)  # of a band that is not known anywhere: none
    open_gaps = (gap > SMALLEST_GAP).nonzero().flatten().tolist()
    return open_gaps[-1] if open_gaps else int(gap.argmax())


def valence_electrons(symbol: str) -> int:
    """Electrons of an atom outside of the noble-gas core and of filled d and f shells; 0 for what is no element.

    1 of Cs, 2 of Cd, 3 of In, 4 of Pb, 7 of I: those of pseudopotentials without d electrons.
    """
    number = atomic_numbers.get(symbol, 0)
    if symbol not in atomic_numbers:
        return 0
    outside = number - max((core for core in NOBLE_GASES if core < number), default=0)
    if number > NOBLE_GASES[4] and outside > 16:
        outside -= 14
    return outside - 10 if outside > 10 else outside
