"""A training file that tests may change."""

import pytest
import yaml

from training_files import EXAMPLE


@pytest.fixture
def example() -> dict:
    return yaml.safe_load(EXAMPLE)
