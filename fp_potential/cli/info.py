"""``fixedpoint info``: what a model archive, a checkpoint, start weights, a run or a prepared set holds."""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "model",
        help="model archive (not run), checkpoint, run folder, folder of fixedpoint prepare, weights of import-mace",
    )
    parser.add_argument("--json", action="store_true", help="print the metadata as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print what there is."""
    import json

    if (Path(arguments.model) / "manifest.json").is_file():
        metadata = prepared_folder(arguments.model)
    elif Path(arguments.model).is_dir():
        metadata = _run_folder(arguments.model)
    else:
        metadata = _file(arguments.model)
    print(json.dumps(metadata, indent=1) if arguments.json else text(metadata))
    return int(bool(metadata.get("file", {}).get("altered")))


def _file(path: str) -> dict[str, Any]:
    """What an archive, start weights or a checkpoint hold; nothing of an archive is run."""
    from fp_potential.archive import is_archive, read_contents

    if not Path(path).is_file() or is_archive(path):
        return _archive(path)
    from fp_potential.train.potential.initialise.mace_weights import stored_weights
    from fp_potential.train.trainer import checkpoint

    weights = stored_weights(path)
    if weights:
        return weights.summary()
    if zipfile.is_zipfile(path):
        return {"checkpoint of a training": path, **_checkpoint(checkpoint.load(Path(path)))}
    return read_contents(path).metadata  # says what is wrong with it


def _archive(path: str) -> dict[str, Any]:
    from fp_potential.archive import read_contents

    contents = read_contents(path)
    state = "as it was exported" if contents.checked else "none, exported by an earlier version"
    file: dict[str, Any] = {
        "weights and constants": f"{contents.size / 1e6:.1f} MB in {contents.tensors} tensors",
        "checksums": "DIFFER: damaged or edited, programs will refuse it" if contents.altered else state,
    }
    if contents.altered:
        file["altered"] = contents.altered
    return {**contents.metadata, "file": file}


def text(metadata: dict[str, Any]) -> str:
    """Metadata as indented lines."""
    return "\n".join(_lines(metadata))


def prepared_folder(folder: str) -> dict[str, Any]:
    """What a prepared set holds."""
    from fp_potential.train.data.prepared_set import SETS, read_manifest

    manifest = read_manifest(folder)
    sets = {}
    for name in SETS:
        found = manifest["statistics"].get(name)
        if found is None:
            continue
        sets[name] = {
            "frames": found["frames"],
            "atoms": f"{found['atoms']}, at most {found['largest']} in a frame",
            "elements": ", ".join(f"{symbol} {number}" for symbol, number in found["elements"].items()),
            "labels": ", ".join(f"{label} {number}" for label, number in found["labels"].items()),
            "kinds": ", ".join(f"{kind} {number}" for kind, number in found["kinds"].items()),
            "neighbours": f"{found['edges'] / found['atoms']:.2f} on average",
            "shortest distances [Å]": ", ".join(
                f"{pair} {distance:.3f}"
                for pair, distance in found["nearest"].items()
                if pair.split("-") == sorted(pair.split("-"))
            ),
        }
    return {
        "prepared set": folder,
        "version": manifest["version"],
        "cutoff": f"{manifest['cutoff']:g} Å",
        "keys": {name: key for name, key in manifest["keys"].items() if key is not None},
        "fingerprint": manifest["fingerprint"],
        "size": f"{sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e6:.1f} MB",
        "files": [source["path"] for source in manifest["sources"]],
        "notes": manifest["notes"],
        **sets,
    }


def _run_folder(folder: str) -> dict[str, Any]:
    from fp_potential.train.potential.trained import find_checkpoint
    from fp_potential.train.trainer import checkpoint

    return {"run": folder, **_checkpoint(checkpoint.load(find_checkpoint(folder)))}


def _checkpoint(state: dict[str, Any]) -> dict[str, Any]:
    from ase.data import chemical_symbols

    from fp_potential.train.potential.trained import training_summary

    planned = sum(stage["epochs"] for stage in state["config"]["train_schedule"])
    return {
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
        elif isinstance(content, list) and any(" " in str(item) for item in content):
            lines += [f"{indent}{name}:", *(f"{indent}  - {item}" for item in content)]
        else:
            shown = " ".join(map(str, content)) if isinstance(content, list) else content
            lines.append(f"{indent}{name}: {shown}")
    return lines


def _pairs(item: dict[str, Any]) -> list[str]:
    return [f"{name} {content}" for name, content in item.items()]
