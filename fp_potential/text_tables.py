"""Tables for the screen and for text files."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], ruled: bool = False) -> str:
    """Text with columns of equal width: the first to the left, the others to the right; the first row is the heading.

    ``ruled`` puts a line of dashes below it.

    >>> from fp_potential.text_tables import aligned
    >>> print(aligned([["kind", "frames"], ["box", "12"]], ruled=True))
    kind  frames
    ----  ------
    box       12
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    ]
    if ruled:
        lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
