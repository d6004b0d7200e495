"""Pictures of the user's own in the page."""

from __future__ import annotations

import base64
from pathlib import Path

from ..errors import InputError

#: type of the content by ending
TYPES = {".png": "image/png", ".svg": "image/svg+xml"}


def picture(path: Path) -> str:
    """The file as a data URI.

    Raises:
        InputError: no such file, or no picture that a page can hold.
    """
    kind = TYPES.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"--figures {path}: expected a picture that ends with {' or '.join(TYPES)}")
    if not path.is_file():
        raise InputError(f"--figures {path}: no such file")
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
