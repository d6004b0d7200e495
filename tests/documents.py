"""The pages of the documentation in pieces: blocks of code, commands, links."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
]

#: programs whose docstrings say how they are called
SCRIPTS = [*sorted((ROOT / "benchmarks").glob("*.py")), *sorted((ROOT / "examples").glob("*/*.py"))]

#: what a line or a word in code begins with if it is a command
PROGRAMS = ("fixedpoint", "python", "make", "torchrun", "pip", "pytest", "cmake", "lmp", "mpirun", "ruff", "git")
#: what only commands of LAMMPS, statements of Python and options of training files begin with
LAMMPS, PYTHON = r"(pair_style|pair_coeff|boundary|fix|compute|units) ", r"(import |from \w+ import |\w+(\.\w+)+ = )"
YAML = r"\w+: (\{|\[|[\w.]+ *(#|$))"


@dataclass(frozen=True)
class Block:
    """Code between fences, or indented by four columns (language "")."""

    page: Path
    line: int  #: of its first line
    language: str
    text: str

    @property
    def name(self) -> str:
        """Page and line, as tests are called."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A line that a reader may type, or a part of one that is mentioned in a sentence."""

    page: Path
    line: int
    words: tuple[str, ...]
    whole: bool  #: a line of a block; else it stands in a sentence and may leave out what a command needs

    @property
    def name(self) -> str:
        """Page, line and command, as tests are called."""
        return f"{self.page.relative_to(ROOT)}:{self.line} {' '.join(self.words)}"


def blocks(page: Path, text: str | None = None) -> list[Block]:
    """All blocks of code of a page."""
    found: list[Block] = []
    lines = (page.read_text(encoding="utf-8") if text is None else text).splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        fence = re.match(r" *```(\w*)", line)
        first = number + 1
        if fence:
            end = next(k for k in range(first, len(lines)) if lines[k].strip() == "```")
            found.append(Block(page, first + 1, fence[1] or "sh", "\n".join(lines[first:end])))
            number = end + 1
        elif line.startswith("    ") and (number == 0 or not lines[number - 1].strip()):
            end = number
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            found.append(Block(page, first, "", "\n".join(text[4:] for text in lines[number:end])))
            number = end
        else:
            number += 1
    return found


def commands(page: Path, text: str | None = None) -> list[Command]:
    """All commands of a page: lines of blocks without a language or for the shell, and code in sentences."""
    found: list[Command] = []
    content = page.read_text(encoding="utf-8") if text is None else text
    for block in blocks(page, content):
        if block.language in ("", "sh"):
            for number, words in _lines(block):
                found.append(Command(page, number, words, whole=True))
    for number, line in enumerate(_without_fences(content), 1):
        if not line.startswith("    "):
            for code in re.findall(r"`([^`]+)`", line):
                for words in _split(code):
                    found.append(Command(page, number, words, whole=False))
    return found


def docstring(script: Path) -> str:
    """That of a program, which says how it is called."""
    return ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""


def links(page: Path) -> Iterator[tuple[int, str]]:
    """Line and target of every link to a file of the repository."""
    for number, line in enumerate(_without_fences(page.read_text(encoding="utf-8")), 1):
        for target in re.findall(r"\]\(([^)\s]+)\)", line):
            if not re.match(r"\w+:", target):
                yield number, target


def anchors(page: Path) -> set[str]:
    """What links can point to on a page: its titles, as they are written in links."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def _without_fences(content: str) -> list[str]:
    inside, lines = False, []
    for line in content.splitlines():
        fence = line.strip().startswith("```")
        lines.append("" if inside or fence else line)
        inside = inside != fence
    return lines


def _lines(block: Block) -> Iterator[tuple[int, tuple[str, ...]]]:
    text = block.text.replace("\\\n", " \0")
    number = block.line
    for line in text.splitlines():
        for words in _split(line.replace("\0", "")):
            yield number, words
        number += 1 + line.count("\0")


def _split(line: str) -> Iterator[tuple[str, ...]]:
    """The commands of a line, which may follow each other after ``&&``; those of other programs are left out."""
    for part in line.split("&&"):
        if part.strip().partition(" ")[0] in PROGRAMS:
            # brackets around what may be left out, and the first of several choices
            words = shlex.split(re.sub(r"(?<=\s)\[(--.*?)\]", r"\1", part), comments=True)
            yield tuple(word for word in words if word not in ("…", "..."))
