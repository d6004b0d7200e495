"""Typed options of the model and of the SCF loop; the descriptions are the manual.

Names are those users know from configuration files and the command line.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: steps that Anderson mixing remembers: more than all but the hardest maps take, so that it is as fast as GMRES
HISTORY = 80


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True)


class SCFOptions(_Options):
    """Settings of the self-consistent loop."""

    num_scf_steps: int = Field(100, ge=1, description="largest number of applications of the map; 1 is legal")
    scf_tolerance: float = Field(
        1e-6, gt=0, description="mean absolute residual |G(p) - p| per component (e, e Å); largest atom: 5 times this"
    )
    mixing_parameter: float = Field(0.25, gt=0, le=1, description="fraction of the update taken by `linear`")
    constant_charge: bool = Field(True, description="fix the total charge (true) or the Fermi level (false)")
    use_autograd_forces: bool = Field(
        True, description="forces include the response of the density; false: derivative at fixed density"
    )
    initial_density: Literal["local_guess", "from_data", "restart"] = Field(
        "local_guess", description="the model's own guess, the reference multipoles, or the last converged density"
    )
    initial_fermi_level: Literal["zero", "from_data"] = Field(
        "zero", description="mu_0, or the reference level: where the search of a non-affine update begins"
    )
    solver: Literal["anderson", "linear"] = Field(
        "anderson", description="Anderson acceleration, or plain mixing of the update"
    )
    history: int = Field(HISTORY, ge=2, le=500, description="steps remembered by `anderson`; fixed at export")


class UpdateOptions(_Options):
    """`fixedpoint_update_config`: how the density responds to the field."""

    type: Literal["OneBodyVariableUpdate", "ManyBodyUpdate", "SymmetricUpdate"] = Field(
        "OneBodyVariableUpdate",
        description="response to the field at the atom, through a message pass over fields, or by one symmetric "
        "positive matrix per atom, with which the loop is stable in every geometry",
    )
    potential_embedding_cls: (
        Literal["BiasedLinearPotentialEmbedding", "LinearPotentialEmbedding", "TanhPotentialEmbedding"] | None
    ) = Field(None, description="None: biased linear for the one-body update, linear for the many-body one")
    nonlinearity_cls: Literal["NoNonLinearity", "MLPNonLinearity"] = "NoNonLinearity"
    polarize_symmetric_sites: bool = Field(
        True, description="scalar response of charge and dipole that does not vanish on symmetric sites"
    )
    monotone_charge: bool = Field(False, description="dq/dmu <= 0 on every atom by construction")
    correlation: int = Field(1, ge=1, le=3, description="body order of the product basis (ManyBodyUpdate)")
    use_sc: bool = Field(True, description="self-connection around the product basis (ManyBodyUpdate)")

    @property
    def embedding(self) -> str:
        """The embedding, with the default of the type."""
        one_body = self.type == "OneBodyVariableUpdate"
        default = "BiasedLinearPotentialEmbedding" if one_body else "LinearPotentialEmbedding"
        return self.potential_embedding_cls or default

    @model_validator(mode="after")
    def _of_the_type(self) -> "UpdateOptions":
        if self.type != "ManyBodyUpdate" and (self.correlation != 1 or not self.use_sc):
            raise ValueError("`correlation` and `use_sc` belong to type: ManyBodyUpdate")
        if self.type == "SymmetricUpdate":
            own = {"type", *self.model_dump(exclude_defaults=True)}
            given = sorted(own - {"type", "correlation", "use_sc"})
            if given:
                raise ValueError(f"type: SymmetricUpdate has no such options (remove them): {', '.join(given)}")
        return self


class ReadoutOptions(_Options):
    """`field_readout_config`: the non-local energy."""

    type: Literal[
        "NullFieldReadout",
        "StrictQuadraticFieldEnergyReadout",
        "OneBodyMLPFieldReadout",
        "ManyBodyChargesReadout",
        "ManyBodyChargesFieldReadout",
    ] = "StrictQuadraticFieldEnergyReadout"


class ModelOptions(_Options):
    """Architecture of a `FixedPointPotential`."""

    r_max: float = Field(4.5, gt=0, description="cutoff of the local part, Å")
    num_radial_basis: int = Field(8, ge=1, description="Bessel functions")
    num_cutoff_basis: int = Field(5, ge=2, description="power of the polynomial cutoff")
    max_ell: int = Field(2, ge=1, le=4, description="largest l of the spherical harmonics on edges")
    correlation: int = Field(2, ge=1, le=3, description="body order of the product basis")
    num_channels: int = Field(16, ge=1, description="channels, the same for every l")
    max_L: int = Field(1, ge=1, le=2, description="largest l of the hidden features")
    num_interactions: int = Field(2, ge=1, description="message-passing layers")
    readout_channels: int = Field(16, ge=1, description="hidden channels of the read-outs (MLP_irreps)")
    radial_MLP: list[int] = Field([64, 64, 64], description="hidden layers of the radial network")
    interaction_first: Literal["RealAgnosticInteractionBlock", "RealAgnosticResidualInteractionBlock"] = Field(
        "RealAgnosticResidualInteractionBlock",
        description="of the first layer: residual adds a linear map of the atom's own features, per element, to the "
        "product; the other one puts that map on the message",
    )
    interaction: Literal["RealAgnosticInteractionBlock", "RealAgnosticResidualInteractionBlock"] = Field(
        "RealAgnosticResidualInteractionBlock", description="of the layers after the first"
    )
    avg_num_neighbors: float | None = Field(None, gt=0, description="None: average over the training set")

    core_repulsion: float = Field(
        300.0, ge=0, description="eV times (1 - r/r_min)^3 for pairs nearer than any of the training set; 0: none"
    )

    atomic_multipoles_max_l: Literal[1] = Field(1, description="charges and dipoles")
    atomic_multipoles_smearing_width: float = Field(1.5, gt=0, description="Gaussian width sigma of the density, Å")
    kspace_cutoff_factor: float = Field(1.5, gt=0, description="multiplies the cutoff of the k-sum")
    field_feature_max_l: Literal[1] = 1
    field_feature_widths: list[float] = Field([1.5, 3.0], min_length=1, description="receiver widths, Å")
    field_feature_norms: Literal["average"] | list[float] | None = Field(
        "average", description="one norm per (l, width), l-major; None: 1; average: RMS over the training set"
    )
    fermi_level_offset: float | None = Field(None, description="mu_0, eV; None: mean over the training set, else 0")
    include_electrostatic_self_interaction: bool = True
    include_field_si: bool = False
    include_local_electron_energy: bool = True
    fixedpoint_update_config: UpdateOptions = Field(default_factory=UpdateOptions)
    field_readout_config: ReadoutOptions = Field(default_factory=ReadoutOptions)
    use_linear_local_charges: bool = Field(
        False, description="one linear map to the local density instead of the gated network"
    )
    atom_density_scaling: Literal["average"] | dict[str, float] | None = Field(
        None, description="scale per element of that map (symbol: e); average: RMS of the reference multipoles"
    )
    fixedpoint_initial_charge_head_scale: float = Field(0.01, gt=0, description="initial scale of the density heads")

    @model_validator(mode="after")
    def _check_lists(self) -> "ModelOptions":
        if self.max_L > self.max_ell:
            raise ValueError(f"`max_L` ({self.max_L}) must not exceed `max_ell` ({self.max_ell})")
        if any(w <= 0 for w in self.field_feature_widths):
            raise ValueError(f"`field_feature_widths` must be positive, got {self.field_feature_widths}")
        if self.atom_density_scaling is not None and not self.use_linear_local_charges:
            raise ValueError("`atom_density_scaling` belongs to `use_linear_local_charges: true`")
        sigma = self.atomic_multipoles_smearing_width
        if self.fixedpoint_update_config.type == "SymmetricUpdate" and sigma not in self.field_feature_widths:
            raise ValueError(
                "type: SymmetricUpdate answers to the field received with the density's own width: put "
                f"`atomic_multipoles_smearing_width` ({sigma}) among `field_feature_widths`, got "
                f"{self.field_feature_widths}"
            )
        norms = self.field_feature_norms
        expected = 2 * len(self.field_feature_widths)
        if isinstance(norms, list) and (len(norms) != expected or any(x <= 0 for x in norms)):
            raise ValueError(
                f"`field_feature_norms` must hold {expected} positive numbers "
                f"(len(field_feature_widths) * (field_feature_max_l + 1)), got {norms}"
            )
        return self


class ModelStatistics(_Options):
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
