"""Under which keys of ``atoms.info`` and ``atoms.arrays`` a calculator looks, and what it reads there.

The archive remembers the keys, signs and units of the frames it was trained on; they are read as the training did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CHARGE, LEVEL, START_LEVEL, DENSITY = "total_charge", "fermi_level", "initial_fermi_level", "REF_atomic_multipoles"
#: key -> sign s of the gradient of the potential, F = s times what is there: physical fields E have -1
FIELDS = {"electric_field": -1, "external_field": 1}
#: units that the calculator reads, as `training.data.units` of an archive names them
UNITS = {"energy": "eV", "length": "Å"}


@dataclass(frozen=True)
class InfoKeys:
    """Keys of the inputs of a calculation, and what has to be said of them when they are read."""

    charges: tuple[str, ...]  #: total charge, e
    fields: Mapping[str, int]  #: field, V/Å, with the sign of F = -E
    start_levels: tuple[str, ...]  #: where the search of the Fermi level begins, eV; with `LEVEL` what may be held
    density: str  #: array ``(n, 4)`` of reference multipoles
    level_is_label: bool  #: whether the training read `LEVEL` as a label
    remarks: Mapping[str, str]  #: key -> sentence for who uses it

    def all_of_info(self) -> tuple[str, ...]:
        """Every key of ``atoms.info`` that may be read."""
        return tuple(dict.fromkeys((*self.charges, LEVEL, *self.fields, *self.start_levels)))


def info_keys(metadata: Mapping[str, Any], given: Mapping[str, str], density: str | None) -> InfoKeys:
    """The keys for an archive: those among the arguments, else those of the training beside the usual ones.

    Args:
        metadata: of the archive.
        given: ``total_charge``, ``external_field``, ``fermi_level`` -> key, as the published arguments name them.
        density: key of the reference multipoles, if it is given.
    """
    data = (metadata.get("training") or {}).get("data") or {}
    trained: Mapping[str, str] = data.get("keys") or {}
    charges = tuple(dict.fromkeys((trained.get("total_charge", CHARGE), CHARGE)))
    starts = tuple(dict.fromkeys((START_LEVEL, *([trained["fermi_level"]] if "fermi_level" in trained else []))))
    fields, remarks = _fields(data, trained)
    if "external_field" in given:
        key = given["external_field"]
        fields = {name: sign for name, sign in fields.items() if name == "electric_field"} | {key: 1}
        trained_sign = _sign(trained, key)
        remarks = {name: text for name, text in remarks.items() if name in fields}
        if trained_sign == -1:
            remarks[key] = (
                f"the argument `external_field_key` has atoms.info['{key}'] read as the gradient F = -E, V/Å; the "
                "training of this model read it as the physical field E"
            )
        else:
            remarks.pop(key, None)
    return InfoKeys(
        charges=(given["total_charge"],) if "total_charge" in given else charges,
        fields=fields,
        start_levels=(given["fermi_level"],) if "fermi_level" in given else starts,
        density=density or trained.get("atomic_multipoles", DENSITY),
        level_is_label=trained.get("fermi_level") == LEVEL,
        remarks=remarks,
    )


def _fields(data: Mapping[str, Any], trained: Mapping[str, str]) -> tuple[dict[str, int], dict[str, str]]:
    """Keys of fields with their signs, and what to say of them."""
    fields, remarks = dict(FIELDS), {}
    for name, sign in (("electric_field", -1), ("external_field", 1)):
        if name not in trained:
            continue
        key = trained[name]
        meaning = "the physical field E" if sign == -1 else "the gradient F = -E of the potential"
        if FIELDS.get(key, sign) != sign:
            remarks[key] = (
                f"atoms.info['{key}'] is read as {meaning}, V/Å, as in the training of this model (data.keys.{name}: "
                f"{key}); the argument `electric_field` is E whatever the model"
            )
        fields[key] = sign
    if "external_field" not in trained.values():
        remarks["external_field"] = (
            "atoms.info['external_field'] is read as the gradient F = -E of the potential, V/Å: this model was not "
            "trained with such a key; atoms.info['electric_field'] is the physical field E"
        )
    units = _other_units(data)
    if units:
        for key in (*fields, LEVEL, START_LEVEL):
            said = remarks.get(key, f"atoms.info['{key}'] is read in {'V/Å' if key in fields else 'eV'}")
            remarks[key] = f"{said}; the files of this model's training were in other units ({units})"
    return fields, remarks


def _sign(trained: Mapping[str, str], key: str) -> int | None:
    """The sign with which the training read ``key`` as a field."""
    return -1 if trained.get("electric_field") == key else 1 if trained.get("external_field") == key else None


def _other_units(data: Mapping[str, Any]) -> str:
    """The units of the training's files where they are not those of the calculator."""
    units = data.get("units") or {}
    plain = {name: unit for name, unit in units.items() if name != "labels"} | (units.get("labels") or {})
    named = {name: unit for name, unit in plain.items() if UNITS.get(name, None) != unit}
    return ", ".join(f"{name}: {unit}" for name, unit in named.items())
