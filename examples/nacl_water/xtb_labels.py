"""GFN2-xTB reference labels from tblite, in the keys of docs/data.md.

Units written: eV, eV/Angstrom, e, e*Angstrom, V/Angstrom.  Periodic frames are computed at the Gamma point.
"""

import os
from typing import ClassVar

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from tblite import interface, library
from tblite.exceptions import TBLiteRuntimeError

HARTREE, BOHR = units.Hartree, units.Bohr
FIELD_UNIT = HARTREE / BOHR  # V/Angstrom in one atomic unit of field
ELECTRONIC_KT = 9.5e-4  # Hartree: 300 K
VALENCE_ELECTRONS = {1: 1, 8: 6, 11: 1, 17: 7}  # of GFN2-xTB, by atomic number
LABEL_FAILURES = (TBLiteRuntimeError,)


def single_point(atoms: Atoms, charge: float = 0.0, field=None, multipoles: bool = True, unpaired: int = 0):
    """tblite's result for `atoms`; if the self-consistency fails it is tried again with slow mixing."""
    lattice = {}
    if atoms.pbc.any():
        lattice = {"lattice": np.array(atoms.cell) / BOHR, "periodic": np.array(atoms.pbc)}
    calculator = interface.Calculator(
        "GFN2-xTB", atoms.numbers, atoms.positions / BOHR, charge=charge, uhf=unpaired, **lattice
    )
    calculator.set("verbosity", 0)
    calculator.set("accuracy", 0.1)
    field_au = np.ascontiguousarray(np.zeros(3) if field is None else np.asarray(field, float) / FIELD_UNIT)
    if field is not None:  # tblite 0.8.0 passes the object on as it comes, so it gets the C pointer
        calculator.add("electric-field", library.ffi.cast("double*", field_au.ctypes.data))
    if multipoles:
        calculator.add("molecular-multipoles")
        calculator.add("xtbml_xyz")  # carries the atomic dipoles and quadrupoles
    try:
        calculator.set("max-iter", 300)
        return calculator.singlepoint()
    except TBLiteRuntimeError:
        calculator.set("mixer-damping", 0.15)
        calculator.set("max-iter", 1000)
        return calculator.singlepoint()


class Xtb(Calculator):
    """Energy and forces only, to run molecular dynamics with GFN2-xTB itself."""

    implemented_properties: ClassVar = ["energy", "forces"]

    def __init__(self, charge: float = 0.0):
        super().__init__()
        self.charge = charge

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        result = single_point(atoms, self.charge, multipoles=False)
        self.results = {
            "energy": result.get("energy") * HARTREE,
            "forces": -result.get("gradient") * HARTREE / BOHR,
        }


def label(atoms: Atoms, charge: float = 0.0, field=None, **info) -> Atoms:
    """A copy of `atoms` (species, positions, cell only) with every label; `info` is added to its metadata.

    `field` is the physical field E (V/Angstrom); the energy contains -E . dipole.
    """
    electrons = sum(VALENCE_ELECTRONS[z] for z in atoms.numbers) - charge
    result = single_point(atoms, charge, field, unpaired=round(electrons) % 2)
    extra = result.get("post-processing-dict")
    charges = np.array(result.get("charges"))
    dipoles = np.stack([np.array(extra["dipm_A_" + c]) for c in "xyz"], 1) * BOHR
    # tblite packs the off-diagonal components doubled
    diagonal = [np.array(extra["qm_A_" + c]) for c in ("xx", "yy", "zz")]
    off_diagonal = [0.5 * np.array(extra["qm_A_" + c]) for c in ("xy", "xz", "yz")]
    out = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    out.arrays["REF_forces"] = -result.get("gradient") * HARTREE / BOHR
    out.arrays["REF_charges"] = charges
    out.arrays["REF_atomic_dipoles"] = dipoles
    out.arrays["REF_atomic_multipoles"] = np.column_stack([charges, dipoles[:, [1, 2, 0]]])
    out.arrays["REF_atomic_quadrupoles"] = np.stack(diagonal + off_diagonal, 1) * BOHR**2
    level, homo, lumo = fermi_level(result)
    out.info.update(
        REF_energy=result.get("energy") * HARTREE,
        total_charge=float(charge),
        external_field=np.zeros(3) if field is None else np.asarray(field, float),
        REF_fermi_level=level,
        homo=homo,
        lumo=lumo,
        **info,
    )
    if not atoms.pbc.any():
        out.info["REF_dipole"] = np.array(result.get("dipole")) * BOHR
        out.info["config_dipole_weight"] = np.ones(3)
        if not np.allclose(charges @ atoms.positions + dipoles.sum(0), out.info["REF_dipole"], atol=1e-6):
            raise RuntimeError("the atomic charges and dipoles do not add up to the dipole of the molecule")
    if abs(charges.sum() - charge) > 1e-6:
        raise RuntimeError(f"the atomic charges add up to {charges.sum():.6f} e, the total charge is {charge:g} e")
    return out


def fermi_level(result) -> tuple[float, float, float]:
    """Fermi level, highest occupied and lowest empty level, eV.

    The chemical potential that gives the electron count at 300 K; where the gap is wide any value in it
    does, and its middle is returned.
    """
    levels, occupations = (
        np.array(result.get("orbital-energies")),
        np.array(result.get("orbital-occupations")),
    )
    homo = levels[occupations > (1.0 if (occupations > 1.0).any() else 0.5)].max()
    lumo = levels[levels > homo].min()
    electrons = occupations.sum()
    if abs(electrons - 2 * round(electrons / 2)) < 1e-6 and lumo - homo > 30 * ELECTRONIC_KT:
        return 0.5 * (homo + lumo) * HARTREE, homo * HARTREE, lumo * HARTREE
    low, high = homo - 1, lumo + 1
    for _ in range(200):
        middle = 0.5 * (low + high)
        count = 2 * (1 / (1 + np.exp(np.clip((levels - middle) / ELECTRONIC_KT, -200, 200)))).sum()
        low, high = (middle, high) if count < electrons else (low, middle)
    return 0.5 * (low + high) * HARTREE, homo * HARTREE, lumo * HARTREE
