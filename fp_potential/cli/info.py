"""``fixedpoint info model.pt``: metadata of a model archive or start weights, or the state of a run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("model", help="model archive, run folder, or weights of import-mace")
    parser.add_argument("--json", action="store_true", help="print the metadata as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print what there is."""
    import json

    if Path(arguments.model).is_dir():
        metadata = _run_folder(arguments.model)
    else:
        from fp_potential.export import read_metadata
        from fp_potential.train.mace_weights import stored_weights

        weights = stored_weights(arguments.model)
        metadata = weights.summary() if weights else read_metadata(arguments.model)
    print(json.dumps(metadata, indent=1) if arguments.json else "\n".join(_lines(metadata)))
    return 0


def _run_folder(folder: str) -> dict[str, Any]:
    from ase.data import chemical_symbols

    from fp_potential.train import checkpoint
    from fp_potential.train.archive import find_checkpoint, training_summary

    state = checkpoint.load(find_checkpoint(folder))
    planned = sum(stage["epochs"] for stage in state["config"]["train_schedule"])
    return {
        "run": folder,
        "finished epochs": f"{state['epoch']} of {planned}",
        "elements": [chemical_symbols[number] for number in state["problem"]["elements"]],
        "statistics": state["problem"]["statistics"],
        "model": state["config"]["model"],
        "training": training_summary(state, "average"),
    }


def _lines(value: dict[str, Any], indent: str = "") -> list[str]:
    lines: list[str] = []
    for name, content in value.items():
        if isinstance(content, dict) and content:
            lines += [f"{indent}{name}:", *_lines(content, indent + "  ")]
        elif isinstance(content, list) and content and isinstance(content[0], dict):
            lines += [f"{indent}{name}:", *(f"{indent}  - {', '.join(_pairs(item))}" for item in content)]
        else:
            shown = " ".join(map(str, content)) if isinstance(content, list) else content
            lines.append(f"{indent}{name}: {shown}")
    return lines


def _pairs(item: dict[str, Any]) -> list[str]:
    return [f"{name} {content}" for name, content in item.items()]
