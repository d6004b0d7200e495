"""``fixedpoint <command>``: commands are imported when they are called, so that help is immediate.

A command is a module with ``add_arguments(parser)`` and ``run(arguments) -> int | None``, and may have
``prepare(words) -> words``, called before the words are parsed; it imports what is slow inside these. A command with
tools has ``TOOLS``, and a module for each. Bad input
(``ValueError``, missing files) ends with one message and exit status 2; ``--traceback`` shows where it was raised.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

#: command -> what it does; the module is fp_potential.cli.<command>, with _ for -
COMMANDS = {
    "train": "train a model from a training file, or continue a run",
    "prepare": "write reference data in a form for sets larger than memory",
    "eval": "errors of a model on data files, and its predictions",
    "export": "write the model archive for ASE and LAMMPS from a run",
    "info": "what a model archive, a run or a prepared set holds",
    "report": "one HTML page of a training run: curves, errors, charges in 3-D",
    "scf": "how the self-consistent loop of one structure goes, what to change, and whether its charges conduct",
    "import-mace": "weights of a mace-torch model, to start a training from",
    "bands": "tools for pseudopotentials fitted to band structures",
    "clone": "fit models to a known one point by point, compare them with it self-consistently",
}


@dataclass(frozen=True)
class Command:
    """A command: its module and the parser of its arguments."""

    module: ModuleType
    parser: argparse.ArgumentParser

    def parsed(self, words: Sequence[str]) -> argparse.Namespace:
        """The arguments after the name of the command.

        Raises:
            ValueError: no such option of the training file.
            SystemExit: other words that the command does not know; argparse has said so.
        """
        prepared = self.module.prepare(list(words)) if hasattr(self.module, "prepare") else list(words)
        if hasattr(self.module, "TOOLS"):  # a parser of parsers takes no options among its positional words
            return self.parser.parse_args(prepared)
        return self.parser.parse_intermixed_args(prepared)


def command_of(name: str) -> Command:
    """The command ``name``, one of `COMMANDS`."""
    module = importlib.import_module(f"{__package__}.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(
        prog=f"fixedpoint {name}", description=COMMANDS[name], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    module.add_arguments(parser)
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")
    return Command(module, parser)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"fixedpoint {_version()}")
        return 0
    name = words[0]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "commands: " + ", ".join(COMMANDS)
        print(f"fixedpoint: unknown command '{name}'; {hint}", file=sys.stderr)
        return 2
    command, rest = command_of(name), words[1:]
    shown, warnings.showwarning = warnings.showwarning, _warning_of(name)
    try:
        return command.module.run(command.parsed(rest)) or 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
    except (ValueError, OSError) as error:
        if "--traceback" in rest:
            raise
        print(f"fixedpoint {name}: error: {_sentence(error)}", file=sys.stderr)
        return 2
    finally:
        warnings.showwarning = shown


def _sentence(error: Exception) -> str:
    """What went wrong; errors of the system as ``file: reason``."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _warning_of(name: str) -> Callable[..., None]:
    """Shows a warning as one line of the command ``name``."""

    def show(message: Warning | str, category: type[Warning], *_: object) -> None:
        print(f"fixedpoint {name}: warning: {message}", file=sys.stderr)

    return show


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("fp-potential")
    except PackageNotFoundError:
        return "(not installed)"


def _help() -> str:
    lines = ["usage: fixedpoint <command> [options]", "", "commands:"]
    width = max(map(len, COMMANDS)) + 2
    lines += [f"  {name:<{width}}{text}" for name, text in COMMANDS.items()]
    return "\n".join([*lines, "", "fixedpoint <command> --help explains each; fixedpoint --version prints the version"])


if __name__ == "__main__":
    sys.exit(main())
