"""Settings of a calculator: read and changed one by one or with `set`; results never outlive those they belong to."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from ..options import SCFOptions
from ..options.kspace import KSpace
from .inputs import Given, gradient_of, number, vector

#: what a calculator is made of: another one needs another calculator
FIXED = ("model", "device", "density_key")
#: what is done far outside the training
OUTSIDE = ("warn", "error", "ignore")


@dataclass(frozen=True)
class Settings:
    """What can be changed in a calculator.

    Raises:
        ValueError: a value that is none, and settings that contradict one another.
    """

    scf: SCFOptions
    total_charge: float | None = None  #: e
    fermi_level: float | None = None  #: eV
    electric_field: Sequence[float] | None = None  #: (3,) E, V/Å
    holds_charge: bool | None = None  #: ``constant_charge`` as the user said it; None: nothing was said
    ignore_nonconverged: bool = False
    full_scf_history: bool = False
    kspace: str | None = None
    kspace_accuracy: float | None = None
    remove_net_force: bool = False
    field_origin: Sequence[float] | None = None  #: (3,) Å
    outside: str = "warn"  #: one of `OUTSIDE`

    def __post_init__(self) -> None:
        checked = {
            "total_charge": number(self.total_charge, "`total_charge`"),
            "fermi_level": number(self.fermi_level, "`fermi_level`"),
            "electric_field": vector(self.electric_field, "`electric_field`"),
            "field_origin": vector(self.field_origin, "`field_origin`"),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        KSpace(self.kspace, self.kspace_accuracy)
        if self.outside not in OUTSIDE:
            raise ValueError(f"`outside` is {self.outside!r}; expected one of {', '.join(OUTSIDE)}")
        if self.total_charge is not None and self.fermi_level is not None:
            raise ValueError("give `total_charge` or `fermi_level`, not both: one of them follows from the other")
        if self.fermi_level is not None and self.holds_charge is True:
            raise ValueError(
                "`fermi_level` holds the Fermi level, constant_charge: true among `scf_options` the charge: leave one "
                "of them out"
            )
        if self.total_charge is not None and self.holds_charge is False:
            raise ValueError(
                "`total_charge` holds the charge, constant_charge: false holds a Fermi level: give the argument "
                "`fermi_level` and no `total_charge`, or leave constant_charge out"
            )

    def given(self) -> Given:
        """Charge, level and field as arguments."""
        return Given(self.total_charge, self.fermi_level, gradient_of(self.electric_field))

    def check_jellium(self) -> None:
        """Refuse what contradicts a compensating slab."""
        if self.remove_net_force:
            raise ValueError("`remove_net_force`: the slab of a compensating jellium holds the atoms; leave it out")
        if self.field_origin is not None:
            raise ValueError("`field_origin`: with a compensating jellium it is the middle of the slab; leave it out")

    def kspace_idle(self, own: KSpace | None) -> list[str]:
        """Sentences on settings of the long-range sums without an effect; ``own`` are those of the archive."""
        return KSpace(self.kspace, self.kspace_accuracy, self.remove_net_force).idle(own)

    def changed(self, changes: Mapping[str, Any]) -> Settings:
        """These settings with ``changes``: names of `Settings`, or ``scf_options``, fields of `SCFOptions`.

        A charge takes the place of a Fermi level, and the other way round.

        Raises:
            ValueError: a name that does not exist or cannot be changed, and as for the settings.
        """
        known = [*(item.name for item in fields(self) if item.name != "holds_charge"), "scf_options"]
        for name in changes:
            if name in FIXED:
                raise ValueError(f"`{name}` of a calculator cannot be changed: make a new FixedPointCalculator")
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean `{near[0]}`?" if near else f"settings: {', '.join(known)}"
                raise ValueError(f"unknown setting `{name}`; {hint}")
        new = dict(changes)
        if new.get("total_charge") is not None:
            new.setdefault("fermi_level", None)
        if new.get("fermi_level") is not None:
            new.setdefault("total_charge", None)
        options = new.pop("scf_options", None) or {}
        if "constant_charge" in options:
            new["holds_charge"] = options["constant_charge"]
        scf = new.get("scf", self.scf)
        if scf.constant_charge != self.scf.constant_charge:
            new.setdefault("holds_charge", scf.constant_charge)
        new["scf"] = scf.changed(options)
        if new["scf"].history != self.scf.history:
            raise ValueError(
                f"`scf_options.history` is {self.scf.history} in this archive and cannot be changed here; export the "
                "model with another one"
            )
        return replace(self, **new)


def setting(name: str, meaning: str) -> Any:
    """An attribute of a calculator with ``settings``; assigning it calls the calculator's ``set``."""

    def read(calculator: Any) -> Any:
        return getattr(calculator.settings, name)

    def write(calculator: Any, value: Any) -> None:
        calculator.set(**{name: value})

    return property(read, write, doc=meaning)
