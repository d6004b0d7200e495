"""A cheap flexible water and ion force field: it supplies thermal geometries, never a label.

Water is SPC/Fw (Wu, Tepper and Voth, J. Chem. Phys. 124, 024503, 2006), the ions are those fitted by Joung
and Cheatham for SPC/E (J. Phys. Chem. B 112, 9020, 2008) with Lorentz-Berthelot mixing, and the Coulomb
energy is a full Ewald sum.  The equilibrium O-H length is a parameter because quantum-chemical bonds are
shorter than SPC/Fw's.

Atoms come as O H H, O H H, ..., then the ions.  Units: eV, Angstrom, e.
"""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize import FIRE
from scipy.special import erf, erfc

KCAL = units.kcal / units.mol
COULOMB = units.Hartree * units.Bohr  # e^2 / (4 pi eps0) in eV Angstrom
CHARGES = {"O": -0.82, "H": 0.41, "Na": 1.0, "Cl": -1.0}
SIGMA = {"O": 3.165492, "Na": 2.159538, "Cl": 4.830453}
EPSILON = {"O": 0.1554253 * KCAL, "Na": 0.3526418 * KCAL, "Cl": 0.0127850 * KCAL}
BOND_STIFFNESS = 1059.162 * KCAL  # energy k/2 (r - r0)^2, eV/Angstrom^2
ANGLE_STIFFNESS = 75.90 * KCAL  # energy k/2 (theta - theta0)^2, eV/rad^2
WATER_VOLUME = 18.01528 / 0.99705 / 0.602214  # Angstrom^3 per molecule in the liquid at 298 K
ION_PAIR_VOLUME = 28.0  # Angstrom^3, partial volume of NaCl in water


