"""What the page lists of its records and protocols, a row each."""

import math
from collections.abc import Container
from typing import Any

import pandas as pd

from dtr.config.scale import Scale
from dtr.experiments import SLOTS
from dtr.planning.evaluations import protocol, protocols
from dtr.records.schema import ModelRecord
from dtr.records.table import Records
from dtr.reporting.published import published
from dtr.reporting.tables.cells import NAMES, computed_from, format_value
from dtr.support.files import canonical_json


def trainings(records: Records) -> list[dict[str, Any]]:
    """Every readable training record, with what its row shows."""
    rows = []
    for path, record in records.trainings.items():
        provenance = record.provenance
        rows.append(
            {
                "path": path,
                "record": record,
                "commit": str(provenance.get("commit") or "unknown")[:10],
                "dirty": bool(provenance.get("dirty")),
                "outdated": records.outdated(record.run, record.seed, record.step),
                "loss": record.history[-1].mse if record.history else math.nan,
                "outside": _outside_parts(record),
            }
        )
    return rows


def _outside_parts(record: ModelRecord) -> list[str]:
    """What the parts from outside were that a model was trained with, a line for each."""
    lines = []
    for family, source in sorted(record.sources.items()):
        constants = dict(record.settings.get(family, {}))
        said = [f"{family} {constants.pop('type', 'unknown')}"]
        said += [f"{name} {value}" for name, value in constants.items()]
        said += [f"source {source[:10]}"]
        if family != "routing" and (identity := record.parts.get(family)) not in (None, source):
            said += [identity]
        lines.append(", ".join(said))
    return lines


def problems(records: Records) -> list[tuple[str, str]]:
    """Records that are not used, with the reason."""
    outdated = {
        path: reason
        for path, record in records.trainings.items()
        if (reason := records.outdated(record.run, record.seed, record.step))
    }
    return sorted((records.broken | outdated).items())


def machines(records: Records) -> list[dict[str, Any]]:
    """The distinct provenances of all records, without their time, and how many share each."""
    found: dict[str, dict[str, Any]] = {}
    for record in (*records.trainings.values(), *records.metrics.values()):
        fixed = {key: value for key, value in record.provenance.items() if key != "created"}
        if fixed:
            entry = found.setdefault(
                canonical_json(fixed), {"provenance": fixed, "count": 0, "times": []}
            )
            entry["count"] += 1
            entry["times"].append(str(record.provenance.get("created", "")))
    return list(found.values())


def protocols_of_slots(scale: Scale) -> list[dict[str, Any]]:
    """Per slot, each field of the protocol beside what the paper did."""
    described = []
    for slot in (name for name in SLOTS if name in scale.slots):
        ours = protocol(scale, slot)
        paper = published()["eval_protocols"]
        theirs = paper["shared"] | paper.get(slot, {}) | {"dataset": SLOTS[slot].dataset}
        theirs["extractor"] = theirs.get("evaluator")
        if SLOTS[slot].told == "none":
            theirs["guidance"] = "none (unconditional)"
        reference = ours.reference
        words = "training images of the dataset" if reference is None else reference.words
        fields = ours.plain() | {"reference": words}
        rows = [(name, value, theirs.get(name)) for name, value in fields.items()]
        described.append({"slot": slot, "id": ours.id, "rows": rows})
    return described


def measurements(records: Records) -> list[dict[str, Any]]:
    """Per slot the metrics records as rows, metrics side by side, whatever their protocol."""
    frame = records.frame[records.frame["kind"] == "metrics"]
    present = protocols(records.scale)
    slots = [slot for slot in SLOTS if slot in set(frame["slot"])]
    others = [slot for slot in dict.fromkeys(frame["slot"]) if slot not in SLOTS]
    return [
        _measured(slot, frame[frame["slot"] == slot], present, records) for slot in slots + others
    ]


def _measured(
    slot: str, frame: pd.DataFrame, present: Container[str], records: Records
) -> dict[str, Any]:
    """One table: its columns, rows, and their extractor if they share one.

    computed: whether the reference statistics of all of them are the workflow's own.
    """
    order = list(NAMES)
    names = [name for name in dict.fromkeys(frame["metric"]) if name]
    names.sort(key=lambda name: (name.split("@")[-1], *_position(name.split("@")[0], order)))
    rows = []
    for path, part in frame.groupby("path", sort=False):
        first = part.iloc[0].to_dict()
        values = {
            row["metric"]: _value_cell(row) for row in part.to_dict("records") if row["metric"]
        }
        rows.append(first | {"values": values, "path": path})
        rows[-1]["current"] = first["protocol_id"] in present
        rows[-1]["computed"] = path in records.metrics and computed_from(records, path) > 0
    extractors = {name.split("@")[1] for name in names}
    common = extractors.pop() if len(extractors) == 1 else None
    computed = all(row["computed"] for row in rows)
    return {
        "slot": slot,
        "names": names,
        "extractor": common,
        "rows": rows,
        "computed": computed,
    }


def _position(name: str, order: list[str]) -> tuple[int, str]:
    return (order.index(name) if name in order else len(order), name)


def _value_cell(row: dict[str, Any]) -> dict[str, Any]:
    metric = row["metric"].split("@")[0]
    bounds = [row["low"], row["high"]]
    interval = (
        ""
        if any(map(math.isnan, bounds))
        else ", ".join(format_value(metric, bound) for bound in bounds)
    )
    return {
        "text": format_value(metric, row["value"]),
        "value": row["value"],
        "interval": f"[{interval}]" if interval else "",
        "n": int(row["n"]),
    }
