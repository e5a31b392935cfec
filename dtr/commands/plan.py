"""The verb that says what a scale would cost, before anything starts."""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from dtr.commands import options
from dtr.commands.scale import read_scale

if TYPE_CHECKING:
    from dtr.analysis.forecast import Amount, Forecast, Part

SCALE = Path("workflow/config/digits.yaml")
TFLOPS = 400.0  # bfloat16 on one H100, at about 40 % of what is printed for it
COUNTED = ("train", "sample")  # the stages whose operations and hours are known
JOBS = ("jobs", "there", "to do")
HOURS = ("hours", "hours to do")
TITLES = ("", "runs", "trained", *JOBS, "train FLOP", "sample FLOP", *HOURS, "disk")
WIDTH = 100  # of a line of notes
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def plan(args: argparse.Namespace) -> None:
    """Say what a scale would cost: jobs, FLOP, hours, disk; starts nothing, writes nothing."""
    from dtr.analysis.forecast import forecast

    found = forecast(read_scale(args.configfile, args.config), args.targets, tflops=args.tflops)
    print(json.dumps(found.plain(), indent=2) if args.json else as_text(found))


def as_text(found: "Forecast") -> str:
    """The forecast as aligned tables, with what its numbers mean."""
    union = found.union
    alone = [part.name for part in found.targets] == [union.name]
    parts = [union] if alone else [*found.targets, union]
    stages = [
        (stage, *_jobs(amount), *(_hours(amount) if stage in COUNTED else ("", "")))
        for stage, amount in union.stages.items()
    ]
    blocks = [
        [f"The {found.scale} scale, results in {found.results}:"],
        _aligned([TITLES, *map(_row, parts)]),
        _notes(found),
        _aligned([(f"jobs of {union.name}", *JOBS, *HOURS), *stages]),
        _aligned([(f"disk of {union.name}", ""), *_disk(union)]),
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks)


def _row(part: "Part") -> tuple[str, ...]:
    counted = [part.stages[stage].operations if stage in part.stages else 0 for stage in COUNTED]
    return (
        part.name,
        str(part.runs),
        str(part.trainings),
        *_jobs(part.total),
        *(f"{operations:.3g}" for operations in counted),
        *_hours(part.total),
        size_text(_sum(part.disk.values())),
    )


def _notes(found: "Forecast") -> list[str]:
    """What the numbers mean, in lines that fit a terminal."""
    notes = [
        "trained: runs times seeds. there: all files of a job exist. to do: by the files that "
        "exist; changed settings are not looked at here, snakemake -n does.",
        "FLOP: 2 per multiply-add of a run's network; a training step is 3 forward passes, a step "
        "of guided sampling 2. Not counted: autoencoders, extractors, decoding, measuring.",
        f"hours: of these jobs one after the other, {_source(found)}.",
        "disk: the large files; a question mark where the settings do not say how many there are.",
    ]
    if len(found.targets) > 1:
        operations = sum(part.total.operations for part in found.targets)
        hours = sum(part.total.hours for part in found.targets)
        shared = found.union.total
        notes.append(
            f"The rows add up to {operations:.3g} FLOP and {_number(hours)} hours; what they share "
            f"is done once, which leaves {shared.operations:.3g} FLOP and {_number(shared.hours)} "
            f"hours for {found.union.name}."
        )
    return [line for note in notes for line in wrap(note, WIDTH, subsequent_indent="  ")]


def _source(found: "Forecast") -> str:
    """Where the hours come from."""
    trained, drawn = (found.union.stages.get(stage) for stage in COUNTED)
    speed = f"at {found.tflops:g} TFLOP/s"
    if found.device == "cpu":
        speed += " (the scale's device is cpu, which is far slower)"
    if trained is None or not trained.recorded:
        others = f", but {found.passed_over} of other settings" if found.passed_over else ""
        return f"{speed}; no training of these runs is recorded{others}"
    samplings = f" and {drawn.recorded} of {drawn.jobs} sampling" if drawn is not None else ""
    return (
        f"as recorded in {' and '.join(found.recorded_in)} for {trained.recorded} of "
        f"{trained.jobs} training{samplings} jobs; other samples of a recorded run at the speed of "
        f"its training, the rest {speed}"
    )


def _disk(part: "Part") -> list[tuple[str, str]]:
    return [(kind, size_text(size)) for kind, size in part.disk.items()]


def _sum(sizes: Iterable[int | None]) -> int | None:
    known = list(sizes)
    return None if None in known else sum(known)


def _jobs(amount: "Amount") -> tuple[str, str, str]:
    return str(amount.jobs), str(amount.there), str(amount.remaining)


def _hours(amount: "Amount") -> tuple[str, str]:
    return _number(amount.hours), _number(amount.hours_remaining)


def _number(value: float) -> str:
    if 0 < value < 0.01:
        return "<0.01"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def size_text(value: int | None) -> str:
    """Bytes in a unit that leaves few digits; a question mark where nothing says how many."""
    if value is None:
        return "?"
    scaled, power = float(value), 0
    while scaled >= 1000 and power < len(UNITS) - 1:
        scaled, power = scaled / 1000, power + 1
    return f"{scaled:.3g} {UNITS[power]}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, the first column to the left and numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])],
        ).rstrip()
        for row in rows
    ]


def add_verbs(verbs: options.Verbs) -> None:
    """Declare the verb of this module, with its options."""
    verb = options.add_verb(verbs, "plan", plan)
    options.add_configfile(verb, default=SCALE)
    verb.add_argument(
        "--targets",
        nargs="+",
        default=[],
        metavar="NAME",
        help="tables and figures, such as table8; default: the whole scale",
    )
    verb.add_argument(
        "--tflops",
        type=_positive,
        default=TFLOPS,
        help=f"10^12 operations per second where nothing is recorded; default: {TFLOPS:g}",
    )
    verb.add_argument("--json", action="store_true", help="all of it as JSON")


def _positive(text: str) -> float:
    value = options.at_least(0.0)(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"{text}; accepted: a number above 0")
    return value
