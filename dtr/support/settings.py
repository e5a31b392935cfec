"""Settings that refuse nonsense: the base of all of them, and one-line refusals. Free of torch."""

import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from dtr.support.errors import Refusal

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


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
    text = value if isinstance(value, str) else json.dumps(value)
    try:
        return TypeAdapter(model).validate_json(text)
    except ValidationError as error:
        raise Refusal(f"{source}: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    # The kinds of a union are part of pydantic's place, but not of the user's file.
    where = ".".join(str(part) for part in first["loc"] if not str(part).startswith("="))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    if first["type"] == "missing":
        return f"{where}: missing"
    if not where or first["type"] == "value_error":
        return f"{where}: {message}" if where else message
    message = message[0].lower() + message[1:]
    return f"{where} = {json.dumps(first['input'], default=str)}: {message}"
