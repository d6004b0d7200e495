"""Which elements take the charge that is added to a structure, from the training set.

Frames of one composition and periodicity with several total charges Q say it. With q_z the mean charge of the N_z atoms
of an element, μ the Fermi level, and deviations δ from the means of a composition, summed over all of them,

    share_z = Σ N_z δq_z δQ / Σ δQ²,      s_z = -Σ δq_z δQ / Σ δμ δQ.

s_z is -cov(q_z, μ) / var(μ) where nothing but Q moves charges and levels. Geometries move both, too, but not Q: in
these sums their part averages out, in var(μ) it does not. s_z, e/V, is the response with all fields that the charges
make: a metal's softness itself is larger.

An element conducts, as far as the data say, if its share is more than ``SHARE`` and more than ``ERRORS`` standard
errors of the fit. Without Fermi levels s_z is the share times ``TYPICAL``, and only frames with a periodic axis count:
a charged molecule is no metal. Frames in external fields do not count.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ase.data import chemical_symbols

from ...periodicity import letters
from ..data.frame import Frame

#: share of added charge from which on an element conducts, and the same in standard errors; of what is added to copper
#: in water (examples/cu_water_electrode) 0.83 goes to copper and 0.20 to oxygen, and -0.04 to hydrogen
SHARE, ERRORS = 0.3, 2.0
#: softness of an atom of a metal of which the data say no more, e/V
TYPICAL = 0.02
#: e/V: no atom is softer (copper 0.3); levels that do not follow the charge, but for rounding, say nothing
SOFTEST = 10.0
#: Σ δQ² of a composition from which on its total charges differ, e²
CHARGES_DIFFER = 1e-4
#: compositions that are looked at; further ones do not count, so that sums do not grow with the set
COMPOSITIONS = 4096
#: frames with and without a Fermi level
LEVELS, CHARGES = "levels", "charges"

#: by `LEVELS` and `CHARGES`, by symbol: a `Sums` as JSON holds it
Charging = dict[str, dict[str, list[float]]]


class Sums(NamedTuple):
    """Sums over the frames of all compositions with an element; δ is the deviation from the composition's mean."""

    frames: float = 0.0
    compositions: float = 0.0
    charges: float = 0.0  #: Σ δQ²
    shares: float = 0.0  #: Σ N δq δQ
    squares: float = 0.0  #: Σ (N δq)²
    means: float = 0.0  #: Σ δq δQ
    levels: float = 0.0  #: Σ δμ δQ

    def conducting(self, known_levels: bool) -> float:
        """s_z, e/V; zero where the data do not say that the element conducts."""
        if self.charges <= 0:
            return 0.0
        share = self.shares / self.charges
        residual = max(self.squares - share**2 * self.charges, 0.0)
        error = (residual / max(self.frames - self.compositions - 1.0, 1.0) / self.charges) ** 0.5
        if not share > max(SHARE, ERRORS * error):
            return 0.0
        if not known_levels:
            return TYPICAL * min(share, 1.0)
        # charge is positive: it lowers the level of the electrons
        softness = max(-self.means / self.levels, 0.0) if self.levels < 0 else 0.0
        return softness if softness < SOFTEST else 0.0


class ChargingCollector:
    """Sums up frames one by one; `finish` gives `Charging`."""

    def __init__(self) -> None:
        #: X^T X of the rows X = [1, Q, μ, N_z q_z …] of the frames of a composition
        self._moments: dict[tuple[bytes, str, bool], np.ndarray] = {}
        self._counts: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    def add(self, frame: Frame) -> None:
        """Count a frame, if it has charges with a weight."""
        multipoles, level = frame.labels.get("atomic_multipoles"), frame.labels.get("fermi_level")
        if multipoles is None or not np.ravel(frame.weights["atomic_multipoles"])[0] > 0:
            return
        if level is not None and not frame.weights["fermi_level"] > 0:
            level = None
        known = level is not None
        if frame.external_field.any() or not (known or frame.atoms.pbc.any()):
            return
        numbers, of_atom, counts = np.unique(frame.atoms.numbers, return_inverse=True, return_counts=True)
        composition = np.stack([numbers, counts]).tobytes()
        key = (composition, letters(frame.atoms.pbc), known)
        if key not in self._moments:
            if len(self._moments) >= COMPOSITIONS:
                return
            self._moments[key] = np.zeros((3 + len(numbers),) * 2)
            self._counts[composition] = numbers, counts
        sums = np.bincount(of_atom, weights=multipoles[:, 0], minlength=len(numbers))
        row = np.concatenate([[1.0, frame.total_charge, 0.0 if level is None else float(level)], sums])
        self._moments[key] += np.outer(row, row)

    def finish(self) -> Charging:
        """The sums over all frames added."""
        total: dict[str, dict[str, Sums]] = {LEVELS: {}, CHARGES: {}}
        for (composition, _, known), moments in self._moments.items():
            frames = moments[0, 0]
            deviations = moments[1:, 1:] - np.outer(moments[0, 1:], moments[0, 1:]) / frames
            if deviations[0, 0] <= CHARGES_DIFFER:
                continue
            sums = total[LEVELS if known else CHARGES]
            for place, (number, count) in enumerate(zip(*self._counts[composition], strict=True), 2):
                shares, squares = deviations[place, 0], deviations[place, place]
                own = (frames, 1.0, deviations[0, 0], shares, squares, shares / count, deviations[0, 1])
                symbol = chemical_symbols[number]
                sums[symbol] = Sums(*(a + float(b) for a, b in zip(sums.get(symbol, Sums()), own, strict=True)))
        return {name: {symbol: list(own) for symbol, own in sums.items()} for name, sums in total.items()}


def softness_of(charging: Charging, symbol: str) -> tuple[float, int]:
    """s_z of an element, e/V, and the frames it is from; zeros where the data do not say that it conducts.

    Frames with Fermi levels decide, where there are any with several total charges.
    """
    for name in (LEVELS, CHARGES):
        if symbol in charging.get(name, {}):
            sums = Sums(*charging[name][symbol])
            softness = sums.conducting(name == LEVELS)
            return softness, int(sums.frames) if softness > 0 else 0
    return 0.0, 0
