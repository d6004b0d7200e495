"""``fixedpoint train config.yaml [name=value ...] [--name value ...]``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fp_potential.train.training_file import Kind

#: words of the command itself; every other --word is an option of the training file
OWN = (
    "--config",
    "--run",
    "--restart",
    "--dry-run",
    "--help-config",
    "--options",
    "--schema",
    "--traceback",
    "--help",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "config", nargs="?", help="training file (YAML), or the folder of a published bundle of a pseudopotential"
    )
    parser.add_argument("--config", dest="named", metavar="FILE", help="the same, as an option")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="name=value",
        help="options set over those of the file: batch_size=4, training.batch_size=4, --batch_size 4, --amsgrad",
    )
    parser.add_argument("--run", metavar="DIR", help="folder of the results, in place of run_dir of the file")
    parser.add_argument("--restart", action="store_true", help="start anew; what the folder holds of a run is removed")
    parser.add_argument(
        "--dry-run", action="store_true", help="read and check everything, print all options as resolved, and stop"
    )
    parser.add_argument(
        "--help-config",
        "--options",
        nargs="?",
        const="",
        metavar="NAME",
        help="print the manual of the training file (of a pseudopotential's, if such a file is given), or of one "
        "section or option, and stop",
    )
    parser.add_argument(
        "--schema",
        metavar="FILE",
        help="write the JSON schema of the training file, for editors (- : print it), and stop",
    )


def prepare(words: list[str]) -> list[str]:
    """``--option value`` of the training file as ``option=value``."""
    if not any(word.startswith("--") and word.partition("=")[0] not in OWN for word in words):
        return words
    from fp_potential.train.training_file import overrides_of

    return overrides_of(words, OWN)


def run(arguments: argparse.Namespace) -> int:
    """Train or continue; or print what a training file may hold."""
    if arguments.help_config is not None:
        return _manual(arguments.help_config, _kind(arguments))
    if arguments.schema is not None:
        return _schema(arguments.schema, _kind(arguments))
    file, overrides = _file_and_overrides(arguments)
    if arguments.run is not None:
        overrides.append(f"run_dir={arguments.run}")
    from fp_potential.train.training_file import load

    notes: list[str] = []
    if arguments.restart and any("restart_latest" in word.partition("=")[0] for word in overrides):
        notes.append("restart_latest has no effect beside --restart, which starts anew")
    config = load(file, overrides, notes)
    for note in notes:
        print(f"note: {note}")
    from fp_potential.train.run import check, train

    if arguments.dry_run:
        check(config, restart=arguments.restart)
    else:
        train(config, restart=arguments.restart)
    return 0


def _file_and_overrides(arguments: argparse.Namespace) -> tuple[str, list[str]]:
    """The training file, wherever it stands among the options, and what is set over it.

    Raises:
        ValueError: no file, or several.
    """
    words = [word for word in (arguments.config, *arguments.overrides) if word is not None]
    files = [word for word in words if "=" not in word or Path(word).is_file()]
    overrides = [word for word in words if word not in files]
    if arguments.named is not None:
        files.insert(0, arguments.named)
    if not files:
        raise ValueError(
            "expected a training file: fixedpoint train config.yaml (--help-config prints what it may hold)"
        )
    if len(files) > 1:
        raise ValueError(
            f"expected one training file, got {', '.join(files)}; options are written name=value or --name value, "
            'lists as one word: "[1.5, 3.0]"'
        )
    return files[0], overrides


def _kind(arguments: argparse.Namespace) -> Kind:
    """Of the training file that is given beside an option that prints; none: a potential's."""
    from fp_potential.train.training_file import kind_of

    file = arguments.named or arguments.config
    return "potential" if file is None else kind_of(file)


def _manual(name: str, kind: Kind) -> int:
    from rich.console import Console

    from fp_potential.train.config.manual import as_text, show
    from fp_potential.train.training_file import manual_of

    console = Console()
    if console.is_terminal:
        show(console, manual_of(kind, name))
    else:
        print(as_text(manual_of(kind, name)))
    return 0


def _schema(file: str, kind: Kind) -> int:
    import json

    from fp_potential.train.training_file import schema_of

    text = json.dumps(schema_of(kind), indent=1, ensure_ascii=False)
    if file == "-":
        print(text)
    else:
        Path(file).write_text(text + "\n", encoding="utf-8")
        print(
            f"wrote {file}; for editors, as the first line of a training file:\n# yaml-language-server: $schema={file}"
        )
    return 0
