"""The JSON schema of the training file, for editors: it accepts the names and types that the loader accepts."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from . import TrainConfig
from .published_names import NAMES, PublishedName
from .translation import Translator

Schema = dict[str, Any]


def json_schema() -> Schema:
    """JSON schema (draft 2020-12) of the training file.

    Options of sections may also stand at the top level, but not in both places; so may published names that are
    accepted. Relations between values (stages that follow each other, labels that a loss needs) are the loader's.
    """
    schema = TrainConfig.model_json_schema(mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Training file of fixedpoint train"
    translator = TrainConfig.translator()
    properties, definitions = schema["properties"], schema["$defs"]
    demands: list[Schema] = []
    for section, options in translator.sections.items():
        definition = definitions[options.__name__]
        for name in definition.pop("required", []):
            demands.append({"anyOf": _ways(f"{section}.{name}", translator)})
        for name in options.model_fields:
            owners = [other for other in translator.sections.values() if name in other.model_fields]
            if name not in properties and len(owners) == 1:
                properties[name] = {"$ref": f"#/$defs/{options.__name__}/properties/{name}"}
        definition["type"] = ["object", "null"]
        properties[section] = {"$ref": f"#/$defs/{options.__name__}"}
    for entry in NAMES.values():
        _add_published(entry, schema, translator)
    _forbid_second_places(schema, translator)
    schema["required"] = [name for name in schema["required"] if name not in translator.sections]
    schema["allOf"] = demands
    numbered = next(form for form in properties["train_schedule"]["anyOf"] if form.get("type") == "object")
    numbered["additionalProperties"] = False
    _with_legacy_stage(definitions["Stage"])
    return schema


def _add_published(entry: PublishedName, schema: Schema, translator: Translator) -> None:
    """A published name at the top level and in its section, if any value of it is accepted."""
    values = _values(entry)
    if values is None:
        return
    if entry.name in translator.sections:
        # a name in place of the section; as a condition, so that editors point to what is wrong inside the section
        definition = schema["$defs"][translator.sections[entry.name].__name__]
        definition["type"] = [*definition["type"], "string"]
        definition["if"], definition["then"] = {"type": "string"}, values
        return
    schema["properties"].setdefault(entry.name, values)
    if entry.section:
        schema["$defs"][translator.sections[entry.section].__name__]["properties"].setdefault(entry.name, values)


def _forbid_second_places(schema: Schema, translator: Translator) -> None:
    """No option is given twice: at the top level, in its section, or under published names there."""
    forms: dict[str, set[tuple[str, str]]] = {}
    for section, options in translator.sections.items():
        for name in options.model_fields:
            top = {("", name)} if schema["properties"].get(name, {}).get("$ref", "").endswith(f"/{name}") else set()
            forms[f"{section}.{name}"] = {(section, name), *top}
    for entry in NAMES.values():
        for place in entry.sets:
            forms.setdefault(place, {("", place)}).update({("", entry.name), (entry.section, entry.name)})
    for same in forms.values():
        for section, name in same:
            where = schema["$defs"][translator.sections[section].__name__] if section else schema
            forbidden = where.setdefault("dependentSchemas", {}).setdefault(name, {"properties": {}})["properties"]
            for other_section, other in same - {(section, name)}:
                if other_section == section:
                    forbidden[other] = False
                elif not section:
                    forbidden.setdefault(other_section, {"properties": {}})["properties"][other] = False


def _values(entry: PublishedName) -> Schema | None:
    """Schema of the values of a published name; None if it is refused."""
    about = {"description": entry.meaning}
    if entry.place is not None:
        return {**TypeAdapter(entry.values).json_schema(), **about}
    return {"enum": list(entry.idle), **about} if entry.idle else None


def _ways(place: str, translator: Translator) -> list[Schema]:
    """The ways in which a required option can be given."""
    section, name = place.split(".")
    ways = [_has(section, name), {"required": [name]}]
    for entry in NAMES.values():
        if place in entry.sets:
            ways += [{"required": [entry.name]}, *([_has(entry.section, entry.name)] if entry.section else [])]
    if place == "data.keys":
        ways.append({"required": ["heads"]})
    if place == "data.files":
        of_head = {"additionalProperties": {"type": "object", "required": ["train_file"]}}
        ways.append({"required": ["heads"], "properties": {"heads": of_head}})
    return ways


def _has(section: str, name: str) -> Schema:
    return {"required": [section], "properties": {section: {"type": "object", "required": [name]}}}


def _with_legacy_stage(stage: Schema) -> None:
    stage["properties"]["scf_training_options"] = {
        "type": ["object", "string"],
        "deprecated": True,
        "description": "the earlier, flat form of fixed_point_training_options",
    }
    stage["required"] = [name for name in stage["required"] if name != "fixed_point_training_options"]
    stage["oneOf"] = [{"required": [name]} for name in ("fixed_point_training_options", "scf_training_options")]
