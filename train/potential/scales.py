"""Scales and divisors from a training set that are no scales, because nothing or nearly nothing varies in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ase.data import chemical_symbols

#: RMS from which on a quantity gives a scale: 1e-3 V of field features, 1e-3 e of atoms, 1e-3 neighbours
SMALLEST = 1e-3

#: 0.7687 Hartree in eV, of which Z^(7/3) times bind the electrons of an atom, and a margin for what relativity adds
THOMAS_FERMI, MARGIN = 20.92, 1.2
#: eV: no energy of a free atom is above that of its electrons far away by more than a choice of reference
HIGHEST = 30.0


def usable(names: Iterable[str], scales: Sequence[float], what: str) -> tuple[list[float], list[str]]:
    """``scales`` with 1 in the place of those below ``SMALLEST``, and a line that says of which and why.

    Args:
        names: what the line calls the scales.
        scales: root mean squares or means over the training set.
        what: the option, for the line.
    """
    small = [(name, scale) for name, scale in zip(names, scales, strict=True) if not scale >= SMALLEST]
    if not small:
        return list(scales), []
    named = ", ".join(f"{name} {scale:.2g}" for name, scale in small)
    return [scale if scale >= SMALLEST else 1.0 for scale in scales], [
        f"WARNING: {what}: {named} in the training set is no scale (below {SMALLEST:g}): 1 is used; all reference "
        "values there are zero, or nearly so"
    ]


def norm_names(widths: Sequence[float]) -> list[str]:
    """Names of the field-feature norms, one per (l, width), l-major."""
    return [f"the RMS field feature of l = {ell} and width {width:g} Å" for ell in (0, 1) for width in widths]


def implausible_energies(
    energies: Mapping[int, float], given: str | Mapping[str, float], frames: Mapping[str, str]
) -> list[str]:
    """A line for each E0 that no atom has: below the energy of Thomas and Fermi, -20.92 Z^(7/3) eV, or far above zero.

    Args:
        energies: E0 by atomic number, eV.
        given: ``statistics.E0s``.
        frames: where an isolated atom was found, by its symbol.

    Source: Lieb and Simon, Adv. Math. 23, 22 (1977), doi:10.1016/0001-8708(77)90108-6: energies of atoms tend to it as
    Z grows; the next term, Z²/2 Hartree, is positive.
    """
    advice = {
        "isolated_atoms": "check the frame and data.units.energy",
        "least_squares": "the compositions of the training set hardly determine it, or energies are in another unit: "
        "check data.units.energy, add isolated atoms, or give the E0s",
    }.get(str(given), "check statistics.E0s, which are in eV")
    lines = []
    for number, energy in energies.items():
        lowest = -MARGIN * THOMAS_FERMI * number ** (7 / 3)
        if lowest <= energy <= HIGHEST:
            continue
        symbol = chemical_symbols[number]
        place = f" ({frames[symbol]})" if given == "isolated_atoms" and symbol in frames else ""
        lines.append(
            f"WARNING: the E0 of {symbol}{place} is {energy:.6g} eV, which no atom has (all electrons together bind "
            f"{-lowest:.4g} eV at most); {advice}"
        )
    return lines