class WaterAndIons(Calculator):
    """Energy (eV) and forces (eV/Angstrom) of flexible waters and monatomic ions in one cubic periodic box.

    Args:
        bond_length: equilibrium O-H distance, Angstrom (SPC/Fw: 1.012).
        angle: equilibrium H-O-H angle, degrees (SPC/Fw: 113.24).
        ion_distance: if given, a spring of 1 eV/Angstrom^2 holds the first Na+ - Cl- pair at this distance,
        Angstrom.
    """

    implemented_properties: ClassVar = ["energy", "forces"]

    def __init__(self, bond_length: float = 1.012, angle: float = 113.24, ion_distance: float | None = None):
        super().__init__()
        self.bond_length, self.angle, self.ion_distance = bond_length, np.deg2rad(angle), ion_distance
        self.topology: tuple | None = None

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if self.topology is None or self.topology[0] != (len(atoms), atoms.cell[0, 0]):
            self._prepare(atoms)
        forces = np.zeros((len(atoms), 3))
        energy = self._bonds_and_angles(atoms.positions, forces)
        energy += self._lennard_jones(atoms.positions, forces)
        energy += self._coulomb(atoms.positions, forces)
        energy += self._ion_spring(atoms, forces)
        self.results = {"energy": energy, "forces": forces}

    def _prepare(self, atoms: Atoms) -> None:
        """Everything that depends on the species and the box only."""
        length, symbols = atoms.cell[0, 0], atoms.get_chemical_symbols()
        self.length = length
        self.n_waters = symbols.count("O")
        self.charges = np.array([CHARGES[s] for s in symbols])
        self.heavy = np.array([i for i, s in enumerate(symbols) if s != "H"])
        sigma = np.array([SIGMA[symbols[i]] for i in self.heavy])
        epsilon = np.array([EPSILON[symbols[i]] for i in self.heavy])
        self.sigma, self.epsilon = 0.5 * (sigma[:, None] + sigma), np.sqrt(epsilon[:, None] * epsilon)
        shifts = (-1, 0, 1) if length < 12 else (0,)
        self.images = length * np.array([(i, j, k) for i in shifts for j in shifts for k in shifts], float)
        self.lj_cutoff = min(length if length < 12 else length / 2, 9.0)
        self.cutoff = length / 2
        self.alpha = 2.75 / self.cutoff
        kmax = 6.0 * self.alpha
        n = range(-int(kmax * length / (2 * np.pi)) - 1, int(kmax * length / (2 * np.pi)) + 2)
        half = [(a, b, c) for a in n for b in n for c in n if (a, b, c) > (0, 0, 0)]
        k = 2 * np.pi / length * np.array(half)
        self.k = k[(k**2).sum(1) < kmax**2]  # the other half is the mirror image
        k2 = (self.k**2).sum(1)
        self.k_weight = 8 * np.pi / length**3 * np.exp(-k2 / (4 * self.alpha**2)) / k2
        molecule_of = np.arange(len(atoms))
        molecule_of[: 3 * self.n_waters] = np.repeat(np.arange(self.n_waters), 3) - len(atoms)
        self.bonded = molecule_of[:, None] == molecule_of
        self.topology = ((len(atoms), length),)

    def _nearest(self, vectors):
        return vectors - self.length * np.round(vectors / self.length)

    def _bonds_and_angles(self, x, forces):
        m = 3 * self.n_waters
        a, b = self._nearest(x[1:m:3] - x[0:m:3]), self._nearest(x[2:m:3] - x[0:m:3])
        ra, rb = np.linalg.norm(a, axis=1)[:, None], np.linalg.norm(b, axis=1)[:, None]
        cosine = np.clip((a * b).sum(1, keepdims=True) / (ra * rb), -1 + 1e-9, 1 - 1e-9)
        bend = np.arccos(cosine) - self.angle
        slope = ANGLE_STIFFNESS * bend / np.sqrt(1 - cosine**2)  # -dE/dcos
        fa = -BOND_STIFFNESS * (ra - self.bond_length) * a / ra + slope * (b / (ra * rb) - cosine * a / ra**2)
        fb = -BOND_STIFFNESS * (rb - self.bond_length) * b / rb + slope * (a / (ra * rb) - cosine * b / rb**2)
        forces[1:m:3] += fa
        forces[2:m:3] += fb
        forces[0:m:3] -= fa + fb
        stretch = ((ra - self.bond_length) ** 2 + (rb - self.bond_length) ** 2).sum()
        return 0.5 * BOND_STIFFNESS * stretch + 0.5 * ANGLE_STIFFNESS * (bend**2).sum()

    def _lennard_jones(self, x, forces):
        h = x[self.heavy]
        d = self._nearest(h[:, None] - h)[:, :, None] + self.images
        r2 = (d**2).sum(-1)
        inside = (r2 > 1e-6) & (r2 < self.lj_cutoff**2)
        s6 = np.where(inside, (self.sigma[:, :, None] ** 2 / np.where(inside, r2, 1.0)) ** 3, 0.0)
        scale = 24 * self.epsilon[:, :, None] * (2 * s6**2 - s6) / np.where(inside, r2, 1.0)
        forces[self.heavy] += (scale[..., None] * d).sum((1, 2))
        return 2 * (self.epsilon[:, :, None] * (s6**2 - s6)).sum()

    def _coulomb(self, x, forces):
        q, alpha = self.charges, self.alpha
        d = self._nearest(x[:, None] - x)
        r = np.sqrt((d**2).sum(-1)) + np.eye(len(x))
        qq = COULOMB * q[:, None] * q
        np.fill_diagonal(qq, 0.0)
        kernel = np.where(self.bonded, -erf(alpha * r), np.where(r < self.cutoff, erfc(alpha * r), 0.0)) / r
        gauss = 2 * alpha / np.sqrt(np.pi) * np.exp(-((alpha * r) ** 2))
        near = self.bonded | (r < self.cutoff)
        forces += ((qq * (kernel + gauss * near) / r**2)[:, :, None] * d).sum(1)
        phase = self.k @ x.T
        cos, sin = np.cos(phase), np.sin(phase)
        sc, ss = cos @ q, sin @ q
        # (k, n): derivative of |S|^2 / 2 with respect to the phase of atom n
        turn = (self.k_weight[:, None] * (sin * sc[:, None] - cos * ss[:, None])) * q
        forces += COULOMB * (turn.T @ self.k)
        reciprocal = 0.5 * COULOMB * (self.k_weight * (sc**2 + ss**2)).sum()
        return 0.5 * (qq * kernel).sum() + reciprocal - COULOMB * alpha / np.sqrt(np.pi) * (q**2).sum()

    def _ion_spring(self, atoms, forces):
        if self.ion_distance is None:
            return 0.0
        symbols = atoms.get_chemical_symbols()
        i, j = symbols.index("Na"), symbols.index("Cl")
        d = self._nearest(atoms.positions[i] - atoms.positions[j])
        r = np.linalg.norm(d)
        f = -(r - self.ion_distance) * d / r
        forces[i] += f
        forces[j] -= f
        return 0.5 * (r - self.ion_distance) ** 2


