"""A record of the bench beside an earlier one of the same kind."""

from collections.abc import Iterator
from pathlib import Path

from dtr.bench.run import BenchRecord
from dtr.bench.timing import Timing
from dtr.records.schema import read_record
from dtr.support.errors import Refusal


def read_earlier(path: Path, *, device: str, small: bool, cases: list[str]) -> BenchRecord:
    """The record in `path`, refused before anything is timed where it cannot be compared."""
    try:
        before = read_record(BenchRecord, path)
    except Refusal as refusal:
        raise Refusal(f"--against {refusal}") from None
    if (before.device, before.small) != (device, small):
        raise Refusal(
            f"--against {path}: of device {before.device}{' in small' * before.small}, this one "
            f"is of {device}{' in small' * small}; accepted: a record of the same"
        )
    known = [case.name for case in before.cases if case.timings]
    if not set(known) & set(cases):
        found = ", ".join(known) or "none"
        raise Refusal(f"--against {path}: none of these cases is timed there; those are: {found}")
    return before


def compare(now: BenchRecord, before: BenchRecord, *, slower: float) -> list[str]:
    """Print each variant's time by that of the earlier record; those above `slower` times.

    A variant is slower if its median is and its fastest run as well, so that one disturbance of a
    shared machine is no slowdown.
    """
    for what in ("cpu", "device", "threads"):
        values = [one.provenance.get(what) for one in (before, now)]
        if values[0] != values[1]:
            print(f"another {what}: {values[0]} before, {values[1]} now")
    old, new = dict(_timings(before)), dict(_timings(now))
    found = []
    for (case, variant), timing in new.items():
        if (earlier := old.get((case, variant))) is None:
            print(f"  {case:<20}{variant:<32}   not timed before")
            continue
        ratios = timing.seconds / earlier.seconds, timing.fastest / earlier.fastest
        print(f"  {case:<20}{variant:<32}{ratios[0]:8.3f}x of before")
        if min(ratios) > slower:
            found.append(f"{case} ({variant})")
    asked = {case.name for case in now.cases}
    for case, variant in old.keys() - new.keys():
        if case in asked:
            print(f"  {case:<20}{variant:<32}   not timed now")
    return found


def _timings(record: BenchRecord) -> Iterator[tuple[tuple[str, str], Timing]]:
    for case in record.cases:
        for timing in case.timings:
            if timing.seconds > 0 and timing.fastest > 0:
                yield (case.name, timing.variant), timing
