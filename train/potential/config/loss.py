"""Weights and options of the terms of a stage's loss, and what each term needs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer

from ...config.schema import Section


class Term(Section):
    """A term of the loss; a bare number is its weight."""

    weight: float = Field(default=0.0, ge=0)
    """Factor of the term in the loss."""

    @model_serializer(mode="wrap")
    def _as_written(self, default: SerializerFunctionWrapHandler) -> dict[str, Any] | float:
        content = default(self)
        options = type(self).model_fields
        plain = all(content.get(name) == option.default for name, option in options.items() if name != "weight")
        return self.weight if plain else content


class Squares(Term):
    """A mean of squared errors."""

    huber: float | None = Field(default=None, gt=0)
    """Errors e above this δ (unit of the error) count δ (2|e| − δ) instead of e², each component by itself."""


class SpectrumTerm(Term):
    """A penalty on the ends of the spectrum of the SCF map."""

    beta: float = Field(default=10.0, gt=0)
    """Sharpness of softplus(x) = ln(1 + exp(beta x)) / beta."""
    upper: float = 0.9
    """Largest real part that an eigenvalue of dG/dp may have without a penalty; at 1 the solution is unstable."""
    lower: float | None = None
    """Smallest such real part. Linear mixing with α needs more than 1 − 2/α; long cells have large negative
    eigenvalues for physical reasons, so without a number there is no limit."""


def _as_term(value: Any) -> Any:
    return {"weight": value} if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _absent(kind: type[Term]) -> Any:
    return Field(default_factory=kind)


SquaresOrWeight = Annotated[Squares, BeforeValidator(_as_term, json_schema_input_type=float | Squares)]
TermOrWeight = Annotated[Term, BeforeValidator(_as_term, json_schema_input_type=float | Term)]
SpectrumTermOrWeight = Annotated[SpectrumTerm, BeforeValidator(_as_term, json_schema_input_type=float | SpectrumTerm)]


class LossWeights(Section):
    """Terms of the loss: a weight, or ``{weight: 100.0, huber: 0.01}``; each term is a mean over the batch
    (``fp_potential.train.potential.losses``, docs/losses.md)."""

    energy_per_atom: SquaresOrWeight = _absent(Squares)
    """((E − E*)/N)², eV²."""
    forces: SquaresOrWeight = _absent(Squares)
    """(F − F*)², (eV/Å)²."""
    stress: SquaresOrWeight = _absent(Squares)
    """(σ − σ*)², (eV/Å³)²."""
    atomic_multipoles: SquaresOrWeight = _absent(Squares)
    """(p − p*)², e² and (e·Å)²."""
    total_charge: SquaresOrWeight = _absent(Squares)
    """(Σq − Q)², e²."""
    total_charge_per_atom: SquaresOrWeight = _absent(Squares)
    """((Σq − Q)/N)², e²."""
    dipole: SquaresOrWeight = _absent(Squares)
    """(d − d*)² along the open axes, (e·Å)²."""
    dipole_per_atom: SquaresOrWeight = _absent(Squares)
    """((d − d*)/N)² along the open axes, (e·Å)²."""
    fermi_level: SquaresOrWeight = _absent(Squares)
    """(μ − μ*)², eV²."""
    fermi_level_per_atom: SquaresOrWeight = _absent(Squares)
    """((μ − μ*)/N)², eV²."""
    esps: SquaresOrWeight = _absent(Squares)
    """(v − v*)² of the electrostatic potential at the nuclei, V²; v* is the label, or the potential of the reference
    multipoles if data.keys.electrostatic_potentials is not mapped."""
    field_features: SquaresOrWeight = _absent(Squares)
    """(v − v*)² of the normalised field features of the density and of the reference multipoles."""
    polarizability: SquaresOrWeight = _absent(Squares)
    """((α − α*)/N)² along open axes, (e·Å²/V)²."""
    born_charges: SquaresOrWeight = _absent(Squares)
    """(Z − Z*)² of the Born effective charges, dipole along open axes, e²."""
    fragment_charges: SquaresOrWeight = _absent(Squares)
    """(Σ q − Σ q*)² over the atoms of each fragment, e²: of data.keys.fragments, else of data.keys.molecules, else of
    what bonds connect."""
    fragment_response: SquaresOrWeight = _absent(Squares)
    """(dQ_f/dE)², (e·Å/V)²: charge that a field along open axes moves between fragments (of ``fragment_charges``), of
    which those that insulate let none go; no label."""
    molecular_forces: SquaresOrWeight = _absent(Squares)
    """(Σ F − Σ F*)² over the atoms of each molecule, (eV/Å)²."""
    cluster_virial: SquaresOrWeight = _absent(Squares)
    """(Σ_m R_m·(F_m − F_m*))² over the molecules of each open structure, eV²."""
    cluster_virial_per_atom: SquaresOrWeight = _absent(Squares)
    """The same with the sum divided by N, eV²."""
    legendre: SquaresOrWeight = _absent(Squares)
    """((μ + dE/dQ)/N)², eV²: zero where the Fermi level is the derivative of the energy by the number of electrons."""
    fixedpoint_scf_stability: SpectrumTermOrWeight = _absent(SpectrumTerm)
    """softplus(λ_max − upper) + softplus(lower − λ_min), the ends of the real parts of the eigenvalues of dG/dp."""
    final_terms_fixedpoint_scf_stability: TermOrWeight = _absent(Term)
    """|p_T − p_(T−1)|, the change in the last step of mode unroll_scf, e and e·Å."""
    metallic_softness: TermOrWeight = _absent(Term)
    """Softness of the atoms that conducts (type: SplitChargeUpdate), e/V: elements that need not conduct, do not."""
    dipole_softness: TermOrWeight = _absent(Term)
    """Third of the trace of each atom's dipole block of M (type: SplitChargeUpdate), e Å²/V: dipoles that no label
    holds, as of bonds whose responses cancel each other, become no softer than they need."""
    fermi_level_gradient: TermOrWeight = _absent(Term)
    """max(0, dq_i/dμ) of each atom in a fixed field of the others, e/V: zero for electrons that follow the level."""

    def terms(self) -> dict[str, Term]:
        """The terms with a weight above zero."""
        every = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: term for name, term in every.items() if term.weight > 0}

    def active(self) -> dict[str, float]:
        """Weights of the terms with a weight above zero."""
        return {name: term.weight for name, term in self.terms().items()}


#: term -> what it needs of ``data.keys``, for terms whose one label has another name; ``a|b`` is either of two
LABELS_OF: dict[str, tuple[str, ...]] = {
    "energy_per_atom": ("energy",),
    "stress": ("stress|virial",),
    "atomic_multipoles": ("atomic_multipoles|charges",),
    "total_charge": (),
    "total_charge_per_atom": (),
    "dipole_per_atom": ("dipole",),
    "fermi_level_per_atom": ("fermi_level",),
    "esps": ("electrostatic_potentials|atomic_multipoles",),
    "field_features": ("atomic_multipoles",),
    "molecular_forces": ("forces", "molecules"),
    "cluster_virial": ("forces", "molecules"),
    "cluster_virial_per_atom": ("forces", "molecules"),
    "legendre": (),
    "fragment_response": (),
    "fragment_charges": ("atomic_multipoles|charges",),
    "metallic_softness": (),
    "dipole_softness": (),
    "fixedpoint_scf_stability": (),
    "final_terms_fixedpoint_scf_stability": (),
    "fermi_level_gradient": (),
}

#: terms that are zero where nothing conducts
OF_CONDUCTORS = ("fermi_level", "fermi_level_per_atom", "legendre", "metallic_softness")


def missing_label(name: str, mapped: dict[str, Any]) -> str | None:
    """What is missing in ``mapped``, ``data.keys`` as a dictionary, for a term of the loss; None if nothing is."""
    for label in LABELS_OF.get(name, (name,)):
        names = label.split("|")
        if all(mapped[key] is None for key in names):
            return "needs the label " + " or ".join(f"data.keys.{key}" for key in names) + ", which is not mapped"
    return None


def unavailable(name: str, mode: str, constant_charge: bool, update: str) -> str | None:
    """Why a term of the loss does not exist in a mode, or for a type of update; None if it does."""
    if name in ("metallic_softness", "dipole_softness") and update != "SplitChargeUpdate":
        return f"is for fixedpoint_update_config.type: SplitChargeUpdate; {update} has none of its parts"
    if mode == "direct" and name in ("polarizability", "born_charges", "legendre", "fragment_response"):
        return "is a derivative of the self-consistent density, which mode 'direct' does not have; use another mode"
    if name == "final_terms_fixedpoint_scf_stability" and mode != "unroll_scf":
        return f"is the last step of mode 'unroll_scf'; mode '{mode}' takes no steps that could be differentiated"
    if name == "legendre" and not constant_charge:
        return "compares the Fermi level with dE/dQ at constant charge; set scf.constant_charge: true"
    return None
