"""Verbs of scale files, and how the other verbs read one."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dtr.commands import options

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


def read_scale(path: Path, changes: Sequence[str] = ()) -> "Scale":
    """The content of a scale file, checked; `changes` as after Snakemake's --config."""
    from dtr.config.reading import load_scale_of_workflow, read_mapping

    return load_scale_of_workflow(read_mapping(path), files=[path], entries=changes)


def add_verbs(verbs: options.Verbs) -> None:
    """Declare the verbs of this module, with their options."""
    verb = options.add_verb(verbs, "settings", settings)
    options.add_scale(verb)
    verb.add_argument(
        "--config",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="values in place of the file's, as after Snakemake's --config",
    )

    options.add_verb(verbs, "schema", schema)
