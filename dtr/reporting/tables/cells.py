"""One table cell: the paper's value, the reproduced one with its interval, or why there is none."""

import math
from dataclasses import dataclass

import pandas as pd

from dtr.analysis.complexity import paper_gflops, parameter_count
from dtr.config.resolve import training_steps
from dtr.config.scale import Scale
from dtr.planning.evaluations import components, panel_protocol
from dtr.planning.runs import all_runs
from dtr.records.schema import Speed, ThroughputRecord
from dtr.records.table import Records
from dtr.reporting.absence import Absence, Absences, foremost, of_rows
from dtr.reporting.published import UNKNOWN, complexity_of, value_of
from dtr.reporting.tables.layout import QUALITY, Group, RowSpec
from dtr.reporting.tables.sizes import Difference, comparable, difference

NAMES = {  # metric: (heading, direction in which it improves, decimals)
    "fid": ("FID", "lower", 2),
    "fid-clean": ("FID, second engine", "lower", 2),
    "fid-clean-own": ("FID, clean-fid's network", "lower", 2),
    "sfid": ("sFID", "lower", 2),
    "kid": ("KID", "lower", 4),
    "inception_score": ("IS", "higher", 2),
    "precision": ("Precision", "higher", 2),
    "recall": ("Recall", "higher", 2),
    "recognised": ("Recognised", "higher", 3),
    "iterations": ("Iterations", "", 0),
    "parameters_millions": ("Parameters (M)", "", 0),
    "gflops": ("GFLOPs", "", 2),
    "iterations_per_second": ("Iterations/s", "", 2),
    "throughput_ratio": ("Rate with DTR / without", "", 3),
}
# With real images.
COMPARED = ("fid", "fid-clean", "fid-clean-own", "sfid", "kid", "precision", "recall")
QUOTED = "cited:"


@dataclass
class Cell:
    """`status`: measured, computed, pending, running, not run, diverged, failed, unmeasurable,
    broken, outdated, quoted.

    An empty status is a cell that the paper does not have. `paper` is None where it has no value,
    NaN where the value is unknown. `low` and `high` bound `value` as `interval` says.
    """

    metric: str = ""
    status: str = ""
    reason: str = ""
    run: str = ""
    paper: float | None = None
    source: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    interval: str = ""
    n: int | None = None
    seeds: tuple[int, ...] = ()
    measured_as: str = ""
    protocol_id: str = ""
    difference: Difference | None = None  # to the paper, where values compare in size
    best_paper: bool = False
    best_value: bool = False

    @property
    def paper_text(self) -> str:
        if self.paper is None:
            return ""
        return UNKNOWN if math.isnan(self.paper) else format_value(self.metric, self.paper)

    @property
    def value_text(self) -> str:
        return "" if self.value is None else format_value(self.metric, self.value)

    @property
    def interval_text(self) -> str:
        if self.low is None or self.high is None:
            return ""
        low, high = format_value(self.metric, self.low), format_value(self.metric, self.high)
        return f"[{low}, {high}]"

    @property
    def details(self) -> str:
        """What stands behind the cell, in one line."""
        parts = [f"paper: {self.paper_text} ({self.source})" if self.source else ""]
        if self.status == "measured":
            seeds = f", seed {', '.join(map(str, self.seeds))}" if self.seeds else ""
            parts += [f"{self.measured_as}, n = {self.n:,}{seeds}"]
            parts += [f"{self.interval} {self.interval_text}" if self.interval_text else ""]
            parts += [f"protocol {self.protocol_id}" if self.protocol_id else ""]
            parts += [self.difference.details if self.difference else ""]
        elif self.status:
            parts += [self.status + (f": {self.reason}" if self.reason else "")]
        if self.status == "measured":
            parts += [self.reason]
        return " · ".join(part for part in (*parts, self.run) if part)


def format_value(metric: str, value: float) -> str:
    """A value with the decimals of its metric, those the paper prints."""
    return f"{value:,.{NAMES.get(metric, ('', '', 3))[2]}f}".replace("-", "−")


