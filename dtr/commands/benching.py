"""Verbs that say how fast and how right this machine is.

They import what they need when they run, so that `--help` and refusals are immediate.
"""

import argparse
import os
from pathlib import Path

from dtr.commands import options
from dtr.commands.options import at_least
from dtr.support.devices import use_device
from dtr.support.errors import Refusal
from dtr.support.threads import use_threads


def bench(args: argparse.Namespace) -> None:
    """Time what the benchmark does on this machine, each case beside its own baseline."""
    from dtr.bench.compare import compare, read_earlier
    from dtr.bench.run import CASES, chosen_cases, run_bench

    if args.list:
        for case in CASES.values():
            print(f"{case.name:<18}{case.says}")
        return
    names = [name for name in args.cases.split(",") if name]
    chosen = [case.name for case in chosen_cases(names, args.device)]
    before = None
    if args.against is not None:  # read now: --out may be the same file
        before = read_earlier(args.against, device=args.device, small=args.small, cases=chosen)
    processes = args.processes or (2 if args.device == "cpu" else 1)
    use_device(args.device, processes)
    use_threads(args.threads)
    record = run_bench(
        names,
        args.out,
        device=args.device,
        seconds=args.seconds,
        small=args.small,
        processes=processes,
    )
    print(f"bench: {args.out}")
    if before is not None and (found := compare(record, before, slower=args.slower)):
        raise Refusal(
            f"--against {args.against}: slower than {args.slower:g} times before: "
            f"{', '.join(found)}"
        )


def gpucheck(args: argparse.Namespace) -> None:
    """Check on a GPU that trainings are right there, kill and resume them, and time them."""
    from dtr.gpucheck.run import run_checks

    use_device(args.device, args.processes)
    use_threads(args.threads)
    record = run_checks(
        args.out,
        device=args.device,
        small=args.small,
        timed=not args.untimed,
        processes=args.processes,
    )
    print(f"gpucheck: {args.out / 'gpucheck.md'}")
    if failed := [check.name for check in record.checks if check.status == "failed"]:
        raise Refusal(f"not as it should be: {', '.join(failed)}; see {args.out / 'gpucheck.md'}")


def add_verbs(verbs: options.Verbs) -> None:
    """Declare the verbs of this module, with their options."""
    verb = options.add_verb(verbs, "bench", bench)
    verb.add_argument("--cases", default="", metavar="A,B", help="by name; otherwise most of them")
    verb.add_argument("--list", action="store_true", help="say which cases there are, and end")
    verb.add_argument(
        "--seconds", type=at_least(0.0), default=10.0, help="of a case; three rounds at least"
    )
    verb.add_argument("--small", action="store_true", help="tiny sizes, to see that it runs")
    verb.add_argument(
        "--processes",
        type=at_least(1),
        help="at most, of the case `scaling`, a GPU each; two on a CPU without it, and one on GPUs",
    )
    options.add_path(
        verb, "--against", "a record of this verb: its times are compared", required=False
    )
    verb.add_argument(
        "--slower",
        type=at_least(1.0),
        default=1.25,
        help="times of that record above which --against ends with an error",
    )
    verb.add_argument(
        "--out", type=Path, default=Path("results/bench.json"), metavar="PATH", help="the record"
    )
    options.add_device(verb)
    verb.add_argument(
        "--threads",
        type=at_least(1),
        default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
        help="CPU threads; all of this process without it",
    )

    verb = options.add_verb(verbs, "gpucheck", gpucheck)
    verb.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    verb.add_argument("--small", action="store_true", help="tiny sizes, to see that it runs")
    verb.add_argument("--untimed", action="store_true", help="without the cases of `bench`")
    verb.add_argument(
        "--processes", type=at_least(1), default=1, help="to compare with one; a GPU each"
    )
    verb.add_argument(
        "--out", type=Path, default=Path("results/gpucheck"), metavar="PATH", help="a folder"
    )
    options.add_threads(verb)
