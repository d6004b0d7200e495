"""Typed options of the known models and the built-in parameters; the descriptions are the manual."""

import math

from ase.data import atomic_numbers
from pydantic import Field, field_validator, model_validator

from ..options.base import Options
from ..units import COULOMB


class ElementParameters(Options):
    """Parameters of one element."""

    electronegativity: float = Field(description="χ, eV/e")
    hardness: float = Field(gt=0, description="η, eV/e², of what the Gaussian's own interaction does not contain")
    polarizability: float = Field(0.0, ge=0, description="polarizability volume α k_e, Å³")
    charge: float = Field(0.0, description="charge in a model of fixed charges, e")
    formal_charge: float = Field(0.0, description="charge without bonds and fields in a model of split charges, e")
    radius: float = Field(0.0, ge=0, description="of the repulsion, Å")


#: χ: H, O, Na, Cl of charge equilibration (Rappé and Goddard, J. Phys. Chem. 95, 3358 (1991),
#: doi:10.1021/j100161a070), Cu (IP + EA)/2.
#: η: their idempotential (Cu: IP - EA) less the 5.416 eV/e² of a Gaussian of 1.5 Å with itself, at least 1.5 eV/e².
#: Polarizabilities of the size of Thole's atoms (Chem. Phys. 59, 341 (1981), doi:10.1016/0301-0104(81)85176-2) and of
#: ions, charges (formal ones: those of ions) and radii: own choice, for tests and not for science.
BUILT_IN = {
    "H": ElementParameters(electronegativity=4.528, hardness=8.47, polarizability=0.4, charge=0.4, radius=0.25),
    "O": ElementParameters(electronegativity=8.741, hardness=7.95, polarizability=0.85, charge=-0.8, radius=0.85),
    "Na": ElementParameters(
        electronegativity=2.843, hardness=1.5, polarizability=0.3, charge=1.0, formal_charge=1, radius=0.8
    ),
    "Cl": ElementParameters(
        electronegativity=8.564, hardness=4.48, polarizability=2.4, charge=-1.0, formal_charge=-1, radius=1.35
    ),
    "Cu": ElementParameters(electronegativity=4.48, hardness=1.5, polarizability=1.5, charge=0.0, radius=1.2),
}

#: charge that moves through a bond per volt, e/V: that of water gives H 0.4 e; own choice
BUILT_IN_BONDS = {"H-O": 0.1, "Cu-O": 0.02}


def own_stiffness(sigma: float) -> tuple[float, float]:
    """Second derivatives of a Gaussian's energy with itself by its charge (eV/e²) and its dipole (eV/(e Å)²).

    k_e/(sqrt(pi) σ) and k_e/(6 sqrt(pi) σ³), for a width σ in Å: limits of the erf kernels (`electrostatics.pairs`) at
    zero distance.
    """
    charge = COULOMB / (math.sqrt(math.pi) * sigma)
    return charge, charge / (6.0 * sigma * sigma)


class ReferenceOptions(Options):
    """A known model: its elements, its Gaussians and its repulsion."""

    elements: dict[str, ElementParameters] = Field(
        default_factory=lambda: dict(BUILT_IN), min_length=1, description="parameters per element symbol"
    )
    polarizable: bool = Field(False, description="charge equilibration with induced dipoles")
    atomic_multipoles_smearing_width: float = Field(
        1.5, gt=0, description="width σ of all Gaussians, of density and receivers, Å"
    )
    kspace_cutoff_factor: float = Field(1.5, gt=0, description="multiplies the cutoff of the k-sum")
    include_electrostatic_self_interaction: bool = Field(
        True,
        description="whether energy and field contain the interaction of a Gaussian with itself; if not, hardness and "
        "polarizability must",
    )
    fermi_level_offset: float = Field(0.0, description="mu_0, eV; changes no result")
    r_max: float = Field(4.5, gt=0, description="cutoff of the repulsion, Å")
    repulsion_energy: float = Field(
        0.2, ge=0, description="A in A exp((R_i + R_j - r)/ρ) per pair, eV; 0: no repulsion"
    )
    repulsion_length: float = Field(0.3, gt=0, description="ρ, Å")
    metallic: list[str] = Field(
        default_factory=list, description="elements whose charge answers to the Fermi level, too (split charges)"
    )
    bonds: dict[str, float] | None = Field(
        None,
        description="softness of a bond at the sum of the covalent radii, e/V, per pair of elements as H-O; others "
        "have none; not given: the built-in ones (split charges)",
    )
    bond_stretch: float = Field(
        1.6, gt=1, le=4, description="bonds end at this times the sum of the covalent radii (split charges)"
    )

    @field_validator("elements")
    @classmethod
    def _symbols(cls, value: dict[str, ElementParameters]) -> dict[str, ElementParameters]:
        unknown = [symbol for symbol in value if symbol not in atomic_numbers]
        if unknown:
            raise ValueError(f"`elements` names {unknown}, which are no element symbols")
        return value

    @model_validator(mode="after")
    def _of_the_elements(self) -> "ReferenceOptions":
        strangers = [symbol for symbol in self.metallic if symbol not in self.elements]
        if strangers:
            raise ValueError(f"`metallic` names {strangers}; expected some of the elements {list(self.elements)}")
        pairs = [frozenset(name.split("-")) for name in self.bonds or {}]
        for name, pair in zip(self.bonds or {}, pairs, strict=True):
            if name.count("-") != 1 or not pair <= set(self.elements) or pairs.count(pair) > 1:
                raise ValueError(
                    f"`bonds` has {name!r}; expected pairs of the elements {list(self.elements)}, once each, as 'H-O'"
                )
            if (self.bonds or {})[name] <= 0:
                raise ValueError(f"`bonds`: the softness of {name} must be greater than 0; leave out what has no bond")
        return self

    def bond_softness(self) -> list[list[float]]:
        """Softness of bonds by pair of elements, e/V, at the sum of their covalent radii; 0: no bond."""
        bonds = BUILT_IN_BONDS if self.bonds is None else self.bonds
        symbols = list(self.elements)
        return [[bonds.get(f"{a}-{b}", bonds.get(f"{b}-{a}", 0.0)) for b in symbols] for a in symbols]

    @classmethod
    def built_in(cls, *symbols: str, **options: object) -> "ReferenceOptions":
        """The built-in parameters of some elements.

        Raises:
            ValueError: an element without built-in parameters.
        """
        missing = [symbol for symbol in symbols if symbol not in BUILT_IN]
        if missing:
            raise ValueError(f"no built-in parameters for {missing}: there are {list(BUILT_IN)}; give `elements`")
        return cls.model_validate({"elements": {symbol: BUILT_IN[symbol] for symbol in symbols}, **options})

    def without_self_interaction(self) -> "ReferenceOptions":
        """The same model with the Gaussians' interaction with themselves in hardness and polarizability."""
        if not self.include_electrostatic_self_interaction:
            return self
        charge, dipole = own_stiffness(self.atomic_multipoles_smearing_width)
        elements = {
            symbol: element.model_copy(
                update={
                    "hardness": element.hardness + charge,
                    "polarizability": element.polarizability / (1.0 + dipole * element.polarizability / COULOMB),
                }
            )
            for symbol, element in self.elements.items()
        }
        return self.model_copy(update={"elements": elements, "include_electrostatic_self_interaction": False})
