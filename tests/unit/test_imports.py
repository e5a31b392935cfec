"""The house: imports point down its floors, never up, never in a circle; modules stay small."""

import ast
from functools import cache
from pathlib import Path

import pytest

IDEAS = ("experiments", "routing", "weighting", "diffusion", "seeding", "registry")
FLOORS = (  # from the ground up; a room is a folder of dtr/, or a file directly in it
    ("support", "__init__"),
    IDEAS,
    ("config",),
    ("records", "planning"),
    ("assets", "backbones", "data"),
    ("training", "sampling", "metrics", "analysis", "interop"),
    ("reporting",),
    ("trying", "bench", "gpucheck", "sharing"),
    ("commands",),
    ("cli", "__main__"),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
LONGEST = 300  # lines of a module
# What Snakemake reads in every job, and what it may read there: parts that a scale names.
LIGHT = ("support", *IDEAS, "config", "planning", "data.sources", "assets.text_encoder",
         "records.schema", "commands.cluster", "commands.refused")  # fmt: skip
HEAVY = {"torch", "diffusers", "torchvision", "safetensors", "pandas", "scipy", "matplotlib"}
EXCEPT = {"dtr.diffusion", "dtr.support.philox"}  # they compute with tensors
ROOT = Path(__file__).resolve().parents[2] / "dtr"


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("dtr", *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(name: str) -> tuple[tuple[str, bool], ...]:
    """(module, whether at the top) of every import in a module, also typing-only ones."""
    tree = ast.parse(modules()[name].read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                known = inner if inner in modules() else node.module
                found.append((known, id(node) in top))
    return tuple(found)


def own_imports(name: str) -> list[str]:
    return [other for other, _ in imports(name) if other.split(".")[0] == "dtr" and other != "dtr"]


def room(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


@pytest.mark.parametrize("name", modules())
def test_imports_point_down(name):
    for other in own_imports(name):
        assert FLOOR_OF[room(other)] <= FLOOR_OF[room(name)], f"{name} imports {other}"


def test_there_is_no_circle_between_modules():
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for other in own_imports(name):
                visit(other, (*path, name))
            done.add(name)

    for name in modules():
        visit(name, ())


def test_there_is_no_circle_between_rooms():
    rooms: dict[str, set[str]] = {}
    for name in modules():
        above = {room(other) for other in own_imports(name)} - {room(name)}
        rooms.setdefault(room(name), set()).update(above)

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        for other in sorted(rooms[name]):
            visit(other, (*path, name))

    for name in rooms:
        visit(name, ())


@pytest.mark.parametrize(
    "name", [name for name in modules() if name.startswith(tuple(f"dtr.{at}" for at in LIGHT))]
)
def test_what_snakemake_reads_is_light(name):
    heavy = {other.split(".")[0] for other, top in imports(name) if top} & HEAVY
    assert name in EXCEPT or not heavy


@pytest.mark.parametrize("name", modules())
def test_a_module_is_one_idea(name):
    assert len(modules()[name].read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_the_rooms_are_those_of_the_plan():
    assert {room(name) for name in modules()} == set(FLOOR_OF)
