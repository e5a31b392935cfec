"""How a scale is read: from YAML, where nothing may be given twice, and from `--config`.

This module must stay free of torch: Snakemake reads it in every job.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dtr.config.checks import load_scale
from dtr.config.scale import Scale
from dtr.support.errors import Refusal

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C parser is not always built
COMMAND_LINE = "--config"
MERGE = "tag:yaml.org,2002:merge"
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def read_mapping(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML or JSON file; refused by line where a key is given twice."""
    try:
        text = Path(path).read_bytes().decode("utf-8")
        value = _parsed(text)
    except FileNotFoundError:
        raise Refusal(f"{path}: no such file") from None
    except OSError as error:
        raise Refusal(f"{path}: not readable ({error.strerror})") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise Refusal(f"{path}: line {line}: not UTF-8 text") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise Refusal(f"{path}: not readable as YAML ({_reason(error)})") from None
    except Refusal as refusal:
        raise Refusal(f"{path}: {refusal}") from None
    if not isinstance(value, dict):
        raise Refusal(f"{path}: not a mapping of settings")
    return value


def read_command_line(entries: Iterable[str]) -> dict[str, Any]:
    """What `snakemake --config key=value ...` says, each value read as YAML.

    Snakemake hands numbers within lists and mappings over as text, so they are read again here.
    """
    read: dict[str, Any] = {}
    for entry in entries:
        key, _, text = entry.partition("=")
        if key in read:
            raise Refusal(f"{COMMAND_LINE}: key {key!r} is given twice")
        try:
            read[key] = _parsed(text)
        except Refusal as refusal:
            raise Refusal(f"{COMMAND_LINE}: {key}: {refusal}") from None
        except (ValueError, RecursionError, yaml.YAMLError):
            read[key] = text  # as Snakemake does; a field of text may hold anything
    return read


def merged(value: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`value` with `changes` laid over it, mapping by mapping, as Snakemake joins configs."""
    result = dict(value)
    for key, change in changes.items():
        if isinstance(change, Mapping):
            below = result.get(key)
            change = merged(below if isinstance(below, Mapping) else {}, change)
        result[key] = change
    return result


def read_overlaid(paths: Iterable[str | Path]) -> dict[str, Any]:
    """The mappings in files, each laid over the ones before it."""
    content: dict[str, Any] = {}
    for path in paths:
        content = merged(content, read_mapping(path))
    return content


def load_scale_file(path: str | Path) -> Scale:
    """The checked content of one scale file."""
    return load_scale(read_mapping(path), source=str(path))


def load_scale_of_workflow(
    config: Mapping[str, Any], *, files: Sequence[str | Path], entries: Iterable[str]
) -> Scale:
    """The checked scale of a Snakemake call; a refusal blames its files or its `--config`.

    config: what Snakemake made of both.  files: its config files, read again because Snakemake
    lets the last of two equal keys win.  entries: the arguments of `--config`.
    """
    in_files = read_overlaid(files)
    names = " + ".join(map(str, files))
    given = read_command_line(entries)
    if not given:
        return load_scale(config, source=names)
    try:
        return load_scale(merged(config, given), source=COMMAND_LINE)
    except Refusal as refusal:
        if _problem(in_files) != str(refusal):
            raise
    return load_scale(in_files, source=names)  # refused again, under the right name


def _problem(value: Mapping[str, Any]) -> str | None:
    try:
        load_scale(value, source=COMMAND_LINE)
    except Refusal as refusal:
        return str(refusal)
    return None


def _parsed(text: str) -> Any:
    """JSON or YAML as a value: JSON first, as in Snakemake, because 1e-4 is a number only there."""
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError:
        pass
    loader = LOADER(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, within=(), checked=set())  # before merge keys are resolved in place
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Refusal(f"key {twice!r} is given twice in one mapping")
    return result


def _check(node: yaml.Node, *, within: tuple[int, ...], checked: set[int]) -> None:
    """Refuse what YAML would accept in silence: equal keys, and numbers in other bases."""
    if id(node) in within:
        raise Refusal(f"line {_line(node)}: a value that contains itself")
    if id(node) in checked:
        return
    within = (*within, id(node))
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        for pair in node.value:
            for part in pair:
                _check(part, within=within, checked=checked)
    elif isinstance(node, yaml.SequenceNode):
        for part in node.value:
            _check(part, within=within, checked=checked)
    elif node.tag in NUMBERS and re.match(r"[-+]?(0[0-9_]+$|.*:)", node.value):
        meant = yaml.safe_load(node.value)
        raise Refusal(f"line {_line(node)}: YAML reads {node.value} as {meant}: write the number")
    checked.add(id(node))


def _check_keys(node: yaml.MappingNode) -> None:
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue  # refused when it is made a key
        name = (key.tag, key.value)
        if name in lines:
            merge = "; merge several with <<: [*one, *two]" if key.tag == MERGE else ""
            raise Refusal(
                f"line {_line(key)}: key {key.value!r} is given twice in one mapping, first in "
                f"line {lines[name]}{merge}"
            )
        lines[name] = _line(key)


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())
