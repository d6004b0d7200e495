"""Arguments that users of the published calculator know, as arguments of `FixedPointCalculator`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..options import ModelOptions

#: keywords of ASE's own calculator
ASE_ARGUMENTS = ("restart", "ignore_bad_restart_file", "label", "atoms", "directory")

#: thinnest jellium slab, Å
THINNEST_SLAB = 0.1


@dataclass
class PublishedArguments:
    """What the published arguments among those given say."""

    own: dict[str, Any] = field(default_factory=dict)  #: arguments of `FixedPointCalculator`
    scf_options: dict[str, Any] = field(default_factory=dict)
    info_keys: dict[str, str] = field(default_factory=dict)  #: total_charge, external_field, fermi_level -> key
    pbc_handling: str = "auto"
    jellium: bool = False
    jellium_bounds: tuple[float, float] | None = None  #: Å
    default_dtype: str | None = None

    def with_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """``scf_options`` with what published arguments say.

        Raises:
            ValueError: they contradict one another.
        """
        for name, value in self.scf_options.items():
            if given.get(name, value) != value:
                raise ValueError(
                    f"`scf_options` has {name} = {given[name]!r}, `scf_restart` or `restart_density` asks for "
                    f"{value!r}: leave one of them out"
                )
        return {**self.scf_options, **given}


@dataclass(frozen=True)
class _Argument:
    """``take`` puts a value where it belongs; without it, only values in ``idle`` are accepted."""

    meaning: str
    take: Callable[[PublishedArguments, Any], Any] | None = None
    idle: tuple[Any, ...] = ()


def _pbc_handling(said: PublishedArguments, value: Any) -> None:
    ModelOptions(electrostatic_pbc_method=value)  # the same choices, with the same reasons
    said.pbc_handling = value


def _restart(said: PublishedArguments, value: Any) -> None:
    start = "restart" if value else "local_guess"
    if said.scf_options.setdefault("initial_density", start) != start:
        raise ValueError("`scf_restart` and `restart_density` contradict each other: give one of them")


def _jellium_bounds(said: PublishedArguments, value: Any) -> None:
    bounds = np.asarray(value, dtype=float)
    if bounds.shape != (2,) or not np.isfinite(bounds).all() or bounds[1] - bounds[0] < THINNEST_SLAB:
        raise ValueError(
            f"`jellium_slab_bounds` are the heights (lower, upper) of the slab's faces in Å, at least {THINNEST_SLAB} "
            f"apart; got {value!r}"
        )
    said.jellium_bounds = (float(bounds[0]), float(bounds[1]))


_KEY = "name of the entry of atoms.info"
_COMPILED = "the archive is compiled TorchScript as it is"
ARGUMENTS: dict[str, _Argument] = {
    "model_path": _Argument("`model`", lambda said, v: said.own.update(model=v)),
    "pbc_handling": _Argument("which structures are accepted; each has the kernels of its own pbc", _pbc_handling),
    "default_dtype": _Argument(
        "must be the precision of the archive", lambda said, v: setattr(said, "default_dtype", v), idle=(None,)
    ),
    "save_full_scf_history": _Argument("`full_scf_history`", lambda said, v: said.own.update(full_scf_history=v)),
    "total_charge_key": _Argument(_KEY, lambda said, v: said.info_keys.update(total_charge=v)),
    "external_field_key": _Argument(f"{_KEY} with F = -E", lambda said, v: said.info_keys.update(external_field=v)),
    "fermi_level_key": _Argument(
        f"{_KEY} with the level that is held (constant_charge: false), or at which its search begins",
        lambda said, v: said.info_keys.update(fermi_level=v),
    ),
    "atomic_multipoles_key": _Argument("`density_key`", lambda said, v: said.own.update(density_key=v)),
    "scf_restart": _Argument("scf_options initial_density: restart", _restart),
    "restart_density": _Argument("scf_options initial_density: restart", _restart),
    "restart_fermi_level": _Argument(
        "the level that holds the charge is found in every application, from wherever it starts", idle=(True, False)
    ),
    "adjust_kspace_cutoff": _Argument(
        "the cutoff belongs to the model: set model.kspace_cutoff_factor when it is trained", idle=(1.0,)
    ),
    "compensating_jellium": _Argument(
        "a slab of the opposite total charge between `jellium_slab_bounds`",
        lambda said, v: setattr(said, "jellium", bool(v)),
        idle=(False, None),
    ),
    "jellium_slab_bounds": _Argument("heights of its faces along the open axis, Å", _jellium_bounds, idle=(None,)),
    "energy_units_to_eV": _Argument("models are in eV and Å: convert the data they are trained on", idle=(1.0,)),
    "length_units_to_A": _Argument("models are in eV and Å: convert the data they are trained on", idle=(1.0,)),
    "use_compile": _Argument(_COMPILED, idle=(False, None)),
}


def take_published(given: dict[str, Any], own: Collection[str]) -> PublishedArguments:
    """Take the published arguments out of ``given``; what is left are ASE's own.

    Raises:
        ValueError: an argument that nobody knows (names the nearest of these, ASE's and ``own``), or one that does not
            exist here, with the reason.
    """
    said = PublishedArguments()
    for name in [name for name in given if name not in ASE_ARGUMENTS]:
        value = given.pop(name)
        argument = ARGUMENTS.get(name)
        if argument is None:
            near = difflib.get_close_matches(name, [*own, *ARGUMENTS, *ASE_ARGUMENTS], n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"arguments: {', '.join(own)}"
            raise ValueError(f"unknown argument `{name}`; {hint}")
        if np.ndim(value) == 0 and value in argument.idle:
            continue
        if argument.take is None:
            raise ValueError(f"`{name}` = {value!r} does not exist here: {argument.meaning}")
        argument.take(said, value)
    if said.jellium != (said.jellium_bounds is not None):
        raise ValueError(
            "`compensating_jellium` = True and `jellium_slab_bounds` = (lower, upper) belong together: give both"
        )
    return said
