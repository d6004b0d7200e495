"""``fixedpoint clone``: fit models to a known one point by point, compare them with it self-consistently."""

from __future__ import annotations

import argparse

#: sizes with --quick: to see that everything works
QUICK = {"train_frames": 8, "test_frames": 4, "seeds": [0], "density_epochs": 10, "force_epochs": 2}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="section.option=value",
        help="options of the clones' training files, for example model.num_channels=16",
    )
    parser.add_argument("--run", metavar="DIR", default="clone", help="folder of the results; finished clones stay")
    parser.add_argument(
        "--teacher",
        choices=("charges", "both", "split_charges", "mixture"),
        default="charges",
        help="charge equilibration, the same with dipoles, split charges, these with charge-equilibrated copper",
    )
    names = ("constrained", "unconstrained", "symmetric", "split_charges", "insulator")
    parser.add_argument("--clones", nargs="+", choices=names, default=list(names), help="updates to train")
    parser.add_argument(
        "--structures", nargs="+", metavar="FILE", default=[], help="structures to label (default: random ones)"
    )
    parser.add_argument("--train_frames", type=int, default=64, help="structures to train on")
    parser.add_argument("--test_frames", type=int, default=16, help="structures to compare on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the initial weights")
    parser.add_argument("--density_epochs", type=int, default=80, help="epochs with losses on densities and energies")
    parser.add_argument("--force_epochs", type=int, default=40, help="further epochs with forces, too")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK}, whatever else is given")
    parser.add_argument("--restart", action="store_true", help="train again what is there")


def run(arguments: argparse.Namespace) -> int:
    """Clone and print the table."""
    from fp_potential.cloning import CloningOptions, clone, table
    from fp_potential.train.config.schema import validate

    names = (
        "teacher",
        "clones",
        "structures",
        "train_frames",
        "test_frames",
        "seeds",
        "density_epochs",
        "force_epochs",
    )
    given = {name: getattr(arguments, name) for name in names}
    given |= {"overrides": arguments.overrides, "run_dir": arguments.run} | (QUICK if arguments.quick else {})
    options = validate(given, CloningOptions, "clone")
    rows = clone(options, restart=arguments.restart)
    print(table(rows))
    print(f"{options.run_dir}: structures, runs, table.txt, cloning.csv and cloning.json")
    return 0
