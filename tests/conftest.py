"""Fixtures that all tests share."""

import sys
from pathlib import Path

import pytest

# `python -m pytest` puts the working folder first, where the sources would hide the installed package
# (which has fp_potential.train and the compiled plugin)
_ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _ROOT]

import figures  # noqa: E402
from fp_potential.model import FixedPointPotential  # noqa: E402
from structures import make_model  # noqa: E402


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures behind the limits: worst value, limit, and how often it was looked at."""
    if figures.FIGURES:
        terminalreporter.section("figures")
        for line in figures.lines():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def model() -> FixedPointPotential:
    """The model most tests use; nobody may change it."""
    return make_model()
