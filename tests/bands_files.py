"""Small training files of pseudopotentials on the disk, with reference bands that another potential has."""

from pathlib import Path
from typing import Any

import yaml

from bands_training import bands_config, bands_problem


def bands_file(path: Path, *stages: dict[str, Any], shift: float = 0.02, **options: Any) -> Path:
    """A training file at ``path``, in whose folder ``run`` is that of the run (`bands_config`)."""
    config = bands_config(*stages, run_dir=str(path.parent / "run"), **options)
    content = config.model_dump(mode="json", exclude_unset=True)
    for system, own in zip(content["systems"], bands_problem(config, shift).systems, strict=True):
        rows = zip(own.data.path.tolist(), own.reference.tolist(), strict=True)
        system["bands"] = [[length, *energies] for length, energies in rows]
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path
