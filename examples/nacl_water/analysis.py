"""Reads what `in.nacl_water` writes and computes what the report shows.

Files: `steps.dat` (fix ave/time, one row per step), `frames.lammpstrj` (dump custom, sorted by id or not),
`log.lammps`.  Units: fs, K, eV, e, Angstrom, Debye.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DEBYE = 4.803204712570263  # one e*Angstrom in Debye
ELEMENTS = ("O", "H", "Na", "Cl")
MASS = {"H": 1.008, "O": 15.999}
FRAME_COLUMNS = ("element", "xu", "yu", "zu", "charge", "dipole_x", "dipole_y", "dipole_z")


class InputError(Exception):
    """A file of the run is missing or not as expected."""


@dataclass(frozen=True)
class Frame:
    """`elements` (n), `positions` (n, 3) unwrapped, `cell` (3) edges, `charges` (n), `dipoles` (n, 3)."""

    step: int
    elements: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    charges: np.ndarray
    dipoles: np.ndarray

    def vectors(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Minimum-image vectors (len(first), len(second), 3) from atoms `first` to atoms `second`."""
        d = self.positions[second][None] - self.positions[first][:, None]
        return d - self.cell * np.round(d / self.cell)


def read_steps(path: Path) -> dict[str, np.ndarray]:
    """Columns of a file of fix ave/time, named as in its second line (`v_` stripped)."""
    lines = _lines(path)
    header = next((line for line in lines if line.startswith("# TimeStep")), None)
    if header is None:
        raise InputError(f"{path}: no line '# TimeStep ...' of fix ave/time")
    names = [name.removeprefix("v_") for name in header[1:].split()]
    rows = [line.split() for line in lines if not line.startswith("#")]
    rows = [row for row in rows if len(row) == len(names)]  # a run cut short leaves half a line
    if len(rows) < 2:
        raise InputError(f"{path}: {len(rows)} complete rows, expected at least 2: did the run stop early?")
    return dict(zip(names, np.array(rows, float).T, strict=True))


def read_frames(path: Path) -> list[Frame]:
    """Frames of a dump in an orthogonal box with at least the columns of FRAME_COLUMNS."""
    lines, frames, at = _lines(path), [], 0
    while at < len(lines):
        count = int(lines[at + 3])
        if at + 9 + count > len(lines):
            break  # the last frame of a run cut short
        cell = np.diff(np.array([row.split()[:2] for row in lines[at + 5 : at + 8]], float))[:, 0]
        names = lines[at + 8].split()[2:]
        if missing := [name for name in FRAME_COLUMNS if name not in names]:
            raise InputError(f"{path}: the dump lacks {', '.join(missing)} (see dump_modify colname)")
        order = [names.index(name) for name in FRAME_COLUMNS]
        rows = [line.split() for line in lines[at + 9 : at + 9 + count]]
        rows.sort(key=lambda row: int(row[names.index("id")]))
        values = np.array([[row[k] for k in order[1:]] for row in rows], float)
        elements = np.array([row[order[0]] for row in rows])
        step = int(lines[at + 1])
        frames.append(Frame(step, elements, values[:, :3], cell, values[:, 3], values[:, 4:]))
        at += 9 + count
    if not frames:
        raise InputError(f"{path}: no complete frame")
    return frames


def reference_frames(folder: Path) -> list[Frame]:
    """The periodic frames of the reference data (`box*` kinds), to compare charges and dipoles with."""
    from ase.io import iread

    frames = []
    for path in sorted(folder.glob("*box*.extxyz.gz")):
        for atoms in iread(path, ":", format="extxyz"):
            multipoles = atoms.arrays["REF_atomic_multipoles"]  # q, d_y, d_z, d_x
            elements = np.array(atoms.get_chemical_symbols())
            dipoles = multipoles[:, [3, 1, 2]]
            frames.append(Frame(0, elements, atoms.positions, atoms.cell.lengths(), multipoles[:, 0], dipoles))
    return frames


