"""Verbs for results that change hands: checked, packed, merged. They start nothing."""

import argparse
from pathlib import Path

from dtr.commands import options
from dtr.commands.scale import add_scale_to_look_at, scale_to_look_at
from dtr.support.errors import Refusal

STORED = "the scale they are of, where none is stored there"


def verify(args: argparse.Namespace) -> None:
    """Check results or an archive of them: hashes, records, tables, page; runs nothing in them."""
    from dtr.sharing.verify import verify

    found, counts = verify(
        args.results,
        scale=scale_to_look_at(args),
        partial=args.partial,
        trusted=args.run_parts,
        thorough=args.measure_again,
    )
    for one in found:
        print(one.line)
    seen = ", ".join(f"{count} {what}" for what, count in counts.items())
    if found:
        raise Refusal(f"{args.results}: {len(found)} findings; looked at: {seen or 'names only'}")
    print(f"verify: {args.results}: nothing found; looked at: {seen}")


def pack(args: argparse.Namespace) -> None:
    """Make one archive of records, tables, figures, page and environment, without large files."""
    from dtr.records.table import Records
    from dtr.sharing.archive import pack
    from dtr.sharing.verify import results_in

    if not args.results.is_dir():
        raise Refusal(f"{args.results}: no results folder")
    records: Records = results_in(args.results, scale_to_look_at(args)).records
    print(f"pack: {pack(records, args.out)} files in {args.out}")


def merge(args: argparse.Namespace) -> None:
    """Join results of two machines in a new folder: one protocol only, nothing overwritten."""
    from dtr.sharing.merge import merge
    from dtr.sharing.verify import opened, results_in

    given = scale_to_look_at(args)
    with opened(args.results) as (first, _), opened(args.second) as (second, _):
        count, conflicts = merge(
            results_in(first, given),
            results_in(second, given),
            args.out,
            prefer_first=args.prefer_first,
        )
    for one in conflicts:
        print(one.line)
    blocking = sum(not one.expected for one in conflicts)
    if blocking and not args.prefer_first:
        raise Refusal(f"{args.out}: {blocking} conflicts; nothing was copied")
    taken = f", {blocking} conflicts settled for {args.results}" if blocking else ""
    print(f"merge: {count} files in {args.out}{taken}")


def _add_results(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "results", type=Path, metavar="RESULTS", help="a results folder, or an archive"
    )


def add_verbs(verbs: options.Verbs) -> None:
    """Declare the verbs of this module, with their options."""
    verb = options.add_verb(verbs, "verify", verify)
    _add_results(verb)
    add_scale_to_look_at(verb, STORED)
    verb.add_argument(
        "--partial", action="store_true", help="what is missing is not counted as a fault"
    )
    verb.add_argument(
        "--measure-again",
        action="store_true",
        help="every metric from its features, KID, precision and recall too: a second for 1,000 "
        "images, much longer for 50,000",
    )
    verb.add_argument(
        "--run-parts",
        action="store_true",
        help="import the parts from outside that the scale names; otherwise they are refused",
    )

    verb = options.add_verb(verbs, "merge", merge)
    _add_results(verb)
    verb.add_argument("second", type=Path, metavar="SECOND", help="another one, or an archive")
    add_scale_to_look_at(verb, STORED)
    verb.add_argument(
        "--prefer-first",
        action="store_true",
        help="where both differ, take the whole model or dataset of the first",
    )
    options.add_out(verb)

    verb = options.add_verb(verbs, "pack", pack)
    verb.add_argument("results", type=Path, metavar="RESULTS", help="a results folder")
    add_scale_to_look_at(verb, STORED)
    options.add_out(verb)
