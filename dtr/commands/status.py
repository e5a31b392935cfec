"""The verb that says how a sweep stands: one screen, read from the files of its results."""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtr.commands import options
from dtr.commands.plan import SCALE, size_text
from dtr.commands.scale import add_scale_to_look_at, scale_to_look_at
from dtr.support.errors import Refusal

if TYPE_CHECKING:
    from dtr.records.standing import Training

SIGNS = {
    "done": "#",
    "running": ">",
    "trained": "s",
    "waiting": ".",
    "diverged": "!",
    "failed": "x",
}
LINE = 60  # cells of a table in one line
NAMED = 12  # trainings at work, and cells with a problem, that are told one by one
CLEAR = "\x1b[2J\x1b[H"


def status(args: argparse.Namespace) -> None:
    """Say how a sweep stands: cells of each table, trainings at work, failures, disk, time left."""
    while True:
        told = _told(args)
        if args.json:
            print(json.dumps(told, indent=None if args.watch else 2), flush=True)
        else:
            clear = CLEAR if args.watch and sys.stdout.isatty() else ""
            print(clear + as_text(told), flush=True)
        if not args.watch or told["counts"].get("done") == sum(told["counts"].values()):
            return
        try:
            time.sleep(args.every)
        except KeyboardInterrupt:
            return


def _told(args: argparse.Namespace) -> dict[str, Any]:
    """The state of a sweep as plain values."""
    from dtr.records.standing import STATES, Standing
    from dtr.support.disk import disk_use

    if args.configfile is None and args.settings is None:
        args.configfile = [SCALE]
    scale = scale_to_look_at(args)
    standing = Standing(scale)
    seconds, unknown = standing.remaining_seconds
    at_work = standing.at_work
    counts = Counter(cell.state for cell in standing.cells)
    return {
        "scale": scale.scale,
        "results": scale.results,
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
        "counts": {state: counts[state] for state in STATES if counts[state]},
        "trained": sum(one.state == "done" for one in standing.trainings),
        "trainings": len(standing.trainings),
        "cells": [cell._asdict() for cell in standing.cells],
        "running": [_training(one) for one in at_work],
        "seconds_left": seconds / max(1, len(at_work)),
        "at_once": max(1, len(at_work)),
        "of_unknown_speed": unknown,
        "disk": disk_use(Path(scale.results)),
    }


def _training(one: "Training") -> dict[str, Any]:
    return {
        "run": one.run,
        "seed": one.seed,
        "reached": one.reached,
        "step": one.step,
        "steps_per_second": one.rate,
        "seconds_left": one.left,
        "where": {name: one.holder.get(name) for name in ("host", "pid", "job")},
    }


def as_text(told: dict[str, Any]) -> str:
    """One screen."""
    cells = told["cells"]
    done, total = told["counts"].get("done", 0), len(cells)
    disk = told["disk"]
    largest = sorted(disk, key=disk.get, reverse=True)[:3]
    lines = [
        f"The {told['scale']} scale in {told['results']}, {told['time']}:",
        f"{told['trained']} of {told['trainings']} trainings, {done} of {total} cells.",
        *_grid(cells),
        "   ".join(
            f"{sign} {state} {told['counts'].get(state, 0)}" for state, sign in SIGNS.items()
        ),
    ]
    lines += _section("At work", [_running(one) for one in told["running"]])
    for state in ("failed", "diverged"):
        lines += _section(state.capitalize(), _problems(cells, state))
    lines.append("")
    named = ", ".join(f"{name} {size_text(disk[name])}" for name in largest)
    lines.append(f"Disk: {size_text(sum(disk.values()))}" + (f" ({named})" if named else ""))
    lines.append(f"Training left: {_left(told)}")
    return "\n".join(lines)


def _grid(cells: list[dict[str, Any]]) -> Iterator[str]:
    """A sign for each cell, in the order of the tables."""
    targets: dict[str, str] = {}
    for cell in cells:
        targets[cell["target"]] = targets.get(cell["target"], "") + SIGNS[cell["state"]]
    for target, signs in targets.items():
        for start in range(0, len(signs), LINE):
            label = target if start == 0 else ""
            yield f"  {label:<8} {signs[start : start + LINE]}"


def _section(title: str, rows: list[str]) -> list[str]:
    if not rows:
        return []
    more = [f"  and {len(rows) - NAMED} more; --json names all"] if len(rows) > NAMED else []
    return ["", f"{title}:", *(f"  {row}" for row in rows[:NAMED]), *more]


def _running(one: dict[str, Any]) -> str:
    rate = one["steps_per_second"]
    speed = f", {rate:.3g} steps/s, {duration(one['seconds_left'])} left" if rate else ""
    place = ", ".join(
        f"{name} {value}" if name != "host" else str(value)
        for name, value in one["where"].items()
        if value
    )
    where = f", on {place}" if place else ""
    return (
        f"{one['run']} seed {one['seed']}: step {one['reached']:,} of {one['step']:,}{speed}{where}"
    )


def _problems(cells: list[dict[str, Any]], state: str) -> list[str]:
    rows = {
        f"{cell['name']} seed {cell['seed']} step {cell['step']}: {cell['said'] or 'no reason'}": 0
        for cell in cells
        if cell["state"] == state
    }
    return list(rows)


def _left(told: dict[str, Any]) -> str:
    unknown = told["of_unknown_speed"]
    left = told["trainings"] - told["trained"]
    if unknown and unknown >= left:
        return f"{unknown} runs, of which nothing is timed yet (dtr plan estimates)"
    at_once = told["at_once"]
    text = f"{duration(told['seconds_left'])} with {at_once} at once"
    return f"{text}, and {unknown} runs of unknown speed" if unknown else text


def duration(seconds: float) -> str:
    """Seconds in the two largest units: 3 d 4 h, 5 h 10 min, 12 min, 40 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{rest} s"


def clean(args: argparse.Namespace) -> None:
    """List work folders that no present run uses, with sizes; with --yes remove them."""
    from dtr.training.leftover import leftovers, remove

    if args.configfile is None and args.settings is None:
        args.configfile = [SCALE]
    scale = scale_to_look_at(args)
    found = leftovers(scale)
    for one in found:
        print(f"{size_text(one.size):>8}  {one.folder}: {one.reason}")
    total = size_text(sum(one.size for one in found if not one.kept))
    free = [one for one in found if not one.kept]
    if not args.yes:
        again = "; --yes removes them" if free else ""
        print(f"clean: {len(free)} folders, {total}, nothing was removed{again}")
        return
    removed = [one for one in free if remove(one)]
    print(f"clean: {len(removed)} of {len(free)} folders removed")
    if len(removed) < len(free):
        raise Refusal(f"{scale.results}: a folder is in use or cannot be removed")


def add_verbs(verbs: options.Verbs) -> None:
    """Declare the verbs of this module, with their options."""
    told = f"a scale; default: {SCALE}"
    verb = options.add_verb(verbs, "status", status)
    add_scale_to_look_at(verb, told)
    verb.add_argument("--watch", action="store_true", help="again and again, until all is done")
    verb.add_argument(
        "--every", type=options.at_least(1.0), default=30.0, help="seconds between two looks"
    )
    verb.add_argument("--json", action="store_true", help="all of it as JSON")

    verb = options.add_verb(verbs, "clean", clean)
    add_scale_to_look_at(verb, told)
    verb.add_argument("--yes", action="store_true", help="remove what is listed")
