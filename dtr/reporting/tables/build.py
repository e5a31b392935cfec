"""Tables 1-8 as the paper lays them out, from one source: HTML, CSV, Markdown and LaTeX."""

from dtr.config.scale import Scale
from dtr.experiments import SLOTS, Run
from dtr.planning.evaluations import panel_protocol
from dtr.records.table import Records
from dtr.reporting.absence import Absences
from dtr.reporting.published import value_of
from dtr.reporting.tables.cells import COMPARED, NAMES, QUOTED, Cell, paper_cell, resolve
from dtr.reporting.tables.controls import control_rows, refutation
from dtr.reporting.tables.layout import LAYOUTS, TABLE1, Group, RowSpec, TableSpec
from dtr.reporting.tables.table import Column, Row, Table
from dtr.support.errors import Refusal

ARROWS = {"lower": "↓", "higher": "↑", "": ""}
TIERS = {"latent": "Latent models", "pixel": "Pixel models"}


def build_tables(scale: Scale, records: Records) -> list[Table]:
    """Tables 1-8 of the paper, filled with whatever records exist."""
    return [_build(layout, scale, records) for layout in LAYOUTS]


def build_table(name: str, records: Records) -> Table:
    """One table of the paper ("table4"), filled with whatever records exist."""
    known = {layout.name: layout for layout in LAYOUTS}
    if name not in known:
        raise Refusal(f"table {name!r}: unknown; known: {', '.join(known)}")
    return _build(known[name], records.scale, records)


def _build(layout: TableSpec, scale: Scale, records: Records) -> Table:
    columns = [
        _column(layout, group, metric, scale) for group in layout.groups for metric in group.metrics
    ]
    table, absences = Table(layout.name, layout.stubs, columns), Absences(records)
    for row in layout.rows:
        cells = [
            resolve(paper_cell(row, column.group, column.metric), row, column.group, absences)
            for column in columns
        ]
        quoted = any(run.startswith(QUOTED) for run in row.runs.values())
        table.rows.append(Row(row.labels, cells, "quoted" if quoted else "paper"))
    for run in scale.extra_runs:
        if run.needed_by(layout.name):
            table.rows.append(_extra_row(table, run, absences))
    controls = control_rows(columns, records)
    _mark_refuted(table, controls)
    _mark_best(table)
    if layout is TABLE1:
        table.rows += controls
    return table


def _column(layout: TableSpec, group: Group, metric: str, scale: Scale) -> Column:
    name, direction, _ = NAMES[metric]
    if direction:
        run = next(row.runs[group.slot] for row in layout.rows if group.slot in row.runs)
        samples = (value_of(group.panel, run, metric) or {}).get("n_samples", 50_000)
        if samples != 50_000:
            name += f"-{samples // 1000}K"
    measured_as = computed = ""
    if direction and group.slot in scale.slots:
        measured_as = f"{metric}@{scale.slots[group.slot].extractor}"
        own = panel_protocol(scale, group.panel, group.slot)
        if metric in COMPARED and own.reference is not None and own.reference.computed:
            computed = own.dataset
    tier = TIERS[SLOTS[group.slot].space] if layout.stacked else ""
    heading = f"{name} {ARROWS[direction]}".strip()
    return Column(group, metric, heading, measured_as, tier, computed=computed)


def _extra_row(table: Table, run: Run, absences: Absences) -> Row:
    """A run of the scale's own in the columns of its slot; the paper has no value for it."""
    spec = RowSpec((run.id,), {run.slot: run.id})
    cells = []
    for column in table.columns:
        cell = Cell(column.metric)
        if column.group.slot == run.slot and NAMES[column.metric][1]:
            cell = resolve(Cell(column.metric, "pending", run=run.id), spec, column.group, absences)
        cells.append(cell)
    return Row((run.id, *[""] * (len(table.stubs) - 1)), cells, "extra")


def _mark_refuted(table: Table, controls: list[Row]) -> None:
    """Note at each column, and at what was measured in it, that the controls refute its metric."""
    real, untrained = controls
    for index, column in enumerate(table.columns):
        column.refuted = refutation(real.cells[index], untrained.cells[index])
        for cell in (row.cells[index] for row in table.rows):
            if column.refuted and cell.status == "measured":
                cell.reason = "; ".join(filter(None, (cell.reason, column.refuted)))


def _mark_best(table: Table) -> None:
    """Mark the best printed value of the paper in each column, ties too, and the best here."""
    for index, column in enumerate(table.columns):
        direction = NAMES[column.metric][1]
        if not direction:
            continue
        cells = [row.cells[index] for row in table.rows]
        best = min if direction == "lower" else max
        known = [cell for cell in cells if cell.paper_text.replace(",", "")[:1].isdigit()]
        if len(known) > 1:
            top = best(known, key=lambda cell: cell.paper).paper_text
            for cell in known:
                cell.best_paper = cell.paper_text == top
        measured = [cell for cell in cells if cell.status == "measured"]
        if len(measured) > 1 and not column.refuted:
            _mark_told_apart(measured, best(measured, key=lambda cell: cell.value))


def _mark_told_apart(measured: list[Cell], top: Cell) -> None:
    """Mark the best and those whose range over seeds overlaps its; none where that is all.

    A cell of one seed has no such range, so that nothing in its column can be told apart.
    """
    if any(len(cell.seeds) < 2 for cell in measured):
        return
    near = [cell for cell in measured if cell.low <= top.high and top.low <= cell.high]
    for cell in near if len(near) < len(measured) else ():
        cell.best_value = True
