"""Settings that refuse nonsense: the base of all of them, and one-line refusals. Free of torch."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from dtr.support.errors import Refusal

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Settings(BaseModel):
    """Base of all settings: unknown keys and wrong types are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def plain(self) -> dict[str, Any]:
        """The settings as JSON types, the form that is hashed and handed to a stage."""
        return self.model_dump(mode="json")

    def essence(self) -> dict[str, Any]:
        """What is hashed: the settings without defaults, so that a new field renames nothing.

        A default that changes results bumps the REVISION of its stage instead.
        """
        return self.model_dump(mode="json", exclude_defaults=True)


class PartSettings(Settings):
    """Base of the settings of all exchangeable parts: `type` names the part, see `dtr.registry`."""

    type: str


AnySettings = TypeVar("AnySettings")


def parse(model: type[AnySettings], value: Any, *, source: str) -> AnySettings:
    """`value` (JSON types, or JSON text) as settings; refused in one line naming the culprit."""
    if isinstance(value, str):
        text, value = value, _from_json(value)
    else:
        text = None
    if (problem := _strange(value, "")) is not None:
        raise Refusal(f"{source}: {problem}")
    text = json.dumps(value) if text is None else text
    try:
        if isinstance(model, type) and issubclass(model, BaseModel):
            return model.model_validate_json(text)  # a model has its validator already
        return TypeAdapter(model).validate_json(text)
    except ValidationError as error:
        raise Refusal(f"{source}: {_explain(error, value)}") from None


def _from_json(text: str) -> Any:
    """The value of JSON text; None where pydantic will say why it has none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _strange(value: Any, where: str) -> str | None:
    """The first part of `value` that no setting can be: YAML has more kinds than JSON."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            inner = f"{where}.{key}" if where else str(key)
            if not isinstance(key, str):
                return f"{inner}: the key {key} is read as {_kind(key)}: put it in quotes"
            if (problem := _strange(part, inner)) is not None:
                return problem
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            if (problem := _strange(part, f"{where}.{index}")) is not None:
                return problem
    elif isinstance(value, int) and value.bit_length() > 63:
        return f"{where} = {str(value)[:24]}: integers have at most 64 bits"
    elif isinstance(value, float) and not math.isfinite(value):
        return f"{where} = {json.dumps(value)}: input should be a finite number"
    elif not isinstance(value, str | int | float | None):
        return f"{where} = {value}: read as {_kind(value)}: put it in quotes if it is text"
    return None


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def _explain(error: ValidationError, value: Any) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, _place(first["loc"], value)))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    if first["type"] == "missing":
        return f"{where}: missing"
    if not where or first["type"] == "value_error":
        return f"{where}: {message}" if where else message
    message = message[0].lower() + message[1:]
    found = first["input"]
    if hint := _hint(first["type"], found):
        message += f", {hint}"
    return f"{where} = {json.dumps(found, default=str)}: {message}"


def _place(location: tuple[int | str, ...], value: Any) -> Iterator[int | str]:
    """The parts of pydantic's location that are in the user's `value`: not the kind of a union.

    `dtr.registry` tags kinds by names that begin with "=".
    """
    for part in location:
        inside = isinstance(value, Mapping) and part in value
        if str(part).startswith("=") and not inside:
            continue
        yield part
        listed = isinstance(value, list) and part in range(len(value))
        value = value[part] if inside or listed else None


def _hint(kind: str, found: Any) -> str:
    """What to write instead, where YAML's idea of a value is not what was meant; may be empty."""
    if kind == "string_type" and isinstance(found, int | float):
        return "put it in quotes"
    if kind == "list_type" and isinstance(found, int | float):
        return f"write [{json.dumps(found)}]"
    if kind == "bool_type" and found in ("true", "false"):
        return f"write {found} without quotes"
    if kind not in ("int_type", "float_type") or not isinstance(found, str):
        return ""
    text = found.strip()
    try:
        number = float(text)
    except ValueError:
        return ""
    if not math.isfinite(number) or not text.isascii():
        return ""
    mantissa, _, exponent = text.lower().partition("e")
    if not exponent:
        return f"write {text} without quotes"
    if kind == "int_type" and number.is_integer() and abs(number) < 2**63:
        return f"write {int(number)}"
    written = f"{mantissa if '.' in mantissa else f'{mantissa}.0'}e{int(exponent):+d}"
    return f"write {written} (YAML reads {text} as text)"
