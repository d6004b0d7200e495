"""Section ``statistics``: constants taken from the training set."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import field_validator

from ....options.base import MayBeText, from_text
from ...config.schema import Section

_GivenE0s = Annotated[Literal["least_squares", "average", "isolated_atoms"] | dict[str, float], MayBeText()]


class StatisticsOptions(Section):
    """Constants that come from the training set (others are in ``model``, where null means the average)."""

    E0s: Literal["least_squares", "isolated_atoms"] | dict[str, float] = "least_squares"
    """Energies of the atoms, eV: fitted to the compositions (per atom, least squares; also called ``average``), taken
    from frames with one neutral atom, or given as ``{H: -13.6, O: -2040.1}`` (symbols or atomic numbers)."""

    @field_validator("E0s", mode="before", json_schema_input_type=_GivenE0s)
    @classmethod
    def _string_keys(cls, value: Any) -> Any:
        value = from_text(value)
        if value == "average":
            return "least_squares"
        return {str(key): energy for key, energy in value.items()} if isinstance(value, dict) else value
