"""Frames that tests of reading and checking may change."""

import pytest

from training_data import frames


@pytest.fixture(scope="module")
def content():
    return frames()


@pytest.fixture
def fresh(content):
    return [atoms.copy() for atoms in content]
