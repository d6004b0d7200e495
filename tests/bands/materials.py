"""Crystals and pseudopotentials of the tests of bands: parameters as distributed with the published method."""

from pathlib import Path

import numpy as np
import torch

from fp_potential.bands import Crystal, Pseudopotential, Terms, ZeroForm

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "deeppseudopot"

#: a0 … a3 of the Zunger form
ZUNGER = {
    "Cd": (-31.4518, 1.3890, -0.0502, 1.6603),
    "Se": (8.4921, 4.3513, 1.3600, 0.3227),
    "In": (50.61980368, 2.16277701, 3.04453741, 0.54417263),
    "As": (25.80944629, 2.58859458, 1.58196225, 0.51424374),
    "Ga": (50.77526879, 2.29527553, 3.72038796, 0.59163580),
    "P": (27.44798360, 2.59141679, 1.66089229, 0.47417733),
    "Si": (-31.450808, 1.665222, -0.16198998, 1.672854),
    "Pb": (88.83, 2.605, 4.2869, 0.5195, 0.0, 7.7899, 1.064, -0.0080800, 0.05),
    "I": (113.756, 2.1413, 2.8422, 0.5671, 0.0, 3.0344, 0.0451, 0.0022, 0.05),
    "Cs": (0.0, 0.73523927, 2.46919399, 1.33888287),
}
FCC = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
GAMMA, L, X, GENERAL = (
    torch.tensor([k], dtype=torch.float64) for k in ([0, 0, 0], [0.5, 0.5, 0.5], [0, 0.5, 0.5], [0.13, -0.21, 0.37])
)


def zincblende(cation: str = "Cd", anion: str = "Se", scale: float = 11.4485278) -> Crystal:
    return Crystal(scale * FCC, (cation, anion), np.array([[0.125] * 3, [-0.125] * 3]))


def perovskite(scale: float = 11.884) -> Crystal:
    """CsPbI3, cubic."""
    positions = np.array([[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5], [0.5, 0.5, 0.5]])
    return Crystal(scale * np.eye(3), ("Pb", "I", "I", "I", "Cs"), positions)


def parameters(species: tuple[str, ...]) -> torch.Tensor:
    values = torch.zeros(len(species), 9, dtype=torch.float64)
    for row, kind in zip(values, species):
        row[: len(ZUNGER[kind])] = torch.tensor(ZUNGER[kind], dtype=torch.float64)
    return values


def analytic(crystal: Crystal, **terms: bool) -> Pseudopotential:
    """The Zunger form of the crystal's kinds, and further terms."""
    kinds = crystal.kinds
    return Pseudopotential(kinds, ZeroForm(len(kinds)), parameters(kinds), Terms(analytic=True, **terms))
