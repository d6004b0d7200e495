"""Parameters of tests whose whole matrix takes too long for every run."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def partly_slow(cases: Iterable[Any], fast: Callable[..., bool]) -> list[Any]:
    """All ``cases``; those for which ``fast(*case)`` is false are for `make test-slow`."""
    out = []
    for case in cases:
        values = case if isinstance(case, tuple) else (case,)
        out.append(pytest.param(*values, marks=() if fast(*values) else pytest.mark.slow))
    return out
