"""``fixedpoint eval model.pt files ...``."""

from __future__ import annotations

import argparse
import sys

from fp_potential.cli.scf_options import add_scf_options, given_scf_options

SCF_OPTIONS = (
    "scf_tolerance",
    "num_scf_steps",
    "mixing_parameter",
    "solver",
    "constant_charge",
    "initial_density",
    "initial_fermi_level",
    "use_autograd_forces",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("model", help="model archive (fixedpoint export)")
    parser.add_argument("files", nargs="+", help="extended XYZ files, plain or .gz")
    parser.add_argument(
        "--split", metavar="NAME", help="only frames of this set, by the info key of the training's split"
    )
    parser.add_argument(
        "--by", metavar="KEY", help="info key that gives the rows of the table (default: the training's)"
    )
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="NAME=KEY",
        help="key of the files, in place of the training's: energy=REF_energy (NAME as in data.keys)",
    )
    add_scf_options(parser, SCF_OPTIONS)
    parser.add_argument("--batch_size", type=int, default=16, help="frames per batch")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--output", metavar="FILE", help="write the frames with the predictions (extended XYZ)")
    parser.add_argument("--table", metavar="FILE", help="write the table to a file, too")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate; the exit status is 1 if the SCF of a frame did not converge."""
    import torch

    from fp_potential.train.evaluate import evaluate, write_predictions
    from fp_potential.train.metrics import error_table

    if arguments.batch_size < 1:
        raise ValueError(f"--batch_size {arguments.batch_size}: expected at least 1")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    result = evaluate(
        arguments.model,
        arguments.files,
        given_scf_options(arguments, SCF_OPTIONS),
        arguments.split,
        arguments.key,
        arguments.by,
        arguments.batch_size,
        arguments.device,
        keep=arguments.output is not None,
    )
    for note in result.notes:
        print(note)
    table = error_table(result.errors)
    print(table)
    if arguments.table:
        with open(arguments.table, "w") as file:
            file.write(table + "\n")
    if arguments.output:
        write_predictions(arguments.output, result.predictions)
        print(f"{arguments.output}: {len(result.predictions)} frames with predictions (keys FP_...)")
    failed = result.errors.not_converged()
    if failed:
        print(
            f"the SCF of {failed} of {len(result.frames)} frames did not converge: raise --num_scf_steps",
            file=sys.stderr,
        )
    return 1 if failed else 0
