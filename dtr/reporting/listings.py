"""What the page lists of its records and protocols, a row each."""

import math
from typing import Any

from dtr.config.scale import Scale
from dtr.experiments import SLOTS
from dtr.planning.evaluations import protocol
from dtr.records.schema import ModelRecord
from dtr.records.table import Records
from dtr.reporting.published import published
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
        fields = ours.plain() | {"reference": "training images of the dataset"}
        rows = [(name, value, theirs.get(name)) for name, value in fields.items()]
        described.append({"slot": slot, "id": ours.id, "rows": rows})
    return described