def run_summary(path: Path) -> dict[str, float]:
    """Ranks, threads, seconds and steps of the last run in a log of LAMMPS."""
    text = "\n".join(_lines(path))
    pattern = r"Loop time of (\S+) on \d+ procs for (\d+) steps with (\d+) atoms"
    loops = re.findall(pattern, text)
    ranks = re.findall(r"(\d+) MPI tasks? x (\d+) OpenMP threads?", text)
    if not loops:
        raise InputError(f"{path}: no 'Loop time' line: the run did not finish")
    seconds, steps, atoms = loops[-1]
    tasks, threads = ranks[-1] if ranks else ("1", "1")
    return {
        "seconds": float(seconds),
        "steps": int(steps),
        "atoms": int(atoms),
        "ranks": int(tasks),
        "threads": int(threads),
    }


def charges_by_element(frames: list[Frame]) -> dict[str, np.ndarray]:
    """All atomic charges (e) of each element."""
    elements = np.concatenate([frame.elements for frame in frames])
    charges = np.concatenate([frame.charges for frame in frames])
    return {element: charges[elements == element] for element in ELEMENTS if element in elements}


def water_dipoles(frames: list[Frame]) -> np.ndarray:
    """Magnitudes (Debye) of sum(q r + d) over each water about its centre of mass.

    A hydrogen belongs to the nearest oxygen; an oxygen that does not have two is left out.
    """
    found = []
    for frame in frames:
        oxygens, hydrogens = (np.flatnonzero(frame.elements == e) for e in ("O", "H"))
        bonds = frame.vectors(oxygens, hydrogens)
        owner = np.argmin((bonds**2).sum(-1), axis=0)
        for k in np.flatnonzero(np.bincount(owner, minlength=len(oxygens)) == 2):
            mine = np.flatnonzero(owner == k)
            atoms = np.concatenate([[oxygens[k]], hydrogens[mine]])
            places = np.vstack([np.zeros(3), bonds[k, mine]])
            masses = np.array([MASS[e] for e in frame.elements[atoms]])
            places -= masses @ places / masses.sum()
            found.append(frame.charges[atoms] @ places + frame.dipoles[atoms].sum(0))
    return DEBYE * np.linalg.norm(np.array(found).reshape(-1, 3), axis=1)


def radial_distribution(frames: list[Frame], first: str, second: str, width: float = 0.1):
    """Bin centres r (Angstrom), g(r) and the running coordination number of `second` around `first`."""
    r_max = min(frame.cell.min() for frame in frames) / 2
    edges = np.arange(0.0, r_max, width)
    counts = np.zeros(len(edges) - 1)
    ideal = np.zeros(len(edges) - 1)
    centres = 0
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    for frame in frames:
        a, b = np.flatnonzero(frame.elements == first), np.flatnonzero(frame.elements == second)
        distances = np.linalg.norm(frame.vectors(a, b), axis=-1)
        if first == second:
            distances = distances[~np.eye(len(a), dtype=bool)]
        counts += np.histogram(distances, edges)[0]
        partners = len(b) - (first == second)
        ideal += len(a) * partners / frame.cell.prod() * shells
        centres += len(a)
    g = np.divide(counts, ideal, out=np.zeros_like(counts), where=ideal > 0)
    return 0.5 * (edges[1:] + edges[:-1]), g, np.cumsum(counts) / max(centres, 1)


def first_shell(r: np.ndarray, g: np.ndarray, coordination: np.ndarray) -> tuple[float, float, float]:
    """Position and height of the first peak of g(r) and the coordination number up to the minimum after it.

    The peak is the largest value, the minimum the lowest of a running mean within 1.2 Angstrom beyond it.
    """
    peak = int(np.argmax(g))
    smooth = np.convolve(g, np.ones(5) / 5, mode="same")
    stop = int(np.searchsorted(r, r[peak] + 1.2))
    valley = peak + 2 + int(np.argmin(smooth[peak + 2 : max(stop, peak + 3)]))
    return float(r[peak]), float(g[peak]), float(coordination[min(valley, len(r) - 1)])


def drift(time_fs: np.ndarray, energy: np.ndarray, atoms: int) -> tuple[float, float]:
    """Slope of the conserved energy (meV/atom/ps) and its fluctuation about the line (meV/atom)."""
    milli = 1e3 * (energy - energy[0]) / atoms
    slope, offset = np.polyfit(time_fs * 1e-3, milli, 1)
    return float(slope), float(np.std(milli - slope * time_fs * 1e-3 - offset))


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(f"{path} does not exist: run `mpirun -n 2 lmp -in in.nacl_water` first")
    return path.read_text().splitlines()
