"""What all typed options share: values given as text, reasons for values that do not exist, unknown names refused."""

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

#: how text that stands for a list, a mapping or nothing begins
_LITERAL = r"^\s*([\[({].*|None\s*)$"


def from_text(value: Any) -> Any:
    """``value``, or what it says if it is text in Python's notation: "[1.5, 3.0]", "{'type': ...}", "None".

    Raises:
        ValueError: it begins like a list or a mapping and is none.
    """
    if not isinstance(value, str) or not re.match(_LITERAL, value, re.DOTALL):
        return value
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        raise ValueError(f"not a list or mapping in Python's notation: {value!r}") from None


@dataclass(frozen=True)
class MayBeText:
    """Annotation of a list, a mapping or an option that may be None: it can be given as text, too (`from_text`)."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], CoreSchema]) -> CoreSchema:
        return core_schema.no_info_before_validator_function(from_text, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: Callable[[CoreSchema], JsonSchemaValue]
    ) -> JsonSchemaValue:
        return {"anyOf": [handler(schema), {"type": "string", "pattern": _LITERAL}]}


class WithReasons(BaseModel):
    """Options that say of values known from elsewhere why they do not exist here."""

    #: option -> value that it has elsewhere -> why it does not exist here and what to use
    refused: ClassVar[dict[str, dict[str, str]]] = {}

    @field_validator("*", mode="before")
    @classmethod
    def _values_of_others(cls, value: Any, info: ValidationInfo) -> Any:
        reasons = cls.refused.get(info.field_name or "", {})
        if isinstance(value, str) and value in reasons:
            raise ValueError(f"{value} does not exist here: {reasons[value]}")
        return value


def _first_line_alone(schema: dict[str, Any]) -> None:
    """What follows the first line of a docstring is for readers of the code, not for those of a JSON schema."""
    if "description" in schema:
        schema["description"] = schema["description"].partition("\n")[0]


class Options(WithReasons):
    """Typed options: names that do not exist are errors; the descriptions of the fields are the manual."""

    model_config = ConfigDict(
        extra="forbid", validate_default=True, allow_inf_nan=False, json_schema_extra=_first_line_alone
    )
