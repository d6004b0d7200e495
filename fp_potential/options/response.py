"""Options of the response to the field and of the energy that depends on it."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from .base import MayBeText, Options

#: messages that a learned density of neighbours normalises
DENSITY_NORMALISED = "messages are divided by `avg_num_neighbors`, not by a learned density of neighbours; use {}"

#: updates whose response is symmetric and positive by construction
SYMMETRIC = ("SymmetricUpdate", "SplitChargeUpdate")


class UpdateOptions(Options):
    """`fixedpoint_update_config`: how the density responds to the field."""

    refused: ClassVar[dict[str, dict[str, str]]] = {
        "type": {
            **dict.fromkeys(
                ("OneBodyScaledNonLinearUpdate", "OneBodyScaledDPNonLinearUpdate"),
                "its skip path is `polarize_symmetric_sites: true` of OneBodyVariableUpdate",
            ),
            "OneBodyMonotoneChargeUpdate": "use type: OneBodyVariableUpdate with `monotone_charge: true`",
        },
        "nonlinearity_cls": {
            "ShallowNonLinearity": "use MLPNonLinearity (the same with hidden layers)",
            "SkipMLPLinearity": "use MLPNonLinearity; `polarize_symmetric_sites` is the linear path beside it",
        },
        "central_atom_mixer_cls": {
            "UncoupledProductMixer": "use AdditiveFieldMixer with `correlation: 2`, which couples centre and neighbours"
        },
        "central_atom_feats_mixer_cls": {
            "UncoupledProductMixer": "use AdditiveFieldMixer with `correlation: 2`, which couples centre and neighbours"
        },
        "interaction_cls": {
            name: DENSITY_NORMALISED.format("RealAgnosticResidualInteractionBlock")
            for name in ("RealAgnosticDensityInteractionBlock", "RealAgnosticDensityResidualInteractionBlock")
        },
    }

    type: Literal["OneBodyVariableUpdate", "ManyBodyUpdate", "SymmetricUpdate", "SplitChargeUpdate"] = Field(
        "OneBodyVariableUpdate",
        description="response to the field at the atom, through a message pass over fields, by one symmetric positive "
        "matrix per atom, with which the loop is stable in every geometry, or by such matrices over bonds and atoms, "
        "with which insulators insulate, too",
    )
    potential_embedding_cls: Annotated[
        Literal["BiasedLinearPotentialEmbedding", "LinearPotentialEmbedding", "TanhPotentialEmbedding"] | None,
        MayBeText(),
    ] = Field(
        None,
        description="linear in the field with a term of the features, linear in the field alone, or saturating; "
        "none: biased linear for the one-body update, linear for the many-body one",
    )
    nonlinearity_cls: Literal["NoNonLinearity", "MLPNonLinearity"] = Field(
        "NoNonLinearity", description="response linear in its invariants, or a network of them"
    )
    polarize_symmetric_sites: bool = Field(
        True, description="scalar response of charge and dipole that does not vanish on symmetric sites"
    )
    monotone_charge: bool = Field(False, description="dq/dmu <= 0 on every atom by construction")
    correlation: int = Field(1, ge=1, le=3, description="body order of the product basis (ManyBodyUpdate)")
    use_sc: bool = Field(True, description="self-connection around the product basis (ManyBodyUpdate)")
    interaction_cls: Literal["RealAgnosticResidualInteractionBlock"] = Field(
        "RealAgnosticResidualInteractionBlock",
        description="message over neighbours, divided by their average number (ManyBodyUpdate)",
    )
    central_atom_mixer_cls: Literal["AdditiveFieldMixer", "NoMixer"] = Field(
        "AdditiveFieldMixer", description="add the atom's own field to the message, or not (ManyBodyUpdate)"
    )
    central_atom_feats_mixer_cls: Literal["AdditiveFieldMixer", "NoMixer"] = Field(
        "NoMixer", description="add the atom's own features to the message, or not (ManyBodyUpdate)"
    )

    bond_stretch: float = Field(
        1.6,
        gt=1,
        le=4,
        description="charge moves between atoms nearer than this times the sum of their covalent radii; 1.6 holds O-H "
        "to 1.55 Å, which is no hydrogen bond (SplitChargeUpdate)",
    )
    bond_cutoff: float = Field(
        3.5, gt=0, description="Å; no bond is longer, whatever bond_stretch says; at most r_max (SplitChargeUpdate)"
    )
    bond_reach: Annotated[dict[str, float], MayBeText()] = Field(
        default={},
        description="Å, where bonds of two elements end, as {Cu-O: 4.5}, in place of bond_stretch and bond_cutoff; at "
        "most r_max; 0: they have none (SplitChargeUpdate)",
    )
    bond_rank: int = Field(2, ge=1, le=16, description="squares per bond (SplitChargeUpdate)")
    metallic: Annotated[Literal["auto", "none"] | list[str], MayBeText()] = Field(
        "auto",
        description="elements that may conduct: those of the list; auto: those that take added charge in training "
        "frames of one composition (docs/training.md); none: an insulator, which has no Fermi level "
        "(SplitChargeUpdate)",
    )

    @field_validator("bond_reach")
    @classmethod
    def _pairs(cls, value: dict[str, float]) -> dict[str, float]:
        for pair, reach in value.items():
            if not re.fullmatch("[A-Z][a-z]?-[A-Z][a-z]?", pair):
                raise ValueError(f"'{pair}' is no pair of elements; expected two symbols, as in {{Cu-O: 4.5}}")
            if not 0 <= reach < float("inf"):
                raise ValueError(f"{pair}: {reach} is no distance; expected Å, or 0 for no bonds")
        pairs = [tuple(sorted(pair.split("-"))) for pair in value]
        twice = [pair for pair in value if pairs.count(tuple(sorted(pair.split("-")))) > 1]
        if twice:
            raise ValueError(f"the same two elements are given by {' and '.join(twice)}; leave one")
        return value

    @property
    def insulates(self) -> bool:
        """Whether nothing can conduct."""
        return self.type == "SplitChargeUpdate" and self.metallic in ("none", [])

    @property
    def embedding(self) -> str:
        """The embedding, with the default of the type."""
        one_body = self.type == "OneBodyVariableUpdate"
        default = "BiasedLinearPotentialEmbedding" if one_body else "LinearPotentialEmbedding"
        return self.potential_embedding_cls or default

    @model_validator(mode="after")
    def _of_the_type(self) -> "UpdateOptions":
        set_here = set(self.model_dump(exclude_defaults=True)) - {"type"}
        many_body = {
            "correlation",
            "use_sc",
            "interaction_cls",
            "central_atom_mixer_cls",
            "central_atom_feats_mixer_cls",
        }
        misplaced = sorted(set_here & many_body)
        if self.type != "ManyBodyUpdate" and misplaced:
            names = ", ".join(f"`{name}`" for name in misplaced)
            raise ValueError(f"{names}: only for type: ManyBodyUpdate (this one is {self.type})")
        split_charge = {"bond_stretch", "bond_cutoff", "bond_reach", "bond_rank", "metallic"}
        misplaced = sorted(set_here & split_charge)
        if self.type != "SplitChargeUpdate" and misplaced:
            names = ", ".join(f"`{name}`" for name in misplaced)
            raise ValueError(f"{names}: only for type: SplitChargeUpdate (this one is {self.type})")
        foreign = sorted(set_here - split_charge)
        if self.type in SYMMETRIC and foreign:
            raise ValueError(f"type: {self.type} has no such options (remove them): {', '.join(foreign)}")
        return self


#: the read-out that is the energy of the response
VARIATIONAL = "VariationalFieldReadout"


class ReadoutOptions(Options):
    """`field_readout_config`: the non-local energy."""

    refused: ClassVar[dict[str, dict[str, str]]] = {
        "type": {
            "LinearChargesEnergyReadout": "use OneBodyMLPFieldReadout, which sees the same and more",
            "QuadraticChargesEnergyReadout": "use StrictQuadraticFieldEnergyReadout or OneBodyMLPFieldReadout",
        }
    }

    type: Literal[
        "NullFieldReadout",
        "StrictQuadraticFieldEnergyReadout",
        "OneBodyMLPFieldReadout",
        "ManyBodyChargesReadout",
        "ManyBodyChargesFieldReadout",
        "VariationalFieldReadout",
    ] = Field(
        "StrictQuadraticFieldEnergyReadout",
        description="no energy; bilinear in induced density and field; a network of density and field at the atom; "
        "of a message pass over densities; of one over densities and fields; what the response itself costs, with "
        "which dE/dQ is minus the Fermi level (SplitChargeUpdate)",
    )
