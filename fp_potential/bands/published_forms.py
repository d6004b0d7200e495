"""Local forms by the class names of the published code (``PPmodel``), and the weights of its checkpoints."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .local_forms import (
    Activation,
    Envelope,
    GaussianEnvelope,
    LocalForm,
    LogisticEnvelope,
    NeuralForm,
    Normalisation,
    Start,
    StepEnvelope,
    ZeroForm,
)

EnvelopeKind = Literal["none", "gaussian", "logistic", "fixed_logistic", "step"]


@dataclass(frozen=True)
class Family:
    """What a class name stands for, and how the class calls its linear layers."""

    activation: Activation
    start: Start
    normalisation: Normalisation = "none"
    envelope: EnvelopeKind = "none"
    scaled: bool = False
    layers: str = "hidden_l"


#: rate and center of `Net_relu_xavier_decay2`, and the radius of `Net_relu_xavier_BN_dropout_decay`, 1/Bohr
FIXED_LOGISTIC, STEP_RADIUS = (1.5, 6.0), 10.0

FAMILIES: dict[str, Family] = {
    "Net_sig": Family("sigmoid", "default", layers="hidden"),
    "Net_tanh": Family("tanh", "default", layers="hidden"),
    "Net_relu": Family("relu", "default", layers="hidden"),
    "Net_relu_xavier": Family("relu", "xavier"),
    "Net_sigmoid_xavier": Family("sigmoid", "xavier"),
    "Net_celu_HeInit": Family("celu", "he"),
    "Net_celu_RandInit": Family("celu", "random"),
    "Net_sig_UniformInit": Family("sigmoid", "uniform", layers="hidden"),
    "Net_tanh_XavierInit_dropout": Family("tanh", "xavier_uniform", layers="hidden"),
    "Net_relu_HeInit": Family("relu", "he_uniform", layers="hidden"),
    "Net_sig_bn": Family("sigmoid", "default", "batch_norm"),
    "Net_tanh_bn": Family("tanh", "default", "batch_norm"),
    "Net_relu_bn": Family("relu", "default", "batch_norm"),
    "Net_Xavier_BN": Family("tanh", "xavier_uniform", "batch_norm"),
    "Net_He_BN": Family("relu", "he_uniform", "batch_norm"),
    "Net_relu_xavier_BN_dropout": Family("relu", "xavier", "batch_norm"),
    "Net_relu_xavier_BN": Family("relu", "xavier", "batch_norm"),
    "Net_relu_xavier_BN_dropout_decay": Family("relu", "xavier", "batch_norm", "step"),
    "Net_relu_xavier_decay": Family("relu", "xavier", envelope="logistic"),
    "Net_relu_xavier_decay2": Family("relu", "xavier", envelope="fixed_logistic"),
    "Net_celu_HeInit_decay": Family("celu", "he", envelope="logistic"),
    "Net_relu_xavier_decayGaussian": Family("relu", "xavier", envelope="gaussian"),
    "Net_sigmoid_xavier_decayGaussian": Family("sigmoid", "xavier", envelope="gaussian"),
    "Net_celu_HeInit_decayGaussian": Family("celu", "he", envelope="gaussian"),
    "Net_celu_HeInit_scale_decayGaussian": Family("celu", "he", envelope="gaussian", scaled=True),
    "Net_celu_RandInit_decayGaussian": Family("celu", "random", envelope="gaussian"),
    "Net_relu_HeInit_decayGaussian": Family("relu", "he_uniform", envelope="gaussian", layers="hidden"),
    "Net_relu_xavier_BN_decayGaussian": Family("relu", "xavier", "batch_norm", "gaussian"),
    "Net_relu_xavier_BN_dropout_decayGaussian": Family("relu", "xavier", "batch_norm", "gaussian"),
}
ZERO = "ZeroFunction"


def by_published_name(
    name: str,
    hidden_layers: Sequence[int],
    n_species: int,
    PPmodel_decay_rate: float | None = None,
    PPmodel_decay_center: float | None = None,
    PPmodel_gaussian_std: float | None = None,
    PPmodel_scale: Sequence[float] | None = None,
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
) -> LocalForm:
    """The form of a published class name; keywords are the keys of ``NN_config.par`` that the class takes.

    ``dropout`` is ours: the published classes with dropout are always built with probability 0.

    Raises ValueError if the name is unknown, the class needs a key that is missing, or a key does not fit to it.
    """
    if name == ZERO:
        return ZeroForm(n_species)
    family = family_of(name)
    needed = {
        "PPmodel_decay_rate": (family.envelope == "logistic", PPmodel_decay_rate),
        "PPmodel_decay_center": (family.envelope == "logistic", PPmodel_decay_center),
        "PPmodel_gaussian_std": (family.envelope == "gaussian", PPmodel_gaussian_std),
        "PPmodel_scale": (family.scaled, PPmodel_scale),
    }
    for key, (wanted, value) in needed.items():
        if wanted and value is None:
            raise ValueError(f"PPmodel = {name} needs the key `{key}`, which is missing")
    values = (PPmodel_decay_rate, PPmodel_decay_center, PPmodel_gaussian_std)
    return NeuralForm(
        hidden_layers,
        n_species,
        family.activation,
        family.start,
        family.normalisation,
        _envelope(family.envelope, *values),
        dropout,
        PPmodel_scale if family.scaled else None,
        generator,
    )


def family_of(name: str) -> Family:
    """The family of a class name; a ValueError with the nearest names if there is none."""
    if name in FAMILIES:
        return FAMILIES[name]
    if name.endswith("_LSD") or "_osc_" in name:
        raise ValueError(
            f"PPmodel = {name} takes descriptors of the neighbourhood of an atom, not only |G|: "
            "bulk bands are fitted with the class of the same name without _LSD, for example "
            "Net_celu_HeInit_decayGaussian"
        )
    near = difflib.get_close_matches(name, [*FAMILIES, ZERO], 3, 0.5) or [*FAMILIES, ZERO]
    raise ValueError(f"PPmodel = {name} is no local form; did you mean {', '.join(near)}?")


def _envelope(kind: EnvelopeKind, rate: float | None, center: float | None, std: float | None) -> Envelope:
    if kind == "gaussian" and std is not None:
        return GaussianEnvelope(std)
    if kind == "logistic" and rate is not None and center is not None:
        return LogisticEnvelope(rate, center)
    if kind == "fixed_logistic":
        return LogisticEnvelope(*FIXED_LOGISTIC)
    return StepEnvelope(STEP_RADIUS) if kind == "step" else Envelope()


def load_published(form: NeuralForm, state: Mapping[str, Tensor]) -> None:
    """Give a form the weights of a published checkpoint (``init_PPmodel.pth``, ``epoch_N_PPmodel.pth``).

    Raises ValueError if the checkpoint has other layers than the form.
    """
    own = form.state_dict()
    given = {_own_name(key): torch.as_tensor(value) for key, value in state.items()}
    wrong = [key for key in own if key not in given or given[key].shape != own[key].shape]
    more = [key for key in given if key not in own]
    if wrong or more:
        sizes = [tuple(v.shape) for k, v in given.items() if k.startswith("layers.") and k.endswith("weight")]
        ours = [tuple(v.shape) for k, v in own.items() if k.startswith("layers.") and k.endswith("weight")]
        raise ValueError(
            f"the checkpoint has linear layers {sizes}, the form {ours}; missing or of another shape: {wrong}, "
            f"unknown: {more}. Give the `PPmodel` and `hiddenLayers` that it was trained with"
        )
    form.load_state_dict({key: given[key].to(own[key].dtype) for key in own})


def published_state(form: NeuralForm, name: str) -> dict[str, Tensor]:
    """The form's weights under the names of the published class ``name``, as its checkpoints have them."""
    family = family_of(name)
    wrapped = "neural_network." if family.envelope != "none" else ""
    names = {"layers.": f"{wrapped}{family.layers}.", "norms.": f"{wrapped}hidden_bn."}
    return {names[key[: key.index(".") + 1]] + key[key.index(".") + 1 :]: v for key, v in form.state_dict().items()}


def _own_name(key: str) -> str:
    key = key.removeprefix("neural_network.")
    for published, own in (("hidden_bn.", "norms."), ("hidden_l.", "layers."), ("hidden.", "layers.")):
        if key.startswith(published):
            return own + key.removeprefix(published)
    return key
