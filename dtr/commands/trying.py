"""The verb that compares somebody's own method with no routing and with DTR.

It imports what it needs when it runs, so that `--help` and refusals are immediate.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dtr.commands import options
from dtr.support.errors import Refusal

SCALE = Path("workflow/config/digits.yaml")
SLOT, SEEDS = "unconditional", (0, 1, 2)


def try_(args: argparse.Namespace) -> None:
    """Compare a method of your own with no routing and with DTR, over several seeds."""
    from dtr.trying.page import build_page

    if bool(args.method) == (args.page is not None):  # make hands over an empty METHOD
        raise Refusal(
            "--method, --page: one of them, and one only; accepted: --method FILE.py:NAME to try a "
            "method, --page FOLDER to build the page of a finished try again"
        )
    if args.page is None:
        out = _tried(args)
        if args.dry_run:
            return
    else:
        out = args.page
    print(f"try: {build_page(out)}")


def _tried(args: argparse.Namespace) -> Path:
    """Check the method, have Snakemake train and measure what is missing; returns the folder."""
    from dtr.commands.scale import read_scale
    from dtr.trying.check import check_method
    from dtr.trying.describe import trial_of
    from dtr.trying.gather import check_folder, gather, write_scale
    from dtr.trying.plan import Asked, name_of, scale_of_try, wanted_files

    if not Path("Snakefile").is_file():
        raise Refusal(f"Snakefile: not in {Path.cwd()}; run this in the folder of the repository")
    asked = Asked(args.method, args.family, args.constants, args.slots, args.seeds)
    scale = scale_of_try(read_scale([args.configfile]), asked)
    out = Path(scale.results) / "try" / name_of(asked) if args.out is None else args.out
    check_folder(out, Path(scale.results))
    check_method(scale, asked)
    trial = trial_of(scale, asked)
    wanted = list(wanted_files(scale, trial))
    if args.dry_run:
        with tempfile.TemporaryDirectory() as folder:
            file = write_scale(scale, Path(folder))
            _run(["snakemake", "-n", "--configfile", str(file), "--", *wanted])
        return out
    file = write_scale(scale, out)
    warm = [sys.executable, "-m", "dtr", "warm", "--"]
    _run([*warm, "snakemake", "--cores", args.cores, "--configfile", str(file), "--", *wanted])
    gather(scale, trial, out)
    return out


def _run(command: Sequence[str]) -> None:
    """Run a command in the environment of this Python; refused if it fails.

    An interrupt reaches it by itself, as it is of the same process group.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = subprocess.Popen(
        command,
        env=os.environ | {"PATH": path},
        preexec_fn=lambda: signal.signal(signal.SIGINT, interrupt),
    )
    ended = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        status = process.wait()
    finally:
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, ended)
    if status != 0:
        raise Refusal(
            f"Snakemake ended with status {status}, as it says above; what is done stays, and the "
            "same command goes on"
        )


def _names(text: str) -> list[str]:
    from dtr.experiments import SLOTS

    names = text.split(",")
    for name in names:
        if name not in SLOTS:
            raise argparse.ArgumentTypeError(f"{name!r}; accepted: {', '.join(SLOTS)}")
    return _once(names)


def _seeds(text: str) -> list[int]:
    return _once([options.at_least(0)(seed) for seed in text.split(",")])


def _once(values: list[Any]) -> list[Any]:
    for value in values:
        if values.count(value) > 1:
            raise argparse.ArgumentTypeError(f"{value} is given twice")
    return values


def _constants(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or "type" in value:
        example = '{"width": 3}'
        raise argparse.ArgumentTypeError(
            f"{text}; accepted: a JSON object of the method's constants, such as {example}"
        )
    return value


def _cores(text: str) -> str:
    return text if text == "all" else str(options.at_least(1)(text))


def add_verbs(verbs: options.Verbs) -> None:
    """Declare the verb of this module, with its options."""
    verb = options.add_verb(verbs, "try", try_)
    verb.add_argument(
        "--method", metavar="FILE.py:NAME", help="a part from outside, or the name of a known one"
    )
    verb.add_argument(
        "--family", choices=("routing", "weighting"), default="routing", help="what the method is"
    )
    verb.add_argument(
        "--constants", type=_constants, default={}, metavar="JSON", help="of the method, by name"
    )
    verb.add_argument(
        "--slots", type=_names, default=[SLOT], metavar="SLOT,...", help=f"default: {SLOT}"
    )
    listed = ",".join(map(str, SEEDS))
    verb.add_argument(
        "--seeds", type=_seeds, default=list(SEEDS), metavar="N,...", help=f"default: {listed}"
    )
    verb.add_argument(
        "--configfile", type=Path, default=SCALE, metavar="PATH", help=f"a scale; default: {SCALE}"
    )
    verb.add_argument("--cores", type=_cores, default="all", help="for Snakemake; default: all")
    verb.add_argument(
        "-n", "--dry-run", action="store_true", help="check the method, say what would be trained"
    )
    options.add_path(
        verb, "--out", "folder of the page; default: <results>/try/<method>", required=False
    )
    options.add_path(
        verb, "--page", "folder of a finished try, whose page is built again", required=False
    )
