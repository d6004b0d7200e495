"""Section ``data``: the files, the keys and units of what they hold, and which frame is for what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from ..config.schema import FOLDER, Section
from .units import Conversion


def is_address(name: str) -> bool:
    """Whether ``name`` is the address of a database server rather than a file."""
    return "://" in name


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) or value is None else [value]


Names = Annotated[list[str], BeforeValidator(_as_list, json_schema_input_type=str | list[str])]


class Keys(Section):
    """Which key of the files holds what; an option that is left out is not read. Units: those of ``data.units``."""

    energy: str | None = None
    """Total energy of the frame, eV; in a field it contains −E·dipole (info key)."""
    forces: str | None = None
    """Forces, eV/Å (array with 3 columns)."""
    stress: str | None = None
    """Stress dE/d(strain)/V, eV/Å³: 9, 3×3 or 6 numbers xx yy zz yz xz xy (info key)."""
    virial: str | None = None
    """Virial W = −dE/d(strain), eV, positive where a structure pushes outwards, as GAP, MACE and DeePMD write it (info
    key, numbers as of ``stress``), for frames without ``stress``, which then is −W/V and has the weight of stresses."""
    atomic_multipoles: str | None = None
    """Atomic charges and dipoles ``[q, d_y, d_z, d_x]``, e and e·Å (array; further columns are ignored)."""
    charges: str | None = None
    """Atomic charges, e (array), for frames without ``atomic_multipoles``: dipoles zero, with weight zero."""
    dipole: str | None = None
    """Dipole about the origin of the coordinates, x y z, e·Å (info key); may be NaN along periodic axes."""
    fermi_level: str | None = None
    """Fermi level, eV (info key). Not mapped: the model's own, from the charge constraint."""
    electrostatic_potentials: str | None = None
    """Electrostatic potential at the nuclei, V (array): that of the charge density with Gaussian smearing that the
    model describes, external field included; zero on average with three periodic axes (docs/options.md: with fewer)."""
    polarizability: str | None = None
    """Polarizability dD/dE, e·Å²/V = e²·Å²/eV: 9, 3×3 or 6 numbers xx yy zz yz xz xy (info key)."""
    born_charges: str | None = None
    """Born effective charges dD_b/dr_a, e (array with 9 columns, row-major [a, b]: xx xy xz yx …, position first)."""
    molecules: str | None = None
    """Number of the molecule that an atom belongs to (array of integers)."""
    fragments: str | None = None
    """Number of the fragment that an atom belongs to (array of integers), for the loss ``fragment_charges``. Not mapped
    or missing in a frame: its ``molecules``, else what bonds connect."""
    total_charge: str | None = None
    """Total charge, e (info key). Not mapped or missing in a frame: 0."""
    external_field: str | None = None
    """Gradient of the external potential, F = −E, V/Å (info key, 3 numbers)."""
    electric_field: str | None = None
    """Uniform physical field E = −F, V/Å (info key, 3 numbers). Give this one or ``external_field``."""

    @model_validator(mode="after")
    def _one_field(self) -> Keys:
        if self.external_field and self.electric_field:
            raise ValueError("give external_field (F) or electric_field (E = -F), not both")
        return self


class Units(Section):
    """Units of the data files; everything is converted to eV, Å and e when it is read. Charges are in e.

    Known: eV meV Ha Ry kcal/mol kJ/mol V, Å Bohr nm, GPa kbar, D, and products, quotients and powers of them.
    """

    energy: str = "eV"
    """Unit of energies and Fermi levels; with ``length`` that of forces, stress, fields (energy/e/length), …"""
    length: str = "Å"
    """Unit of positions and cells; with e that of dipoles."""
    labels: dict[str, str] = Field(default={})
    """Units of single labels where they differ from that, by name in ``data.keys``: ``{stress: GPa, dipole: D}``."""

    @model_validator(mode="after")
    def _known(self) -> Units:
        self.conversion()
        return self

    def conversion(self) -> Conversion:
        """The factors to eV, Å and e."""
        return Conversion(self.energy, self.length, self.labels)


class Split(Section):
    """Selection by an info key of the frames."""

    key: str = "split"
    """Info key that says to which set a frame belongs."""
    train: Names = Field(default=["train"])
    """Value or values of the training set."""
    valid: Annotated[list[str] | None, BeforeValidator(_as_list, json_schema_input_type=str | list[str] | None)] = None
    """Value or values of the validation set; none: ``valid_fraction`` of the training frames."""
    test: Names = Field(default=["test"])
    """Value or values of the test set."""


class DataOptions(Section):
    """The reference data."""

    files: Names = Field(min_length=1)
    """Files, globs (also ``**``) or folders of ``fixedpoint prepare``, relative to the training file: extended XYZ
    (.xyz, .extxyz, also .gz), ASE databases (.db, .json, addresses) and what else ASE reads."""
    valid_files: Names = Field(default=[])
    """Further files, all of whose frames are validation frames."""
    test_files: Names = Field(default=[])
    """Further files, all of whose frames are test frames."""
    keys: Keys
    """Names of the keys in the files."""
    units: Units = Units()
    """Units of the files."""
    split: Split | None = None
    """Selection by an info key; without it every frame of ``files`` is a training frame."""
    valid_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Fraction of the training frames set aside for validation when no validation set is named. Isolated atoms, and
    frames without which the training set would lack an element, stay."""
    valid_seed: int = 1
    """Seed of that choice."""
    kind_key: str = "kind"
    """Info key by which the test table has one row each; without it, the name of the file."""
    kind_weights: dict[str, dict[str, float]] = Field(default={})
    """Factors on the weights of labels by kind, ``{cluster: {energy: 4.0}}``; training and validation frames only."""
    low_density_pbc_max_volume_per_atom: float = Field(default=100.0, gt=0)
    """Largest volume per atom of a frame that is periodic in three directions, Å³: beyond it, it probably is a molecule
    in a box, whose images would interact."""
    allow_low_density_pbc: bool = False
    """Accept frames beyond that."""
    override_pbc_checks: bool = False
    """Skip every check of periodicity that can be skipped: that of the density. Periodic vectors without a volume, area
    or length are an error all the same."""

    @field_validator("files", "valid_files", "test_files")
    @classmethod
    def _from_the_folder_of_the_file(cls, names: list[str], info: ValidationInfo) -> list[str]:
        """Names relative to the file with the options as absolute ones; options of no file are taken as they are."""
        folder: Path | None = (info.context or {}).get(FOLDER)
        if folder is None:
            return names
        return [name if is_address(name) else str((folder / name).absolute()) for name in names]
