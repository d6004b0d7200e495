"""Fixtures that all tests share."""

import sys
from pathlib import Path

import pytest

# `python -m pytest` puts the working folder first, where the sources would hide the installed package
# (which has fp_potential.train and the compiled plugin)
_ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _ROOT]

from fp_potential.model import FixedPointPotential  # noqa: E402
from structures import make_model  # noqa: E402


@pytest.fixture(scope="session")
def model() -> FixedPointPotential:
    """The model most tests use; nobody may change it."""
    return make_model()
