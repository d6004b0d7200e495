"""``fixedpoint bands ensemble FILE --seeds N``: train with several seeds; mean and spread of bands and potentials."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the tool."""
    parser.add_argument("config", help="training file (YAML), or the folder of a published bundle")
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="options set over those of the file")
    parser.add_argument(
        "--seeds", type=int, default=4, metavar="N", help="number of runs; their seeds follow that of the file"
    )
    parser.add_argument(
        "--run", dest="folder", metavar="DIR", help="folder of the runs seed_*; default: run_dir of the file"
    )
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="processes of the evaluation")


def run(arguments: argparse.Namespace) -> int:
    """Train, or go on with, the runs; print the table and write the page."""
    from pathlib import Path

    from fp_potential.text_tables import aligned
    from fp_potential.train.bands.config import BandsTrainConfig
    from fp_potential.train.bands.tools.ensemble import MEMBER, ensemble_table
    from fp_potential.train.report.bands_ensemble import write_ensemble_report
    from fp_potential.train.run import train
    from fp_potential.train.training_file import load

    if arguments.seeds < 2:
        raise ValueError(f"--seeds {arguments.seeds}: expected at least 2, for a mean and a spread")
    notes: list[str] = []
    config = load(arguments.config, arguments.overrides, notes)
    if not isinstance(config, BandsTrainConfig):
        raise ValueError(f"{arguments.config}: not a training file of a pseudopotential (model: {{type: bands}})")
    for note in notes:
        print(f"note: {note}")
    folder = Path(arguments.folder or config.run_dir)
    for number in range(arguments.seeds):
        seed = config.training.seed + number
        training = config.training.model_copy(update={"seed": seed})
        print(f"\nseed {seed}: {folder / f'{MEMBER}{seed}'}")
        train(config.model_copy(update={"training": training, "run_dir": str(folder / f"{MEMBER}{seed}")}))
    found = write_ensemble_report(folder, folder / "report.html", arguments.processes)
    print("\n" + aligned(ensemble_table(found)))
    print(f"wrote {folder / 'report.html'}, ensemble_<system>.dat and ensemble_potentials.dat")
    return 0