def paper_cell(row: RowSpec, group: Group, metric: str) -> Cell:
    """The cell as the paper has it; without a status where it has none."""
    run = row.runs.get(group.slot, "")
    if row.complexity is not None and metric == "throughput_ratio":
        found = _paper_ratio(*row.complexity)
    elif row.complexity is not None:
        found = complexity_of(*row.complexity, metric)
    elif run and metric == "iterations":
        found = value_of(group.panel, run, "fid", iterations=row.iterations)
        found = found | {"value": found["iterations"]} if found else None
    else:
        found = value_of(group.panel, run, metric, iterations=row.iterations) if run else None
    if found is None:
        return Cell(metric)
    value = math.nan if found["value"] is None else float(found["value"])
    return Cell(metric, "pending", run=run, paper=value, source=found["provenance"] or UNKNOWN)


def resolve(cell: Cell, row: RowSpec, group: Group, absences: Absences) -> Cell:
    """Fill in what this repository has for the cell: measured, computed, or a status."""
    if not cell.status:
        return cell
    if cell.run.startswith(QUOTED):
        cell.status, cell.reason = "quoted", "not trained by the paper's authors either"
        return cell
    if cell.metric in ("gflops", "parameters_millions"):
        return _computed(cell, row)
    if cell.metric in ("iterations_per_second", "throughput_ratio"):
        return _speed(cell, row, absences)
    if cell.metric == "iterations":
        return _length(cell, group, absences)
    return _measured(cell, group, absences)


def step_of(scale: Scale, run_key: str, slot: str) -> int | None:
    """The last training step at this scale of the run or runs behind a cell."""
    run = all_runs(scale).get(components(run_key)[0])
    if run is None or slot not in scale.slots:
        return None
    return training_steps(scale, run)


def _computed(cell: Cell, row: RowSpec) -> Cell:
    """Size and cost of the paper's own architecture, whatever the scale trains."""
    backbone, routed, copies = row.network
    if cell.metric == "gflops":
        cell.value = paper_gflops(backbone, routed)
    else:
        cell.value = copies * parameter_count(backbone) / 1e6
    cell.status, cell.reason = "computed", f"counted for the paper's {backbone}, at any scale"
    return cell


def _paper_ratio(backbone: str, routing: str) -> dict | None:
    """The paper's rate with DTR by that without; the paper prints the two and not their ratio."""
    if routing == "none":
        return None
    routed, plain = (
        complexity_of(backbone, name, "iterations_per_second")["value"]
        for name in (routing, "none")
    )
    return {"value": routed / plain, "provenance": f"derived: {routed:g} / {plain:g}"}


def _speed(cell: Cell, row: RowSpec, absences: Absences) -> Cell:
    """Training speed of the paper's own architecture, and what remains of it with DTR."""
    backbone, routing = row.complexity
    if (absence := absences.of_speed(backbone)) is not None:
        return _without(cell, absence)
    record = absences.records.throughput[backbone]
    return _from_speed_record(cell, routing, record, record.speed)


def _without(cell: Cell, absence: Absence) -> Cell:
    cell.status, cell.reason = absence
    return cell


def _from_speed_record(cell: Cell, routing: str, record: ThroughputRecord, speed: Speed) -> Cell:
    cell.status, cell.n = "measured", record.pairs
    cell.measured_as = (
        f"steps/s of one process on {record.device}, batch {record.batch_size}, "
        f"{record.threads} threads, median over pairs of steps with DTR and without"
    )
    # The record has seconds with DTR by seconds without; rates are the other way round.
    ratio, low, high = 1 / speed.ratio, 1 / speed.high, 1 / speed.low
    if cell.metric == "throughput_ratio":
        cell.value, cell.low, cell.high = ratio, low, high
        cell.interval = "95 % bootstrap interval over pairs"
        return cell
    cell.value = speed.iterations_per_second[routing]
    if routing != "none":
        texts = [format_value("throughput_ratio", value) for value in (ratio, low, high)]
        cell.reason = "{} [{}, {}] of the rate without DTR".format(*texts)
    return cell


