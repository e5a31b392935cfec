"""Controls of the metrics: real images, an untrained network, and the metrics they refute."""

import pandas as pd

from dtr.planning.evaluations import panel_protocol
from dtr.planning.runs import baseline_run
from dtr.records.table import Records
from dtr.reporting.tables.cells import NAMES, Cell, fill_from
from dtr.reporting.tables.table import Column, Row

OTHERS = (
    "measured against the other real images, a smaller reference than that of models, which is "
    "all of them"
)
OWN = "images of the reference, measured against the statistics of all of its images"


def control_rows(columns: list[Column], records: Records) -> list[Row]:
    """Floor and ceiling of each metric: real against real images, and the untrained baseline."""
    real = [_control(column, _real_rows(column, records), records) for column in columns]
    untrained = [_control(column, _untrained_rows(column, records), records) for column in columns]
    note = ""
    for column, cell in zip(columns, real, strict=True):
        if cell.status == "measured":
            statistics = records.scale.slots[column.group.slot].reference is not None
            note = f"Real against real images: {OWN}" if statistics else note
            cell.reason = "; ".join(filter(None, (cell.reason, OWN if statistics else OTHERS)))
    return [
        Row(("real against real images",), real, "control", note),
        Row(("untrained network",), untrained, "control"),
    ]


def refutation(real: Cell, untrained: Cell) -> str:
    """How the controls of a metric show that it says nothing of quality here; empty otherwise.

    They do where the network before its first step does no worse than real images.
    """
    if real.value is None or untrained.value is None:
        return ""
    lower = NAMES[real.metric][1] == "lower"
    worse = untrained.value > real.value if lower else untrained.value < real.value
    if worse:
        return ""
    return (
        f"refuted by its controls: {untrained.value_text} for an untrained network, "
        f"{real.value_text} for real images"
    )


def _untrained_rows(column: Column, records: Records) -> pd.DataFrame:
    scale, slot = records.scale, column.group.slot
    baseline = baseline_run(scale, slot)
    if baseline is None:
        return records.frame[:0]
    own = panel_protocol(scale, column.group.panel, slot)
    return records.rows_of(baseline.id, 0, own.id)


def _real_rows(column: Column, records: Records) -> pd.DataFrame:
    scale, slot = records.scale, column.group.slot
    if slot not in scale.slots:
        return records.frame[:0]
    own = panel_protocol(scale, column.group.panel, slot)
    frame = records.frame
    return frame[
        (frame["slot"] == slot) & (frame["run"] == "real") & (frame["protocol_id"] == own.id)
    ]


def _control(column: Column, rows: pd.DataFrame, records: Records) -> Cell:
    cell = Cell(column.metric)
    if not column.measured_as:
        return cell
    if not fill_from(cell, rows, records, column.group.slot):
        cell.status, cell.reason = "pending", "no record of this control yet"
    return cell
