"""``fixedpoint train config.yaml [section.option=value ...]``."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("config", nargs="?", help="training file (YAML)")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="section.option=value",
        help="options set over those of the file, for example training.batch_size=4",
    )
    parser.add_argument("--run", metavar="DIR", help="folder of the results, in place of run_dir of the file")
    parser.add_argument("--restart", action="store_true", help="start anew; what the folder holds of a run is removed")
    parser.add_argument("--options", action="store_true", help="print all options of the training file and stop")


def run(arguments: argparse.Namespace) -> int:
    """Train or continue."""
    from fp_potential.train.config import TrainConfig
    from fp_potential.train.load import load_config
    from fp_potential.train.schema import manual

    if arguments.options:
        print(manual(TrainConfig))
        return 0
    if arguments.config is None:
        raise ValueError("expected a training file: fixedpoint train config.yaml (--options prints what it may hold)")
    overrides = list(arguments.overrides)
    if arguments.run is not None:
        overrides.append(f"run_dir={arguments.run}")
    config = load_config(arguments.config, overrides)
    from fp_potential.train.run import train

    train(config, restart=arguments.restart)
    return 0