def _length(cell: Cell, group: Group, absences: Absences) -> Cell:
    scale = absences.scale
    if (absence := _unfilled(cell, group, absences)) is not None:
        return _without(cell, absence)
    cell.value, cell.status = step_of(scale, cell.run, group.slot), "computed"
    cell.reason = f"training steps at the {scale.scale} scale"
    return cell


def _unfilled(cell: Cell, group: Group, absences: Absences) -> Absence | None:
    """Why the scale does not train the runs behind a cell, if it does not."""
    absence = absences.of_runs(cell.run)
    if absence is None and step_of(absences.scale, cell.run, group.slot) is None:
        return Absence("not run", "the slot is not filled")
    return absence


def _measured(cell: Cell, group: Group, absences: Absences) -> Cell:
    records, scale = absences.records, absences.scale
    if (step := step_of(scale, cell.run, group.slot)) is None:
        return _without(cell, _unfilled(cell, group, absences))
    own = panel_protocol(scale, group.panel, group.slot)
    rows = records.rows_of(cell.run, step, own.id)
    outdated = [seed for seed in scale.seeds if absences.outdated(cell.run, seed, step)]
    fill_from(cell, rows[~rows["seed"].isin(outdated)], records, group.slot)
    if cell.status == "measured":
        compare_size(cell, group, scale)
        return cell
    return _without(
        cell,
        foremost(
            absences.of_metric(cell.run, seed, step, own, cell.metric) for seed in scale.seeds
        ),
    )


def fill_from(cell: Cell, rows: pd.DataFrame, records: Records, slot: str) -> bool:
    """Put the mean over seeds of the cell's metric into it; whether any record spoke of it."""
    if rows.empty:
        return False
    asked = f"{cell.metric}@{records.scale.slots[slot].extractor}"
    good = rows[(rows["status"] == "ok") & (rows["metric"] == asked)].sort_values("seed")
    if good.empty:
        _without(cell, of_rows(rows, asked))
        return True
    cell.status, cell.measured_as = "measured", asked
    cell.value, cell.n = float(good["value"].mean()), int(good["n"].min())
    cell.seeds = tuple(int(seed) for seed in good["seed"] if seed >= 0)
    cell.protocol_id = good.iloc[0]["protocol_id"]
    if len(good) > 1:
        cell.low, cell.high = float(good["value"].min()), float(good["value"].max())
        cell.interval = f"range over {len(good)} seeds"
    elif not math.isnan(good.iloc[0]["low"]) and not math.isnan(good.iloc[0]["high"]):
        cell.low, cell.high = float(good.iloc[0]["low"]), float(good.iloc[0]["high"])
        cell.interval = "bootstrap interval of one seed"
    wanted, said = len(records.scale.seeds), []
    if cell.seeds and len(good) < wanted:
        bad = rows[rows["status"] != "ok"]
        missing = f"; {bad.iloc[0]['status']} for another" if len(bad) else ""
        said.append(f"{len(good)} of {wanted} seeds{missing}")
    if cell.metric in COMPARED and (count := computed_from(records, good.iloc[0]["path"])):
        said.append(f"reference statistics computed here from {count:,} training images")
    cell.reason = "; ".join(said)
    return True


def compare_size(cell: Cell, group: Group, scale: Scale) -> None:
    """Give a measured cell its difference to the paper's value, where they compare in size."""
    if cell.status != "measured" or cell.metric not in QUALITY or not cell.paper:
        return
    if comparable(scale, group.panel, group.slot, cell.run):
        seeds = max(1, len(cell.seeds))
        cell.difference = difference(cell.metric, cell.value, cell.paper, seeds)


def computed_from(records: Records, path: str) -> int:
    """Images of the reference statistics of a metrics record that the workflow computed, else 0."""
    told = records.metrics[path].reference or {}
    return int(told.get("count", 0)) if "computed" in told else 0
