"""Limits that tests hold, with the figures they saw: the worst of each is printed when the tests end."""

from dataclasses import dataclass

import numpy as np


@dataclass
class Figure:
    """The value nearest to its limit, or beyond it, and how often one was seen."""

    value: float
    limit: float
    upper: bool
    times: int = 1

    def text(self) -> str:
        return f"{self.value:9.2g}  {'≤' if self.upper else '≥'} {self.limit:<7.2g} ({self.times})"


FIGURES: dict[str, Figure] = {}


def at_most(name: str, value: object, limit: float) -> None:
    """The largest entry of ``value`` is at most ``limit``."""
    _hold(name, float(np.max(np.asarray(value, dtype=float))), limit, True)


def at_least(name: str, value: object, limit: float) -> None:
    """The smallest entry of ``value`` is at least ``limit``."""
    _hold(name, float(np.min(np.asarray(value, dtype=float))), limit, False)


def _hold(name: str, value: float, limit: float, upper: bool) -> None:
    seen = FIGURES.get(name)
    if seen is None:
        FIGURES[name] = Figure(value, limit, upper)
    else:
        seen.value = max(seen.value, value) if upper else min(seen.value, value)
        seen.times += 1
    good = value <= limit if upper else value >= limit
    assert good, f"{name}: {value:.3g}, expected {'at most' if upper else 'at least'} {limit:g}"


def lines() -> list[str]:
    """The table of all figures."""
    width = max((len(name) for name in FIGURES), default=0)
    return [f"{name:{width}}  {figure.text()}" for name, figure in sorted(FIGURES.items())]


def as_lists() -> list[list]:
    """All figures as lists of plain numbers, which can be sent to another process."""
    return [[name, float(f.value), float(f.limit), f.upper, f.times] for name, f in FIGURES.items()]


def add(lists: list[list]) -> None:
    """Figures of another process, from its :func:`as_lists`."""
    for name, value, limit, upper, times in lists:
        seen = FIGURES.get(name)
        if seen is None:
            FIGURES[name] = Figure(value, limit, upper, times)
        else:
            seen.value = max(seen.value, value) if upper else min(seen.value, value)
            seen.times += times
