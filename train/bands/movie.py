"""An animation of a run: its pictures of bands and of potentials, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

#: time of a picture, ms
FRAME = 400
KINDS = ("plotBS", "plotPP")


def write_movies(folder: Path) -> list[str]:
    """``movie_plotBS.gif`` and ``movie_plotPP.gif`` from the pictures ``epoch_N_*.png`` of a run; their names.

    The order is that of the epochs; a kind of which there are fewer than two pictures has no animation.
    """
    from PIL import Image

    written = []
    for kind in KINDS:
        found = sorted(folder.glob(f"epoch_*_{kind}.png"), key=_epoch)
        if len(found) < 2:
            continue
        frames = [Image.open(path).convert("RGB") for path in found]
        # pictures are cut to what is drawn: all on a sheet of the largest size
        width, height = max(frame.width for frame in frames), max(frame.height for frame in frames)
        sheets = []
        for frame in frames:
            sheet = Image.new("RGB", (width, height), "white")
            sheet.paste(frame, (0, 0))
            sheets.append(sheet)
        name = f"movie_{kind}.gif"
        sheets[0].save(folder / name, save_all=True, append_images=sheets[1:], duration=FRAME, loop=0)
        written.append(name)
    return written


def _epoch(path: Path) -> int:
    found = re.match(r"epoch_(\d+)_", path.name)
    return int(found[1]) if found else -1
