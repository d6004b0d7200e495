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
    parser.add_argument(
        "--dtype",
        default="float64",
        choices=("float64", "float32"),
        help="precision the archive runs in, whatever it was trained in",
    )


def run(arguments: argparse.Namespace) -> int:
    """Export."""
    import torch

    from fp_potential.export import export_model
    from fp_potential.train.potential.trained import find_checkpoint, load_trained, training_summary

    path = find_checkpoint(arguments.run, arguments.checkpoint)
    dtype = getattr(torch, arguments.dtype)
    model, state = load_trained(path, arguments.weights == "average", dtype)
    kind = arguments.weights if state["average"] is not None else "last"
    if kind != arguments.weights:
        print(
            "note: this run has no average of its weights (training.ema_decay: null): those of the last step are taken"
        )
    export_model(model, arguments.model, training=training_summary(state, kind))
    weights = f"{state['epoch']} epochs, {kind} weights, {arguments.dtype}"
    print(f"{arguments.model}: written from {path} ({weights})")
    return 0
