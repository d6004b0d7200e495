"""``fixedpoint export run/ model.pt``."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("run", help="run folder, or a checkpoint file")
    parser.add_argument("model", help="archive to write")
    parser.add_argument(
        "--checkpoint",
        default="latest",
        metavar="latest|best|stage_N",
        help="which checkpoint of the run folder (best: smallest validation loss of its last stage)",
    )
    parser.add_argument(
        "--weights",
        default="average",
        choices=("average", "last"),
        help="running average of the weights, or those of the last step",
    )


def run(arguments: argparse.Namespace) -> int:
    """Export."""
    from fp_potential.export import export_model
    from fp_potential.train.archive import find_checkpoint, load_trained, training_summary

    path = find_checkpoint(arguments.run, arguments.checkpoint)
    model, state = load_trained(path, averaged=arguments.weights == "average")
    export_model(model, arguments.model, training=training_summary(state, arguments.weights))
    print(f"{arguments.model}: written from {path} ({state['epoch']} epochs, {arguments.weights} weights)")
    return 0