def solution_box(n_waters: int, n_pairs: int, rng: np.random.Generator, density_scale: float = 1.0) -> Atoms:
    """Waters with random orientation and ions on randomly chosen sites of a grid, in a cubic box.

    The volume is that of the liquid at 298 K divided by `density_scale`.
    """
    length = ((n_waters * WATER_VOLUME + n_pairs * ION_PAIR_VOLUME) / density_scale) ** (1 / 3)
    total = n_waters + 2 * n_pairs
    side = int(np.ceil(total ** (1 / 3) - 1e-9))
    grid = np.array([(i, j, k) for i in range(side) for j in range(side) for k in range(side)])
    sites = (grid[rng.permutation(len(grid))[:total]] + 0.5) * length / side
    atoms = Atoms(cell=[length] * 3, pbc=True)
    for site in sites[:n_waters]:
        water = molecule("H2O")
        water.rotate(rng.uniform(0, 360), rng.normal(size=3))
        water.translate(site - water.get_center_of_mass())
        atoms += water
    for symbol, site in zip(["Na", "Cl"] * n_pairs, sites[n_waters:], strict=True):
        atoms += Atoms(symbol, [site])
    return atoms


def molecules_whole(atoms: Atoms, longest: float = 1.35, nearest: float = 0.75) -> bool:
    """Whether both H of every water are within `longest` of their own O and no two atoms nearer than `nearest` (A)."""
    distances = atoms.get_all_distances(mic=bool(atoms.pbc.any()))
    oxygens = np.flatnonzero(atoms.numbers == 8)
    bonds = np.concatenate([distances[oxygens, oxygens + 1], distances[oxygens, oxygens + 2]])
    return bool(bonds.max() < longest and (distances + 10 * np.eye(len(atoms))).min() > nearest)


def surroundings(box: Atoms, centre: int, waters: int) -> Atoms:
    """The nearest ``waters`` waters of an atom, itself included, and the ions that are nearer than the last of them."""
    oxygens, ions = np.flatnonzero(box.numbers == 8), np.flatnonzero(np.isin(box.numbers, (11, 17)))
    sites = np.concatenate([oxygens, ions])
    order = sites[np.argsort(box.get_distances(centre, sites, mic=True))]
    last = np.flatnonzero(np.isin(order, oxygens))[waters - 1]
    chosen = [int(site) for site in order[: last + 1]]
    members = [k for site in chosen if box.numbers[site] == 8 for k in (site, site + 1, site + 2)]
    members += [site for site in chosen if box.numbers[site] != 8]
    return Atoms(box.numbers[members], box.get_distances(centre, members, mic=True, vector=True))


def trajectory(
    atoms: Atoms,
    calculator: Calculator,
    temperature: float,
    n_frames: int,
    rng: np.random.Generator,
    equilibration_steps: int = 2000,
    steps_between: int = 400,
    relax: int = 300,
) -> Iterator[Atoms]:
    """Langevin MD (0.5 fs, K) after at most `relax` steps of minimisation; copies of `n_frames` snapshots.

    Raises RuntimeError when a molecule comes apart or two atoms collide.
    """
    atoms.calc = calculator
    FIRE(atoms, logfile=None).run(fmax=0.5, steps=relax)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    dynamics = Langevin(
        atoms, 0.5 * units.fs, temperature_K=temperature, friction=0.02 / units.fs, rng=rng, fixcm=False
    )
    dynamics.run(equilibration_steps)
    for _ in range(n_frames):
        dynamics.run(steps_between)
        if not molecules_whole(atoms):
            raise RuntimeError("a molecule came apart or two atoms collided: lower the temperature or the density")
        yield atoms.copy()
