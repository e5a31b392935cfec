"""The one line about a wrong value says what was found and what to write instead."""

import datetime
import math
from typing import Annotated, Literal

import pytest
import yaml
from pydantic import Discriminator, Field, Tag

from dtr.support.errors import Refusal
from dtr.support.settings import Count, Positive, Settings, parse


class Mnist(Settings):
    type: Literal["mnist"]
    size: Count


class Scenes(Settings):
    type: Literal["scenes"]
    size: Count


# As `dtr.registry.settings_of` tells the parts of a family apart.
Data = Annotated[
    Annotated[Mnist, Tag("=mnist")] | Annotated[Scenes, Tag("=scenes")],
    Discriminator(lambda value: f"={value['type']}"),
]


class Some(Settings):
    count: Count = 1
    seed: int = 0
    rate: Positive = 1.0
    clamp: Positive | None = None
    shares: list[float] = Field(default_factory=list)
    pair: tuple[float, float] = (0.0, 1.0)
    mirror: bool = False
    name: str = ""
    data: dict[str, Data] = Field(default_factory=dict)


def refused(value: object) -> str:
    with pytest.raises(Refusal) as refusal:
        parse(Some, value, source="my.yaml")
    line = str(refusal.value)
    assert "\n" not in line
    return line.removeprefix("my.yaml: ")


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ({"rate": "1e-4"}, "write 1.0e-4 (YAML reads 1e-4 as text)"),
        ({"rate": "2.5E3"}, "write 2.5e+3 (YAML reads 2.5E3 as text)"),
        ({"clamp": "1e4"}, "write 1.0e+4 (YAML reads 1e4 as text)"),
        ({"shares": [0.1, "1e-1"]}, "write 1.0e-1 (YAML reads 1e-1 as text)"),
        ({"pair": ["1e-1", 1.0]}, "write 1.0e-1 (YAML reads 1e-1 as text)"),
        ({"rate": "0.5"}, "write 0.5 without quotes"),
        ({"count": "32"}, "write 32 without quotes"),
        ({"count": "1e3"}, "write 1000"),
        ({"mirror": "true"}, "write true without quotes"),
        ({"name": 12}, "put it in quotes"),
        ({"shares": 1}, "write [1]"),
    ],
)
def test_the_line_says_what_to_write(value, hint):
    assert refused(value).endswith(f", {hint}")


@pytest.mark.parametrize("text", ["many", "", "nan", "1e999", "1e-4 s", "0x20", "１e2"])
def test_text_that_is_no_number_gets_no_advice(text):
    assert refused({"rate": text}).endswith("input should be a valid number")


def test_what_is_advised_is_accepted():
    for written in ("1.0e-4", "2.5e+3", "1.0e+4", "0.5", "1000"):
        assert isinstance(yaml.safe_load(written), int | float)


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("where", ["rate", "clamp", "seed", "colour"])
def test_a_number_that_is_not_finite_is_refused_everywhere(where, number):
    assert refused({where: number}).endswith("input should be a finite number")
    assert refused({"pair": [0.0, number]}).startswith("pair.1 = ")


@pytest.mark.parametrize("number", [2**63, -(2**64), 10**100])
def test_an_integer_beyond_64_bits_is_refused(number):
    assert refused({"seed": number}).endswith("integers have at most 64 bits")
    assert refused({"shares": [number]}).startswith("shares.0 = ")


def test_numbers_of_json_text_are_checked_too():
    for text in ('{"seed": 9223372036854775808}', '{"rate": Infinity}', '{"rate": 1e999}'):
        refused(text)
    assert parse(Some, '{"seed": 9223372036854775807}', source="").seed == 2**63 - 1


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ({"name": datetime.date(2020, 1, 2)}, "name = 2020-01-02: read as date"),
        ({"name": b"a"}, "name = b'a': read as bytes"),
        ({"data": {1: {}}}, "data.1: the key 1 is read as int: put it in quotes"),
        ({None: 1}, "None: the key None is read as null"),
    ],
)
def test_what_only_yaml_has_is_refused(value, line):
    assert refused(value).startswith(line)


def test_a_name_that_is_also_a_type_stays_in_the_place():
    """Of `data.mnist.=mnist.size` the second part is the type's tag, which is not in the file."""
    assert refused({"data": {"mnist": {"type": "mnist"}}}) == "data.mnist.size: missing"
    assert refused({"data": {"=mnist": {"type": "mnist"}}}) == "data.=mnist.size: missing"
    line = refused({"data": {"x": {"type": "scenes", "size": 0}}})
    assert line.startswith("data.x.size = 0: ")
