"""`python -m dtr <verb>`: one verb per stage; a workflow rule is a thin call of one."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from dtr import __version__
from dtr.commands import (
    benching,
    cluster,
    data,
    doctor,
    exchange,
    launch,
    measuring,
    plan,
    rehearsing,
    report,
    scale,
    sharing,
    status,
    training,
    trying,
)
from dtr.commands.refused import ending
from dtr.commands.warm import VARIABLE, run_in_warm_process, run_warm
from dtr.support.errors import Refusal, Suspended
from dtr.support.files import unwritable_reason

INTERRUPTED, CLOSED = 130, 141  # exit status after Ctrl-C and SIGPIPE, as shells have it

MODULES = (
    data,
    training,
    measuring,
    exchange,
    trying,
    report,
    sharing,
    status,
    plan,
    doctor,
    rehearsing,
    scale,
    launch,
    cluster,
    benching,
)
"""Where verbs are declared, in the order of `--help`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb, in a warm process if there is one; returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["warm"]:
        command = arguments[2:] if arguments[1:2] == ["--"] else arguments[1:]
        return run_warm(command, run_verb)
    if address := os.environ.get(VARIABLE):
        status = run_in_warm_process(address, arguments)
        if status is not None:
            return status
    return run_verb(arguments)


def run_verb(arguments: Sequence[str]) -> int:
    """Run one verb; refused input is one line on stderr and a non-zero exit status."""
    try:
        parsed = _parser().parse_args(arguments)
        parsed.verb(parsed)
        print(end="", flush=True)
        return 0
    except (Refusal, Suspended) as outcome:
        problem, status = f"{outcome}{ending(outcome)}", outcome.exit_status
    except KeyboardInterrupt:
        problem, status = "interrupted", INTERRUPTED
    except BrokenPipeError:  # who read our output, such as `head`, has enough
        _print_no_more()
        return CLOSED
    except OSError as error:
        if error.filename is not None:
            problem = f"{error.filename}: {unwritable_reason(error) or error.strerror}"
        elif reason := unwritable_reason(error):
            problem = f"output cannot be written ({reason})"
            _print_no_more()
        else:
            raise
        status = Refusal.exit_status
    print(f"dtr {arguments[0]}: {problem}", file=sys.stderr)
    return status


def _print_no_more() -> None:
    """Drop what is left of the output, which would fail again when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


class _Parser(argparse.ArgumentParser):
    """Refuses options in one line, as verbs refuse their input; the usage is in --help."""

    def error(self, message: str) -> NoReturn:
        name = self.prog.removeprefix("python -m ")
        self.exit(Refusal.exit_status, f"{name}: {message.removeprefix('argument ')}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m dtr",
        description="Stages of the DTR reproducibility benchmark.",
        epilog="`warm -- COMMAND` runs a command, such as snakemake, whose verbs start at once.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(title="stages", required=True, dest="name", metavar="VERB")
    for module in MODULES:
        module.add_verbs(verbs)
    return parser
