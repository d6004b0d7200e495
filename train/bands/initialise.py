"""Where the parameters come from, in the published order: checkpoint, table, Zunger form, the network's own start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...bands import NeuralForm, Pseudopotential, load_published
from ...bands.local_forms import initialise as draw
from ..errors import InputError
from ..trainer import checkpoint
from ..trainer.initial_values import take_parameters
from .config import InitialiseOptions, LocalOptions
from .fit import fit_curve, table_curve, zunger_curve
from .potential import local_form
from .tables import take_state
from .targets import System

#: words that the log begins the choice with
CHOICE = "initialisation: "
#: starts of a network's weights that options or published classes may ask for, in words
STARTS = {
    "he": "He (normal of variance 2/fan-in)",
    "he_uniform": "He (uniform of variance 2/fan-in)",
    "xavier": "Xavier (normal of variance 2/(fan-in + fan-out))",
    "xavier_uniform": "Xavier (uniform of variance 2/(fan-in + fan-out))",
    "random": "random, not of the seed",
    "default": "as torch draws them",
    "uniform": "uniform in [0, 1]",
}


def initialise(
    potential: Pseudopotential,
    systems: Sequence[System],
    local: LocalOptions,
    options: InitialiseOptions,
    seed: int,
    follow: Callable[[int], None] | None = None,
) -> list[str]:
    """Set the parameters; the first line of what is returned names the strategy.

    Args:
        potential: what is set.
        systems: whose plane waves say how far a fit to a formula must go.
        local: how a network draws its weights.
        options: the strategy.
        seed: of the weights.
        follow: called now and then during a fit, with the number of its epochs.

    Raises:
        InputError: a source that is missing or does not fit, or a fit of a potential without a network.
    """
    if options.method == "checkpoint":
        return [CHOICE + f"checkpoint {options.init_from}", *take(potential, options)]
    analytic = not list(potential.form.parameters())
    if analytic:
        if options.method in ("zunger", "table"):
            raise InputError(
                f"initialise.method: {options.method} fits a network, but model.local.form: {local.form} has none; "
                "leave the method out"
            )
        return [CHOICE + "analytic parameters of the training file"]
    lines = [_drawn(potential, local, options.method, seed)]
    if options.method == "zunger":
        q, target = zunger_curve(potential.parameters_by_species, systems)
        if not bool(torch.isfinite(target).all()) or not bool(target.abs().sum(0).all()):
            raise InputError(
                "initialise.method: zunger needs model.parameters a0 … a3 of every species; without them use another "
                "method"
            )
        return [CHOICE + "fit to the Zunger form", *lines, *fit_curve(potential.form, q, target, options.fit, follow)]
    if options.method == "table":
        assert options.table is not None
        q, target = table_curve(Path(options.table), len(potential.species))
        title = CHOICE + f"fit to the table {options.table}"
        return [title, *lines, *fit_curve(potential.form, q, target, options.fit, follow)]
    return [CHOICE + lines[0]]


def _drawn(potential: Pseudopotential, local: LocalOptions, method: str, seed: int) -> str:
    """Draw the weights of the network anew; says how."""
    torch.manual_seed(seed)
    form = local_form(local, len(potential.species), potential.parameters_by_species.detach())
    potential.form.load_state_dict(form.state_dict())
    if not isinstance(form, NeuralForm):
        return f"{local.form} as in the training file"
    start: Any = form.start
    if method in ("he", "xavier"):
        assert isinstance(potential.form, NeuralForm)
        start = method
        generator = torch.Generator().manual_seed(seed)
        for layer in potential.form.layers:
            draw(layer, start, generator)
    text = f"weights {STARTS[start]}"
    return text if start == "random" else f"{text}, seed {seed}"


def take(potential: Pseudopotential, options: InitialiseOptions) -> list[str]:
    """Parameters of another run, or of a published state dict, by name and shape; says which.

    Raises:
        InputError: a file that cannot be read, or in which nothing fits.
    """
    assert options.init_from is not None
    path = Path(options.init_from)
    if path.is_dir():
        path = path / "checkpoints" / checkpoint.LATEST
    if not path.is_file():
        raise InputError(f"initialise.init_from: no file '{path}'; expected a run folder, a checkpoint or a .pth file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path}: not a readable checkpoint ({type(error).__name__}: {error})") from error
    if isinstance(state, dict) and "module" in state:
        values = _values(state, options.weights)
        result = take_parameters(potential, values, {})
        for name, buffer in potential.named_buffers():
            if name in state["module"] and state["module"][name].shape == buffer.shape:
                buffer.copy_(state["module"][name])
        if not result.taken:
            raise InputError(f"{path}: no parameter of it has a name and shape of this model; is it another model?")
        return result.lines()
    if isinstance(state, dict) and "parameters_by_species" in state:
        try:
            take_state(potential, state)
        except ValueError as error:
            raise InputError(f"{path}: {error}") from error
        return ["local form and analytic parameters of a potential written by a run"]
    return [_published(potential, state, path)]


def _values(state: dict[str, Any], weights: str) -> dict[str, Tensor]:
    """Parameters of one of our checkpoints by name: the average that is evaluated, or those of the last step."""
    values = dict(state["module"])
    if weights == "average" and state.get("average") is not None:
        values |= dict(zip(state["average_names"], state["average"]["average"], strict=True))
    return values


def _published(potential: Pseudopotential, state: Any, path: Path) -> str:
    """The network of a published state dict: weight and bias of each layer, in their order."""
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: expected the state dict of a published network (names and tensors)")
    if not isinstance(potential.form, NeuralForm):
        raise InputError(f"{path}: weights of a network, but model.local has none")
    try:
        load_published(potential.form, state)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    return f"{len(state)} tensors of a published state dict"


def optimizer_state(path: str | None, network: Sequence[Tensor]) -> dict[int, dict[str, Any]]:
    """The state of an optimiser for the parameters of the network, by their place: `torch.optim.Adam`'s.

    Raises:
        InputError: a file that is not such a state, or whose tensors have other shapes.
    """
    if path is None:
        return {}
    expected = "expected the state of an optimiser of this network (init_AdamState.pth, or a checkpoint of a run)"
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path}: not readable ({type(error).__name__}: {error}); {expected}") from error
    if isinstance(found, dict) and isinstance(found.get("optimizer"), dict):
        found = found["optimizer"]
    states = found.get("state") if isinstance(found, dict) else None
    if not isinstance(states, dict) or not all(place in states for place in range(len(network))):
        raise InputError(f"{path}: {expected}")
    for place, parameter in enumerate(network):
        for name, value in states[place].items():
            if isinstance(value, Tensor) and value.dim() > 0 and value.shape != parameter.shape:
                raise InputError(
                    f"{path}: {name} of parameter {place} has the shape {list(value.shape)}, the network's has "
                    f"{list(parameter.shape)}; {expected}"
                )
    return {place: states[place] for place in range(len(network))}
