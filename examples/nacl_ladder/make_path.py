"""Labels of the path: GFN2-xTB (tblite) energies of Na9Cl8+ and Na8Cl8+ while one sodium is moved.

    python make_path.py            # writes path.extxyz.gz; a minute

The Na9Cl8+ ladder is relaxed; Na8Cl8+ is the same without its last atom, 19 Å from the one that moves. That one, the
first, goes from -0.3 to +0.3 Å along y, toward or away from the chlorine beside it; everything else stays.
"""

import sys
from pathlib import Path

import numpy as np
from ase.io import read, write
from ase.optimize import BFGS

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "nacl_water"))

from xtb_labels import Xtb, label  # noqa: E402 (beside the path above)

DISPLACEMENTS = np.linspace(-0.3, 0.3, 25)
CHARGE = 1.0


def main() -> None:
    """Relax, move, label, write."""
    frames = [a for a in read(HERE / "data" / "xtb_nacl.extxyz.gz", ":") if a.info["kind"] == "Na9Cl8+"]
    nine = frames[0].copy()
    nine.positions = np.mean([a.positions for a in frames], axis=0)
    nine.calc = Xtb(CHARGE)
    BFGS(nine, logfile=None).run(fmax=0.005, steps=300)
    out = []
    for kind, atoms in (("Na9Cl8+", nine), ("Na8Cl8+", nine[:-1])):
        for displacement in DISPLACEMENTS:
            moved = atoms.copy()
            moved.positions[0, 1] += displacement
            out.append(label(moved, CHARGE, kind=kind, displacement=round(float(displacement), 6)))
    write(HERE / "path.extxyz.gz", out, format="extxyz")


if __name__ == "__main__":
    main()
