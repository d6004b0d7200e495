"""Where a pseudopotential and its systems come from: run folder, checkpoint, published bundle or training file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ....bands import Pseudopotential
from ...config.schema import validate
from ...errors import InputError
from ...trainer import checkpoint
from ..bundle.read import is_bundle, read_bundle
from ..config import BandsTrainConfig, InitialiseOptions, load_config
from ..data import BandSystem, Geometry, species_of
from ..initialise import initialise, take
from ..potential import build_potential
from ..systems import load_systems
from ..tables import take_state
from ..targets import System, make_system, valence_band

#: methods that draw the weights of a network, which says nothing about a crystal
DRAWN = ("random", "he", "xavier")
EXPECTED = "expected a run folder, a checkpoint (.pt), a published bundle or a training file (.yaml)"


@dataclass(frozen=True)
class Source:
    """A pseudopotential and the systems of its training file.

    Attributes:
        lines: what is to be said of where it comes from.
    """

    config: BandsTrainConfig
    potential: Pseudopotential
    data: tuple[BandSystem, ...]
    lines: list[str]

    def systems(self, data: Sequence[BandSystem] | None = None) -> list[System]:
        """``data``, by default its own systems, with the basis and the terms of the pseudopotential.

        Raises:
            InputError: a species that the pseudopotential does not have.
        """
        model, found = self.config.model, []
        for system in self.data if data is None else data:
            missing = sorted(set(system.species) - set(self.potential.species))
            if missing:
                raise InputError(
                    f"{system.name}: the pseudopotential has no {', '.join(missing)}; it has the species "
                    f"{', '.join(self.potential.species)}"
                )
            found.append(make_system(system, model.basis, self.potential.terms, False, self.config.training.hold_out))
        return found

    def chosen(self, names: Sequence[str], data: Sequence[BandSystem] | None = None) -> list[BandSystem]:
        """Systems by name, or all; of ``data``, by default its own.

        Raises:
            InputError: no such system; names those that there are.
        """
        every = list(self.data if data is None else data)
        present = [system.name for system in every]
        unknown = [name for name in names if name not in present]
        if unknown:
            raise InputError(f"no system '{unknown[0]}'; there are {', '.join(present)}")
        return [system for system in every if not names or system.name in names]


def load_source(path: str | Path, weights: str | None = None) -> Source:
    """The pseudopotential of a run folder, a checkpoint, a bundle or a training file.

    Of the last two it is that with which a run would begin: the analytic parameters, or a network from a checkpoint or
    fitted to a curve.

    Args:
        weights: parameters in the place of these: of a run folder, a checkpoint, a table of weights that a run has
            written (``final_pot.pth``, ``best_pot.pth``) or a published ``init_PPmodel.pth``.

    Raises:
        InputError: nothing of that kind is there, or a network without weights.
    """
    config, state, where = _options(Path(path))
    data = load_systems(config.systems)
    species = tuple(state["problem"]["species"]) if state else species_of(data)
    torch.manual_seed(config.training.seed)
    potential = build_potential(config.model, data, species)
    options = config.training.initialise
    if weights is not None:
        lines = _take(potential, Path(weights))
    elif where is not None:
        take(potential, InitialiseOptions(method="checkpoint", init_from=where))
        lines = [f"parameters of {where}"]
    else:
        if list(potential.form.parameters()) and options.method in DRAWN:
            raise InputError(
                f"{path}: its network has random weights ({options.method}); train it and name the run folder, or name "
                "weights beside it"
            )
        systems = [make_system(system, config.model.basis, potential.terms, False, None) for system in data]
        lines = initialise(potential, systems, config.model.local, options, config.training.seed)
    potential.eval()
    return Source(config, potential, data, lines)


def load_material(path: str | Path) -> tuple[BandSystem, ...]:
    """The systems of a bundle, a training file or a run, whatever its own pseudopotential is."""
    return load_systems(_options(Path(path))[0].systems)


def _options(path: Path) -> tuple[BandsTrainConfig, dict[str, Any] | None, str | None]:
    """The training file, and the checkpoint with its name if it is of a run."""
    if is_bundle(path):
        return read_bundle(path), None, None
    if path.suffix in (".yaml", ".yml"):
        return load_config(path), None, None
    file = path / "checkpoints" / checkpoint.LATEST if path.is_dir() else path
    if not file.is_file():
        what = "has no checkpoint and is no bundle" if path.is_dir() else "does not exist"
        raise InputError(f"{path}: {what}; {EXPECTED}")
    if path.suffix == ".pth":
        raise InputError(f"{path}: holds weights alone; {EXPECTED}, and the weights beside it")
    state = checkpoint.load(file)
    if state["config"].get("model", {}).get("type") != "bands":
        raise InputError(f"{file}: is not of a pseudopotential, but of an interatomic potential (fixedpoint eval)")
    return validate(state["config"], BandsTrainConfig, str(file)), state, str(file)


def _take(potential: Pseudopotential, path: Path) -> list[str]:
    """Set the parameters to those of ``path``; says which."""
    if path.suffix == ".pth" and path.is_file():
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise InputError(f"{path}: not readable ({type(error).__name__}: {error})") from error
        if isinstance(state, dict) and "parameters_by_species" in state:
            try:
                take_state(potential, state)
            except ValueError as error:
                raise InputError(f"{path}: {error}") from error
            return [f"parameters of {path}"]
    return [f"parameters of {path}", *take(potential, InitialiseOptions(method="checkpoint", init_from=str(path)))]


def material_of(geometry: Geometry, source: Source, max_ke: float | None, n_bands: int | None) -> BandSystem:
    """A crystal without a reference at Γ, with the cutoff and the number of bands of the source's systems.

    Raises:
        InputError: these differ among the systems, and are not given.
    """
    cutoffs = sorted({system.max_ke for system in source.data})
    if max_ke is None and len(cutoffs) > 1:
        given = ", ".join(f"{value:g}" for value in cutoffs)
        raise InputError(f"--max_ke: expected the cutoff for this crystal; the systems have {given} Ha")
    number = max(system.n_bands for system in source.data) if n_bands is None else n_bands
    name = "".join(dict.fromkeys(geometry.species))
    return without_reference(
        BandSystem(
            name=name,
            geometry=geometry,
            max_ke=cutoffs[0] if max_ke is None else max_ke,
            n_bands=number,
            kpoints=np.zeros((1, 3)),
            k_weights=np.ones(1),
            path=np.zeros(1),
            reference=None,
            band_weights=np.zeros((1, number)),
        )
    )


def without_reference(system: BandSystem) -> BandSystem:
    """The crystal alone: what refers to single k-points is left out; the valence band is that of the reference."""
    valence = system.valence_band
    if valence is None and system.reference is not None:
        valence = valence_band(system.species, torch.from_numpy(system.reference))
    return replace(
        system,
        reference=None,
        transitions=(),
        couplings=(),
        masses=None,
        band_order=None,
        gap_kpoint=None,
        valence_band=valence,
    )
