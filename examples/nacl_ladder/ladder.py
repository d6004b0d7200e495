"""One sodium of a NaCl ladder moves; a distant one is there or not: does the energy know?

    fixedpoint train train.yaml && fixedpoint export run model.pt
    fixedpoint train local.yaml && fixedpoint export run_local local.pt
    python ladder.py model.pt local.pt          # prints the table, writes ladder.png

After Ko et al., Nat. Commun. 12, 398 (2021): taking a neutral sodium from one end of Na9Cl8+ changes charges along the
whole ladder and with them the place where the first sodium rests, 19 Å away. No atom within two cutoffs of the first
changes, so a model of local environments has one curve for both; a model whose density is solved for has two. The
reference along the path is GFN2-xTB (``make_path.py``), the training data are displaced ladders, without the path.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("agg")
import matplotlib.pyplot as plt
from ase import Atoms
from ase.io import read

from fp_potential.calculator import FixedPointCalculator

HERE = Path(__file__).parent
KINDS = {"Na9Cl8+": "with the distant Na", "Na8Cl8+": "without it"}
Curves = dict[str, tuple[np.ndarray, np.ndarray]]


def curves(path: list[Atoms], energies: np.ndarray) -> Curves:
    """Displacements (Å) and energies above the lowest (meV) of each cluster."""
    out = {}
    for kind in KINDS:
        chosen = [number for number, atoms in enumerate(path) if atoms.info["kind"] == kind]
        values = 1000 * energies[chosen]
        out[kind] = (np.array([path[number].info["displacement"] for number in chosen]), values - values.min())
    return out


def energies_of(model: Path, path: list[Atoms], charge: float) -> np.ndarray:
    """Energies along the path (eV), SCF to 1e-8."""
    calculator = FixedPointCalculator(model, total_charge=charge, scf_options={"scf_tolerance": 1e-8})
    return np.array([calculator.get_potential_energy(Atoms(atoms.numbers, atoms.positions)) for atoms in path])


def minimum(displacement: np.ndarray, energy: np.ndarray) -> float:
    """Place of the minimum, from the parabola through the lowest five points (Å)."""
    lowest = int(np.clip(energy.argmin(), 2, len(energy) - 3))
    points = slice(lowest - 2, lowest + 3)
    square, linear, _ = np.polyfit(displacement[points], energy[points], 2)
    return -linear / (2 * square)


def main() -> None:
    """Print the table, draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="the fixed-point potential")
    parser.add_argument("local", type=Path, help="the same without charges")
    parser.add_argument("--output", type=Path, default=HERE / "ladder.png")
    arguments = parser.parse_args()
    path = read(HERE / "path.extxyz.gz", ":")
    reference = curves(path, np.array([atoms.info["REF_energy"] for atoms in path]))
    found = {
        "GFN2-xTB": reference,
        "fixed point": curves(path, energies_of(arguments.model, path, 1.0)),
        "local": curves(path, energies_of(arguments.local, path, 0.0)),
    }
    print(f"{'':<14}{'minimum with':>14}{'without':>10}{'shift [Å]':>11}{'curves differ by':>18}{'error [meV]':>13}")
    figure, panels = plt.subplots(1, 3, figsize=(10, 3.4), sharey=True, layout="constrained")
    for panel, (name, pair) in zip(panels, found.items(), strict=True):
        (x, nine), (_, eight) = pair.values()
        places = minimum(x, nine), minimum(x, eight)
        error = max(float(np.abs(pair[kind][1] - reference[kind][1]).max()) for kind in KINDS)
        print(
            f"{name:<14}{places[0]:>14.3f}{places[1]:>10.3f}{places[1] - places[0]:>11.3f}"
            f"{np.abs(nine - eight).max():>14.1f} meV{error:>13.1f}"
        )
        for (kind, text), colour in zip(KINDS.items(), ("tab:blue", "tab:orange"), strict=True):
            panel.plot(x, reference[kind][1], ".", color=colour, alpha=0.4)
            panel.plot(*pair[kind], color=colour, label=f"{kind}: {text}")
        panel.set(title=name, xlabel="displacement of the first Na [Å]")
    panels[0].set_ylabel("energy above the lowest [meV]")
    panels[0].legend(fontsize=8)
    figure.savefig(arguments.output, dpi=120)
    print(f"{arguments.output.name}: dots are GFN2-xTB in every panel")


if __name__ == "__main__":
    main()
