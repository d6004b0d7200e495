"""The pseudopotential that a training file describes, with its parameters in groups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ...bands import Crystal, LocalForm, NeuralForm, Pseudopotential, TabulatedForm, Terms, ZeroForm, by_published_name
from ...bands.local_forms import Envelope, GaussianEnvelope, LogisticEnvelope, zunger
from ...bands.published_forms import family_of
from ..errors import InputError
from .bundle.files import read_potential_table
from .config import LocalOptions, ModelOptions
from .data import BandSystem

#: columns of the nine parameters that a group holds, in their order
COLUMNS = {
    "local": slice(0, 4),
    "long_range": slice(4, 5),
    "spin_orbit": slice(5, 6),
    "nonlocal": slice(6, 8),
    "strain": slice(8, 9),
}
#: group of the weights of the local form
NETWORK = "network"


class _Columns(nn.Module):
    """The nine parameters of each species, of which every group is a parameter of its own."""

    def forward(self, *groups: Tensor) -> Tensor:
        """Groups ``(n_species, …)`` -> ``(n_species, 9)``."""
        return torch.cat(groups, dim=1)

    def right_inverse(self, values: Tensor) -> tuple[Tensor, ...]:
        """``(n_species, 9)`` -> the groups."""
        return tuple(values[:, columns].clone() for columns in COLUMNS.values())


def build_potential(options: ModelOptions, systems: Sequence[BandSystem], species: Sequence[str]) -> Pseudopotential:
    """The pseudopotential of ``species``, its analytic parameters in groups (`parameter_groups`).

    Raises:
        InputError: a species without parameters that the options need, or a table that cannot be read.
    """
    values = torch.tensor([options.parameters.get(name, [0.0] * 9) for name in species], dtype=torch.float64)
    analytic = options.local.form == "zunger"
    missing = [name for name in species if name not in options.parameters]
    switches = options.terms
    tabulated = options.local.form == "table" and options.local.table is None
    if missing and (analytic or tabulated or switches.long_range or switches.spin_orbit or switches.non_local):
        raise InputError(
            f"model.parameters: none for {', '.join(missing)}; expected nine numbers for each species of the systems"
        )
    terms = Terms(
        analytic=analytic,
        long_range=switches.long_range,
        spin_orbit=switches.spin_orbit,
        nonlocal_=switches.non_local,
        strain=switches.strain,
    )
    slaved = switches.neutral_by or (_slaved(options, systems) if switches.long_range else None)
    form = local_form(options.local, len(species), values)
    potential = Pseudopotential(species, form, values, terms, switches.lr_gamma, slaved)
    parametrize.register_parametrization(potential, "parameters_by_species", _Columns(), unsafe=True)
    trained = options.trainable if options.trainable is not None else default_groups(options)
    for name, parameters in _all_groups(potential).items():
        for parameter in parameters:
            parameter.requires_grad_(name in trained)
    return potential


def default_groups(options: ModelOptions) -> list[str]:
    """The network, or the local parameters without one, and spin-orbit and non-local terms that are switched on."""
    names = ["local" if options.local.form == "zunger" else NETWORK]
    names += ["spin_orbit"] if options.terms.spin_orbit else []
    return names + (["nonlocal"] if options.terms.non_local else [])


def _slaved(options: ModelOptions, systems: Sequence[BandSystem]) -> str | None:
    """The last species, in the order of atoms, whose long-range charge is not zero; the last other one if it is alone.

    A single charged species would have no charge at all, were it the one that makes the crystal neutral.
    """
    every = [name for system in systems for name in system.species]
    charged = [name for name in every if abs(options.parameters.get(name, [0.0] * 9)[4]) > 1e-10]
    if not charged:
        return None
    others = [name for name in every if name != charged[-1]]
    return others[-1] if others and len(set(charged)) == 1 else charged[-1]


def local_form(options: LocalOptions, n_species: int, parameters: Tensor) -> LocalForm:
    """The learned local form; zero where the analytic one is all there is.

    Args:
        options: the form.
        n_species: number of its columns.
        parameters: (n_species, 9), of the analytic form.

    Raises:
        InputError: a table that does not fit.
    """
    if options.ppmodel is not None and options.form == "neural":
        return published_form(options, n_species)
    if options.form == "table":
        if options.table is not None:
            return TabulatedForm(*read_table(Path(options.table), n_species))
        step, end = options.knots
        q = step * torch.arange(round(end / step) + 1, dtype=torch.float64)
        return TabulatedForm(q, zunger(q, parameters))
    if options.form != "neural":
        return ZeroForm(n_species)
    return NeuralForm(
        options.hidden_layers,
        n_species,
        options.activation,
        options.start,
        "batch_norm" if options.normalisation == "batch" else "none",
        _envelope(options),
        options.dropout,
        options.scale,
        _generator(options.start == "random"),
    )


def published_form(options: LocalOptions, n_species: int) -> LocalForm:
    """The form of ``ppmodel`` with the keys that its class takes.

    Raises:
        InputError: a key that is missing or does not fit.
    """
    name = options.ppmodel or ""
    family, envelope = family_of(name), options.envelope
    keys: dict[str, Any] = {}
    if family.envelope == "logistic":
        keys |= {"PPmodel_decay_rate": envelope.rate, "PPmodel_decay_center": envelope.center}
    if family.envelope == "gaussian":
        keys["PPmodel_gaussian_std"] = envelope.std
    if options.scale is not None:
        keys["PPmodel_scale"] = options.scale
    generator = _generator(family.start == "random")
    try:
        return by_published_name(
            name, options.hidden_layers, n_species, **keys, dropout=options.dropout, generator=generator
        )
    except ValueError as error:
        raise InputError(f"model.local: {error}") from error


def _generator(unseeded: bool) -> torch.Generator:
    """Random numbers of the seed of the run, or of none."""
    generator = torch.Generator()
    seed = int(torch.randint(2**62, ()))
    if unseeded:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


def _envelope(options: LocalOptions) -> Envelope | None:
    envelope = options.envelope
    if envelope.type == "gaussian":
        return GaussianEnvelope(envelope.std)
    return LogisticEnvelope(envelope.rate, envelope.center) if envelope.type == "logistic" else None


def read_table(path: Path, n_species: int) -> tuple[Tensor, Tensor]:
    """q ``(n,)`` and v ``(n, n_species)`` of a file ``init_qSpace_pot.par``.

    Raises:
        InputError: no such file, or not that table; says where.
    """
    q, values = read_potential_table(path, n_species)
    return torch.from_numpy(q), torch.from_numpy(values)


def _all_groups(potential: Pseudopotential) -> dict[str, list[nn.Parameter]]:
    found: dict[str, list[nn.Parameter]] = {NETWORK: list(potential.form.parameters())}
    originals = potential.parametrizations["parameters_by_species"]  # type: ignore[index]
    for number, name in enumerate(COLUMNS):
        found[name] = [getattr(originals, f"original{number}")]
    return found


def parameter_groups(potential: Pseudopotential, weight_decay: float) -> list[dict[str, object]]:
    """Groups for the optimiser: those that are trained."""
    return [
        {"name": name, "params": trained, "weight_decay": weight_decay}
        for name, parameters in _all_groups(potential).items()
        if (trained := [parameter for parameter in parameters if parameter.requires_grad])
    ]


def group_parameters(potential: Pseudopotential) -> dict[str, list[nn.Parameter]]:
    """All parameters by group, those that stay fixed among them."""
    return _all_groups(potential)


def charges_line(potential: Pseudopotential, crystal: Crystal, name: str) -> str:
    """The long-range charges of a crystal in words, the one that follows from the others and what is left over."""
    charges = dict(zip(potential.species, potential.charges(crystal).tolist(), strict=True))
    free = f"; that of {potential.slaved} follows from the others" if potential.slaved in crystal.kinds else ""
    total = sum(charges[atom] for atom in crystal.species)
    left = "" if abs(total) < 1e-6 else f"; the cell is left with {total:g} (model.terms.neutral_by)"
    return f"{name}: long-range charges {', '.join(f'{kind} {charges[kind]:g}' for kind in crystal.kinds)}{free}{left}"
