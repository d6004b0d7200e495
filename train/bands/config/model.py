"""Section ``model``: the local form, the analytic terms and the plane waves."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from ...config.schema import FOLDER, Finite
from ...errors import nearest

#: entries of a parameter vector
SLOTS = 9

#: classes of the published catalogue: activation, start, normalisation and decay of each
CLASSES = {
    "Net_sig": ("sigmoid", "default", "none", "none"),
    "Net_tanh": ("tanh", "default", "none", "none"),
    "Net_relu": ("relu", "default", "none", "none"),
    "Net_relu_xavier": ("relu", "xavier", "none", "none"),
    "Net_sigmoid_xavier": ("sigmoid", "xavier", "none", "none"),
    "Net_celu_HeInit": ("celu", "he", "none", "none"),
    "Net_celu_RandInit": ("celu", "random", "none", "none"),
    "Net_sig_UniformInit": ("sigmoid", "uniform", "none", "none"),
    "Net_tanh_XavierInit_dropout": ("tanh", "xavier_uniform", "none", "none"),
    "Net_relu_HeInit": ("relu", "he_uniform", "none", "none"),
    "Net_sig_bn": ("sigmoid", "default", "batch", "none"),
    "Net_tanh_bn": ("tanh", "default", "batch", "none"),
    "Net_relu_bn": ("relu", "default", "batch", "none"),
    "Net_Xavier_BN": ("tanh", "xavier_uniform", "batch", "none"),
    "Net_He_BN": ("relu", "he_uniform", "batch", "none"),
    "Net_relu_xavier_BN_dropout": ("relu", "xavier", "batch", "none"),
    "Net_relu_xavier_BN": ("relu", "xavier", "batch", "none"),
    "Net_relu_xavier_BN_dropout_decay": ("relu", "xavier", "batch", "step"),
    "Net_relu_xavier_decay": ("relu", "xavier", "none", "logistic"),
    "Net_relu_xavier_decay2": ("relu", "xavier", "none", "fixed_logistic"),
    "Net_celu_HeInit_decay": ("celu", "he", "none", "logistic"),
    "Net_relu_xavier_decayGaussian": ("relu", "xavier", "none", "gaussian"),
    "Net_sigmoid_xavier_decayGaussian": ("sigmoid", "xavier", "none", "gaussian"),
    "Net_celu_HeInit_decayGaussian": ("celu", "he", "none", "gaussian"),
    "Net_celu_HeInit_scale_decayGaussian": ("celu", "he", "none", "gaussian"),
    "Net_celu_RandInit_decayGaussian": ("celu", "random", "none", "gaussian"),
    "Net_relu_HeInit_decayGaussian": ("relu", "he_uniform", "none", "gaussian"),
    "Net_relu_xavier_BN_decayGaussian": ("relu", "xavier", "batch", "gaussian"),
    "Net_relu_xavier_BN_dropout_decayGaussian": ("relu", "xavier", "batch", "gaussian"),
}
#: names that ``PPmodel`` may have
PPMODELS = ("ZeroFunction", *CLASSES)

Group = Literal["network", "local", "long_range", "spin_orbit", "nonlocal", "strain"]


class EnvelopeOptions(Finite):
    """Decay of the network's output with q."""

    type: Literal["none", "logistic", "gaussian"] = "none"
    """logistic: 1 - 1/(1 + exp(-rate (q - center))); gaussian: exp(-q²/(2 std²))."""
    rate: float = Field(default=1.5, gt=0)
    """Steepness of the logistic decay, Bohr (``PPmodel_decay_rate``)."""
    center: float = Field(default=6.0, ge=0)
    """Its middle, 1/Bohr (``PPmodel_decay_center``)."""
    std: float = Field(default=2.0, gt=0)
    """Width of the Gaussian, 1/Bohr (``PPmodel_gaussian_std``)."""


