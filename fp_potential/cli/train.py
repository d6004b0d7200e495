"""``fixedpoint train config.yaml [name=value ...] [--name value ...]``."""

from __future__ import annotations

import argparse
from pathlib import Path

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
    parser.add_argument("config", nargs="?", help="training file (YAML)")
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
        help="print the manual of the training file, or of one section or option, and stop",
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
    from fp_potential.train.potential.config.command_line import with_overrides

    return with_overrides(words, OWN)


def run(arguments: argparse.Namespace) -> int:
    """Train or continue; or print what a training file may hold."""
    if arguments.help_config is not None:
        return _manual(arguments.help_config)
    if arguments.schema is not None:
        return _schema(arguments.schema)
    words = ([] if arguments.config is None else [arguments.config]) + arguments.overrides
    overrides = [word for word in words if "=" in word and not Path(word).is_file()]
    files = [word for word in words if word not in overrides] + ([] if arguments.named is None else [arguments.named])
    if len(files) > 1:
        raise ValueError(f"expected one training file, and options as name=value; got {', '.join(files)}")
    if not files:
        raise ValueError(
            "expected a training file: fixedpoint train config.yaml (--help-config prints what it may hold)"
        )
    file = files[0]
    if arguments.run is not None:
        overrides.append(f"run_dir={arguments.run}")
    from fp_potential.train.potential.config import load_config

    notes: list[str] = []
    config = load_config(file, overrides, notes)
    for note in notes:
        print(f"note: {note}")
    from fp_potential.train.run import check, train

    if arguments.dry_run:
        check(config, restart=arguments.restart)
    else:
        train(config, restart=arguments.restart)
    return 0


def _manual(name: str) -> int:
    from rich.console import Console

    from fp_potential.train.config.manual import as_text, show
    from fp_potential.train.potential.config.manual import entries

    console = Console()
    if console.is_terminal:
        show(console, entries(name))
    else:
        print(as_text(entries(name)))
    return 0


def _schema(file: str) -> int:
    import json

    from fp_potential.train.potential.config.json_schema import json_schema

    text = json.dumps(json_schema(), indent=1, ensure_ascii=False)
    if file == "-":
        print(text)
    else:
        Path(file).write_text(text + "\n", encoding="utf-8")
        print(
            f"wrote {file}; for editors, as the first line of a training file:\n# yaml-language-server: $schema={file}"
        )
    return 0
