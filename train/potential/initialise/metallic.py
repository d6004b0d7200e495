"""Where `SplitChargeUpdate` starts to conduct: elements that take added charge in the training set (`charging`)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from ase.data import chemical_symbols

from ....model import FixedPointPotential
from ....options import ModelOptions
from ...errors import InputError
from ..charging import TYPICAL, Charging, softness_of
from ..config import TrainConfig

#: dipole softness that a metal starts with, e Å²/V: about that with which the charge of a surface of copper lies as far
#: outside its outermost atoms as in DFT (examples/cu_water_electrode)
SPILLS_OUT = 0.5
#: t before the relu of elements that do not conduct: features of the atoms can hardly overcome it
INSULATING = -1.0


def metals(options: ModelOptions, elements: Sequence[int]) -> dict[int, str]:
    """Elements that may conduct: their places among ``elements``, and symbols; none for updates that do not ask."""
    update = options.fixedpoint_update_config
    if update.type != "SplitChargeUpdate":
        return {}
    symbols = [chemical_symbols[z] for z in elements]
    chosen = symbols if update.metallic == "auto" else [] if update.metallic == "none" else update.metallic
    return {place: symbol for place, symbol in enumerate(symbols) if symbol in chosen}


def start_metallic(model: FixedPointPotential, options: ModelOptions, charging: Charging) -> list[str]:
    """Sets the metallic softness that ``model`` starts with; a line of what was found, none for other updates.

    With ``metallic: auto`` elements of which the data say that they conduct start with s_z (`charging`), all others
    with exactly none. Those of a list (`metallic: [Cu]`) start with s_z, at least ``TYPICAL``. Metals with
    dipoles start with ``SPILLS_OUT``.
    """
    able = metals(options, model.elements)
    if not able:
        return []
    listed = options.fixedpoint_update_config.metallic != "auto"
    update, start, texts = model.solver.density_map.response, [], []
    for place, number in enumerate(model.elements):
        symbol = chemical_symbols[number]
        softness, frames = softness_of(charging, symbol) if place in able else (0.0, 0)
        if listed and place in able:
            softness, frames = max(softness, TYPICAL), frames if softness > TYPICAL else 0
        start.append(softness)
        if softness > 0:
            texts.append(f"{symbol} {softness:.3g} e/V" + (f" from {frames} frames" if frames else ""))
    with torch.no_grad():
        amplitudes = [s**0.5 / update.metallic_scale if s > 0 else INSULATING for s in start]
        update.metallic_bias.copy_(torch.tensor(amplitudes, dtype=torch.float64).to(update.metallic_bias))
        if not update.without_dipoles:
            update.dipole_bias[[s > 0 for s in start]] = math.log(math.expm1(SPILLS_OUT))
    hard = [chemical_symbols[z] for z, s in zip(model.elements, start, strict=True) if s == 0]
    if not texts:
        why = "no element takes charge that is added to frames of one composition"
        return [f"metallic: nothing conducts, {why} (metallic: [Cu] names those that do)"]
    return [f"metallic: {', '.join(texts)}" + (f"; {', '.join(hard)} insulate" if hard else "")]


def check_levels(model: FixedPointPotential, config: TrainConfig) -> None:
    """Refuse stages that hold a Fermi level of a model that starts with nothing that conducts, and keeps it so.

    Raises:
        InputError: names the stage and the option.
    """
    update = model.solver.density_map.response
    starts = [config.training.initialise, *(stage.initialise for stage in config.train_schedule)]
    from_others = any(start is not None and start.method == "checkpoint" for start in starts)
    able = metals(config.model, model.elements)
    if from_others or not able or bool((update.metallic_bias[list(able)] > 0).any()):
        return
    for number, stage in enumerate(config.train_schedule):
        if not stage.constant_charge:
            raise InputError(
                f"train_schedule.{number} ('{stage.name}'): scf.constant_charge: false holds a Fermi level, but with "
                "fixedpoint_update_config.metallic: auto nothing conducts: in the training set no element takes "
                "charge that is added to frames of one composition. Name those that conduct, as metallic: [Cu]"
            )
