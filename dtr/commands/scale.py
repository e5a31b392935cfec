"""Verbs of scale files, and how the other verbs read one."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dtr.commands import options
from dtr.support.errors import Refusal

if TYPE_CHECKING:
    from dtr.config.scale import Scale


def settings(args: argparse.Namespace) -> None:
    """Check a scale file and print it as one line of JSON, for --settings of the report."""
    from dtr.support.files import canonical_json

    print(canonical_json(read_scale(args.scale, args.config).plain()))


def schema(_args: argparse.Namespace) -> None:
    """Print the JSON schema of a scale file."""
    from dtr.config.scale import Scale

    print(json.dumps(Scale.model_json_schema(), indent=2))


def scale_of(args: argparse.Namespace) -> "Scale":
    """The scale that --settings holds, checked."""
    from dtr.config.checks import parse_scale

    return parse_scale(args.settings, source="--settings")


def read_scale(paths: Sequence[Path], changes: Sequence[str] = ()) -> "Scale":
    """The scale in files laid over each other, checked; `changes` as after Snakemake's --config."""
    from dtr.config.reading import load_scale_of_workflow, read_overlaid

    return load_scale_of_workflow(read_overlaid(paths), files=paths, entries=changes)


def scale_to_look_at(args: argparse.Namespace) -> "Scale | None":
    """The scale of --configfile with --config, or of --settings; None without either.

    Nothing is written to its results, so that they may be read-only.
    """
    from dtr.config.checks import parse_scale
    from dtr.config.reading import merged, read_command_line, read_overlaid

    if args.configfile is not None and args.settings is not None:
        raise Refusal("--configfile, --settings: one of them, and one only, names the scale")
    if args.settings is not None:
        return scale_of(args)
    if args.configfile is None:
        return None
    content = merged(read_overlaid(args.configfile), read_command_line(args.config))
    return parse_scale(content, source=" + ".join(map(str, args.configfile)))


def add_scale_to_look_at(verb: argparse.ArgumentParser, told: str) -> None:
    """The options that `scale_to_look_at` reads."""
    options.add_configfile(verb, help=told)
    options.add_settings(verb, required=False)


def add_verbs(verbs: options.Verbs) -> None:
    """Declare the verbs of this module, with their options."""
    verb = options.add_verb(verbs, "settings", settings)
    options.add_scale(verb)
    options.add_changes(verb)

    options.add_verb(verbs, "schema", schema)
