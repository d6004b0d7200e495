"""Archives that were changed after their export."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from fp_potential.archive import CHECKSUMS_FILE, METADATA_FILE, seal


def edited(source: Path, target: Path, sealed: bool = True, **changes: Any) -> Path:
    """A copy with other metadata: with checksums that fit again, or with none."""
    bare = target.with_suffix(".bare")
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(bare, "w", zipfile.ZIP_STORED) as new:
        for item in old.infolist():
            content = old.read(item)
            if item.filename.endswith(METADATA_FILE):
                content = json.dumps(json.loads(content) | changes).encode()
            if not item.filename.endswith(CHECKSUMS_FILE):
                new.writestr(item.filename, content)
    if sealed:
        seal(bare, target)
        bare.unlink()
    else:
        bare.replace(target)
    return target
