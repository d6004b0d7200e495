"""Names that the package hands on."""

import pytest

import fp_potential


@pytest.mark.parametrize("name", fp_potential.__all__)
def test_public_name_is_there(name: str) -> None:
    assert getattr(fp_potential, name) is not None
