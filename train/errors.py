"""The one exception for bad input, so that the command line can tell it from a bug."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave is wrong; the message names it, what was expected and what to do."""


def nearest(name: object, valid: Iterable[str], also: Iterable[str] = ()) -> str:
    """A sentence that names the choice nearest to ``name``, or all of ``valid`` if none (nor of ``also``) is near."""
    choices = sorted(valid)
    matches = difflib.get_close_matches(str(name), [*choices, *also], n=1)
    if matches:
        return f"did you mean '{matches[0]}'?"
    return "valid names: " + ", ".join(choices)