class LocalOptions(Finite):
    """The local potential v(q) of all species."""

    form: Literal["zunger", "neural", "table", "zero"] = "zunger"
    """zunger: a0 (q² - a1)/(a2 exp(a3 q²) - 1) of the parameters; neural: a network of q with an output per species;
    table: interpolated from a file; zero: none."""
    ppmodel: str | None = None
    """Published class that chooses what follows (``PPmodel: Net_celu_HeInit_decayGaussian``); ``hidden_layers``, the
    numbers of ``envelope`` and ``scale`` are given beside it."""
    hidden_layers: list[int] = Field(default=[20, 20, 20])
    """Widths of the hidden layers (``hiddenLayers``)."""
    activation: Literal["sigmoid", "tanh", "relu", "celu"] = "celu"
    """Function behind each hidden layer."""
    start: Literal["xavier", "xavier_uniform", "he", "he_uniform", "uniform", "random", "default"] = "he"
    """How the weights are drawn: normal (xavier, he) or uniform with these variances, uniform in [0, 1], random (anew
    in each run, whatever the seed), or as torch draws them (default)."""
    normalisation: Literal["none", "batch"] = "none"
    """batch: batch normalisation before each activation."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability with which a hidden value is left out in training."""
    envelope: EnvelopeOptions = EnvelopeOptions()
    """Decay with q."""
    scale: list[float] | None = None
    """Factor on each species' output, in alphabetical order of the species (``PPmodel_scale``)."""
    table: str | None = None
    """File of ``form: table``: q and v of each species, in alphabetical order. None: the analytic form of the
    parameters at the points of ``knots``."""
    knots: tuple[float, float] = (0.25, 10.0)
    """Distance and end of the points of a table that is made of the analytic form, 1/Bohr."""

    @field_validator("table")
    @classmethod
    def _from_the_folder_of_the_file(cls, value: Any, info: ValidationInfo) -> Any:
        folder: Path | None = (info.context or {}).get(FOLDER)
        return str((folder / value).absolute()) if isinstance(value, str) and folder is not None else value

    @field_validator("hidden_layers")
    @classmethod
    def _positive(cls, widths: list[int]) -> list[int]:
        if not widths or min(widths) <= 0:
            raise ValueError(f"expected one width or more, each above zero, got {widths}")
        return widths

    @field_validator("ppmodel")
    @classmethod
    def _in_the_catalogue(cls, name: str | None) -> str | None:
        if name is not None and name not in PPMODELS:
            if name.endswith("_LSD"):
                raise ValueError(
                    f"{name} corrects potentials by their local environment, which is another learned model"
                )
            raise ValueError(f"no such class; {nearest(name, PPMODELS)}")
        return name

    @model_validator(mode="after")
    def _of_the_form(self) -> LocalOptions:
        if self.ppmodel is not None and self.form not in ("neural", "zunger"):
            raise ValueError(f"ppmodel '{self.ppmodel}' belongs to form: neural, not to form: {self.form}")
        if self.ppmodel is not None and (self.ppmodel == "ZeroFunction") != (self.form == "zunger"):
            raise ValueError(f"ppmodel {self.ppmodel} is not form: {self.form}: ZeroFunction means form: zunger")
        if self.form != "table" and self.table is not None:
            raise ValueError(f"table belongs to form: table, not to form: {self.form}")
        if not 0 < self.knots[0] <= self.knots[1] / 3:
            raise ValueError(
                f"knots: expected a distance above zero and an end at least three times as far, got {self.knots}"
            )
        return self


class TermsOptions(Finite):
    """Terms of the Hamiltonian besides the local one; each is a switch."""

    long_range: bool = False
    """-a4 (4π/q²) exp(-q²/(4 γ²)), of polar crystals."""
    lr_gamma: float = Field(default=0.2, gt=0)
    """γ, 1/Bohr (``LRgamma``)."""
    neutral_by: str | None = None
    """Species whose a4 follows from the others, so that the sum over the atoms is zero; none: the last one, in the
    order of atoms, whose a4 is not zero, or the last of the others if only one is charged."""
    spin_orbit: bool = False
    """Spin-orbit coupling a5 (``SObool``); the basis is doubled."""
    non_local: bool = False
    """The two channels a6, a7 of angular momentum 1 (with ``SObool`` in published files)."""
    strain: bool = False
    """v → v (1 + a8 (Ω/Ω₀ - 1)) in deformed cells; published bulk fits read a8 and do not use it."""
    cache: bool = True
    """Keep the blocks of spin-orbit and non-local terms (``cacheSO``); false: build them in each step."""


class ModelOptions(Finite):
    """The pseudopotential."""

    type: Literal["bands"]
    """Says that the training file is one of a pseudopotential fitted to bands."""
    local: LocalOptions = LocalOptions()
    """The local potential."""
    terms: TermsOptions = TermsOptions()
    """The other terms."""
    basis: Literal["complete", "published"] = "complete"
    """Plane waves: all with \\|G\\|²/2 below the cutoff, or those that the published code lists (it leaves some out in
    cells that are not orthogonal)."""
    parameters: dict[str, list[float]] = Field(default={})
    """Nine numbers of each species: local a0 … a3, long range a4, spin-orbit a5, non-local a6, a7, strain a8. Lists of
    four are local; five, as in old files: local and strain. Missing ones are 0."""
    trainable: list[Group] | None = None
    """Groups of parameters that are trained; none: network, or local without one, and the terms that are switched on
    except strain and long range."""

    @field_validator("parameters")
    @classmethod
    def _nine(cls, parameters: dict[str, list[float]]) -> dict[str, list[float]]:
        return {species: nine(values, f"species {species}") for species, values in parameters.items()}

    @model_validator(mode="after")
    def _species_that_exist(self) -> ModelOptions:
        named = self.terms.neutral_by
        if named is not None and named not in self.parameters:
            raise ValueError(
                f"terms.neutral_by '{named}' has no parameters; species with: {', '.join(self.parameters)}"
            )
        return self


def nine(values: list[float], what: str) -> list[float]:
    """A vector of 4, 5 or 9 entries as one of 9: the fifth of five is the strain parameter.

    Raises:
        ValueError: another length.
    """
    if len(values) == SLOTS:
        return list(values)
    if len(values) not in (4, 5):
        raise ValueError(
            f"{what}: {len(values)} parameters, expected 9 (a0 … a8), 5 (a0 … a3 and strain) or 4 (a0 … a3)"
        )
    return [*values[:4], 0.0, 0.0, 0.0, 0.0, values[4] if len(values) == 5 else 0.0]


def class_of(local: LocalOptions) -> str:
    """The published class of a local form that is described by its parts.

    Raises:
        ValueError: the catalogue has none.
    """
    if local.form == "zunger":
        return "ZeroFunction"
    parts = (local.activation, local.start, local.normalisation, local.envelope.type)
    same = [
        name for name, others in CLASSES.items() if others == parts and ("_scale_" in name) == (local.scale is not None)
    ]
    if local.form != "neural" or not same:
        raise ValueError(f"the published catalogue has no class for this model.local: {', '.join(parts)}")
    return min(same, key=len)
