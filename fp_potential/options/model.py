"""Options of the learned model, and the numbers it takes from its training set."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from .base import MayBeText, Options, from_text
from .kspace import DEFAULT, LOOSEST, TIGHTEST, KSpaceMethod
from .response import DENSITY_NORMALISED, SYMMETRIC, VARIATIONAL, ReadoutOptions, UpdateOptions

#: number of periodic axes that ``electrostatic_pbc_method`` demands; the other methods take every pattern
PERIODIC_AXES = {"pbc": 3, "slab": 2, "realspace": 0, "molecule_in_box": 0}

Interaction = Literal["RealAgnosticInteractionBlock", "RealAgnosticResidualInteractionBlock"]
_INTERACTIONS = {
    "RealAgnosticDensityInteractionBlock": DENSITY_NORMALISED.format("RealAgnosticInteractionBlock"),
    "RealAgnosticDensityResidualInteractionBlock": DENSITY_NORMALISED.format("RealAgnosticResidualInteractionBlock"),
}


class ModelOptions(Options):
    """Architecture of a `FixedPointPotential`.

    Section ``model`` of a training file; ``fixedpoint train --help-config model`` prints what each option means.

    Raises:
        ValueError: an unknown option, a value that does not exist (with the reason), or options that do not fit
            together.

    >>> from fp_potential.options import ModelOptions
    >>> options = ModelOptions(num_channels=32, fixedpoint_update_config={"monotone_charge": True})
    >>> options.r_max, options.num_channels, options.fixedpoint_update_config.type
    (4.5, 32, 'OneBodyVariableUpdate')
    >>> options.number_of_norms  # one per l = 0, 1 and width 1.5, 3.0
    4
    >>> ModelOptions(max_L=2, max_ell=1)
    Traceback (most recent call last):
    ...
    pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelOptions
      Value error, `max_L` (2) must not exceed `max_ell` (1) ...
    """

    refused: ClassVar[dict[str, dict[str, str]]] = {
        "interaction": _INTERACTIONS,
        "interaction_first": _INTERACTIONS,
    }

    r_max: float = Field(4.5, gt=0, description="cutoff of the local part, Å")
    num_radial_basis: int = Field(8, ge=1, description="Bessel functions")
    num_cutoff_basis: int = Field(5, ge=2, description="power of the polynomial cutoff")
    max_ell: int = Field(2, ge=1, le=4, description="largest l of the spherical harmonics on edges")
    correlation: int = Field(2, ge=1, le=3, description="body order of the product basis")
    num_channels: int = Field(16, ge=1, description="channels, the same for every l")
    max_L: int = Field(1, ge=1, le=2, description="largest l of the hidden features")
    num_interactions: int = Field(2, ge=1, description="message-passing layers")
    readout_channels: int = Field(16, ge=1, description="hidden channels of the read-outs (MLP_irreps)")
    radial_MLP: Annotated[list[int], MayBeText()] = Field(
        [64, 64, 64], description="hidden layers of the radial network"
    )
    interaction: Interaction = Field(
        "RealAgnosticResidualInteractionBlock",
        description="layers after the first: with the atom's features of the layer before added around the product "
        "basis (Residual), or with an element-dependent map of the message before it",
    )
    interaction_first: Interaction = Field(
        "RealAgnosticResidualInteractionBlock", description="the same choice for the first layer"
    )
    avg_num_neighbors: Annotated[float | None, MayBeText()] = Field(
        None, gt=0, description="messages are divided by this; none: average over the training set"
    )

    core_repulsion: float = Field(
        300.0, ge=0, description="eV times (1 - r/r_min)^3 for pairs nearer than any of the training set; 0: none"
    )

    atomic_multipoles_max_l: Literal[0, 1] = Field(1, description="density of charges (0), or charges and dipoles (1)")
    atomic_multipoles_smearing_width: float = Field(1.5, gt=0, description="Gaussian width sigma of the density, Å")
    kspace_cutoff_factor: float = Field(1.5, gt=0, description="multiplies the cutoff of the k-sum")
    electrostatic_pbc_method: Literal["auto", "mixed_periodic", "pbc", "slab", "realspace", "molecule_in_box"] = Field(
        "auto",
        description="which structures the data may hold; each gets the exact kernels of its own periodic axes, "
        "whatever is said here. auto, mixed_periodic: any pattern; pbc: three periodic axes only; slab: two, any axis "
        "open (no vacuum, no correction); realspace, molecule_in_box: none (no box, no image correction)",
    )
    kspace: KSpaceMethod = Field(
        "auto",
        description="how potentials are summed: exactly where that is fast, on a mesh elsewhere; over waves (k-sum); "
        "on a mesh; over pairs (open structures only)",
    )
    kspace_accuracy: float = Field(DEFAULT, ge=TIGHTEST, le=LOOSEST, description="relative rms force error of the mesh")
    field_feature_max_l: Literal[0, 1] = Field(
        1, description="field features: averaged potentials (0), or their gradients too (1)"
    )
    field_feature_widths: Annotated[list[float], MayBeText()] = Field(
        [1.5, 3.0], min_length=1, description="receiver widths, Å"
    )
    field_feature_norms: Annotated[Literal["average"] | list[float] | None, MayBeText()] = Field(
        "average",
        description="what field features are divided by: one number per (l, width), l-major; none: 1; average: RMS "
        "over the training set",
    )
    fermi_level_offset: Annotated[float | None, MayBeText()] = Field(
        None, description="mu_0, eV; none: mean over the training set, else 0"
    )
    include_electrostatic_self_interaction: bool = Field(
        True, description="the Coulomb energy holds the energy of each atom's Gaussians in their own potential"
    )
    include_field_si: bool = Field(
        False,
        description="field features hold the potential of the atom's own Gaussians; always for SplitChargeUpdate",
    )
    include_local_electron_energy: bool = Field(True, description="the energy has the term of `field_readout_config`")
    fixedpoint_update_config: Annotated[UpdateOptions, MayBeText()] = Field(
        default_factory=UpdateOptions, description="how the density responds to the field"
    )
    field_readout_config: Annotated[ReadoutOptions, MayBeText()] = Field(
        default_factory=ReadoutOptions, description="non-local energy of density and field"
    )
    use_linear_local_charges: bool = Field(
        False, description="one linear map to the local density instead of the gated network"
    )
    atom_density_scaling: Annotated[Literal["average"] | dict[str, float] | None, MayBeText()] = Field(
        None,
        description="scale per element of that map, e (by symbol or atomic number); none: 1; average: RMS of the "
        "reference multipoles",
    )
    fixedpoint_initial_charge_head_scale: float = Field(
        0.01, gt=0, description="initial scale of the density heads and of the response; 1: none"
    )

    @field_validator("atom_density_scaling", mode="before")
    @classmethod
    def _elements_as_text(cls, value: Any) -> Any:
        value = from_text(value)
        return {str(element): scale for element, scale in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _check_lists(self) -> "ModelOptions":
        if self.max_L > self.max_ell:
            raise ValueError(f"`max_L` ({self.max_L}) must not exceed `max_ell` ({self.max_ell})")
        if any(w <= 0 for w in self.field_feature_widths):
            raise ValueError(f"`field_feature_widths` must be positive, got {self.field_feature_widths}")
        if any(size < 1 for size in self.radial_MLP):
            raise ValueError(f"`radial_MLP` must hold sizes of at least 1, got {self.radial_MLP}")
        if self.atom_density_scaling is not None and not self.use_linear_local_charges:
            raise ValueError("`atom_density_scaling` belongs to `use_linear_local_charges: true`")
        if self.fixedpoint_update_config.type in SYMMETRIC:
            self._check_symmetric(self.fixedpoint_update_config.type)
        if self.field_readout_config.type == VARIATIONAL and self.fixedpoint_update_config.type != "SplitChargeUpdate":
            raise ValueError(
                f"`field_readout_config` {VARIATIONAL} is the energy of the response of `fixedpoint_update_config` "
                f"{{type: SplitChargeUpdate}}; this one is {self.fixedpoint_update_config.type}"
            )
        if self.field_readout_config.type == VARIATIONAL and not self.include_electrostatic_self_interaction:
            raise ValueError(
                f"`field_readout_config` {VARIATIONAL} has its minimum at the density only with the energy of the "
                "atoms' own Gaussians: set `include_electrostatic_self_interaction: true`, or leave it out"
            )
        norms = self.field_feature_norms
        if isinstance(norms, list) and (len(norms) != self.number_of_norms or any(x <= 0 for x in norms)):
            raise ValueError(
                f"`field_feature_norms` must hold {self.number_of_norms} positive numbers "
                f"(len(field_feature_widths) * (field_feature_max_l + 1)), got {norms}"
            )
        return self

    @property
    def number_of_norms(self) -> int:
        """Length of the list of field-feature norms: one per (l, width)."""
        return len(self.field_feature_widths) * (self.field_feature_max_l + 1)

    def _check_symmetric(self, kind: str) -> None:
        sigma = self.atomic_multipoles_smearing_width
        if sigma not in self.field_feature_widths:
            raise ValueError(
                f"type: {kind} answers to the field received with the density's own width: put "
                f"`atomic_multipoles_smearing_width` ({sigma}) among `field_feature_widths`, got "
                f"{self.field_feature_widths}"
            )
        if self.atomic_multipoles_max_l > self.field_feature_max_l:
            raise ValueError(
                f"type: {kind} answers with dipoles to the gradient of the potential: set "
                "`field_feature_max_l: 1`, or `atomic_multipoles_max_l: 0`"
            )
        if kind == "SplitChargeUpdate" and not self.include_field_si:
            if "include_field_si" in self.model_fields_set:
                raise ValueError(
                    "type: SplitChargeUpdate answers to the whole field, an atom's own Gaussians included: set "
                    "`include_field_si: true`, or leave it out"
                )
            self.include_field_si = True


class ModelStatistics(Options):
    """Numbers a model takes from its training set."""

    atomic_energies: dict[int, float] = Field(description="E0 per atomic number, eV")
    avg_num_neighbors: float = Field(gt=0)
    field_feature_norms: list[float] = Field(description="l-major, one per (l, width)")
    fermi_level_offset: float = 0.0
    minimum_distances: list[list[float]] = Field(
        default_factory=list, description="shortest distance per pair of elements, Å; 0 or no rows: none known"
    )
    density_scaling: dict[int, float] = Field(
        default_factory=dict, description="scale of the linear local density per atomic number, e"
    )
