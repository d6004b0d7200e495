"""Words of a text file with their lines and columns, so that every mistake can be pointed to."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError

#: what begins a comment
COMMENT = "#"


@dataclass(frozen=True)
class Word:
    """A word of a file, and where it stands (counted from 1)."""

    text: str
    file: Path
    line: int
    column: int

    def wrong(self, expected: str, advice: str = "") -> InputError:
        """The error of this word: where it is, what it is, what was expected, what to do."""
        return InputError(
            f"{self.file}:{self.line}:{self.column}: got '{self.text}', expected {expected}"
            + (f"; {advice}" if advice else "")
        )

    def number(self, what: str = "a number") -> float:
        """As a finite number.

        Raises:
            InputError: it is none.
        """
        try:
            value = float(self.text.lower().replace("d", "e"))
        except ValueError:
            raise self.wrong(what) from None
        if not math.isfinite(value):
            raise self.wrong(f"{what} that is finite")
        return value

    def integer(self, what: str = "an integer") -> int:
        """As an integer; 2.0 is one.

        Raises:
            InputError: it is none.
        """
        value = self.number(what)
        if value != int(value):
            raise self.wrong(what)
        return int(value)


@dataclass(frozen=True)
class Line:
    """The words of a line that is not empty."""

    file: Path
    number: int
    words: tuple[Word, ...]

    def wrong(self, what: str, expected: str, advice: str = "") -> InputError:
        """The error of this line."""
        return InputError(f"{self.file}:{self.number}: {what}, expected {expected}" + (f"; {advice}" if advice else ""))

    def numbers(self, what: str = "a number") -> list[float]:
        """All words as numbers."""
        return [word.number(what) for word in self.words]


def lines_of(path: Path, purpose: str) -> list[Line]:
    """The lines of a file that are not empty, without comments.

    Args:
        purpose: what the file should hold, for the message if it is missing.

    Raises:
        InputError: no such file, or not text.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"{path}: {what}; expected a file with {purpose}")
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows editors begin files with a mark
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file in UTF-8 ({error.reason}); expected {purpose}") from error
    return list(_lines(text, path))


def _lines(text: str, path: Path) -> Iterator[Line]:
    for number, line in enumerate(text.splitlines(), start=1):
        found = re.finditer(r"\S+", line.split(COMMENT, 1)[0])
        words = tuple(Word(match.group(), path, number, match.start() + 1) for match in found)
        if words:
            yield Line(path, number, words)


def settings(path: Path, purpose: str) -> dict[str, tuple[Word, tuple[Word, ...]]]:
    """``key = value`` lines: key -> (its word, the words of its value).

    Raises:
        InputError: a line of another form, or a key that is given twice.
    """
    found: dict[str, tuple[Word, tuple[Word, ...]]] = {}
    for line in lines_of(path, purpose):
        words = _around_equals(line)
        if len(words) < 2 or words[1].text != "=":
            raise line.wrong(f"got '{' '.join(word.text for word in line.words)}'", "KEY = VALUE")
        key, values = words[0], words[2:]
        if not values:
            raise line.wrong(f"'{key.text}' has no value", f"{key.text} = VALUE", "or remove the line")
        if key.text in found:
            raise key.wrong(f"each key once (it is also in line {found[key.text][0].line})", "remove one")
        found[key.text] = (key, tuple(values))
    return found


def _around_equals(line: Line) -> list[Word]:
    """The words of a line with its first ``=`` a word of its own."""
    words: list[Word] = []
    split = False
    for word in line.words:
        if split or "=" not in word.text:
            words.append(word)
            continue
        split = True
        place = word.text.index("=")
        for start, text in ((0, word.text[:place]), (place, "="), (place + 1, word.text[place + 1 :])):
            if text:
                words.append(Word(text, word.file, word.line, word.column + start))
    return words


def table(path: Path, purpose: str, columns: tuple[int, ...] | None = None) -> NDArray[np.float64]:
    """The numbers of a file, (rows, columns).

    Args:
        columns: numbers of columns that the table may have; None: any.

    Raises:
        InputError: no numbers, a word that is none, or rows of different lengths.
    """
    return np.array([line.numbers() for line in rows(path, purpose, columns)])


def rows(path: Path, purpose: str, columns: tuple[int, ...] | None = None) -> list[Line]:
    """The lines of a table, whose number of words is checked (see `table`)."""
    lines = lines_of(path, purpose)
    if not lines:
        raise InputError(f"{path}: is empty; expected {purpose}")
    width = len(lines[0].words)
    if columns is not None and width not in columns:
        raise lines[0].wrong(f"{width} columns", " or ".join(map(str, columns)) + f" columns: {purpose}")
    for line in lines:
        if len(line.words) != width:
            raise line.wrong(
                f"{len(line.words)} columns", f"{width} as in line {lines[0].number}", "all rows have the same length"
            )
    return lines
