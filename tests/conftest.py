"""Fixtures that all tests share."""

import pytest

from fp_potential.model import FixedPointPotential
from structures import make_model


@pytest.fixture(scope="session")
def model() -> FixedPointPotential:
    """The model most tests use; nobody may change it."""
    return make_model()
