"""What a table is made of, whatever writes it down: its columns, its rows, the tiers it stacks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from dtr.experiments import SLOTS
from dtr.reporting.claims.statistics import FID_LOTTERY
from dtr.reporting.tables.cells import Cell
from dtr.reporting.tables.layout import Group
from dtr.reporting.tables.sizes import Difference


@dataclass
class Column:
    """One column of values: its group, its metric and how it is measured here.

    `tier`: heading of the tier it stands in; empty where a table has one only. `refuted`: how the
    controls refute the metric as it is measured here; empty where they do not. `computed`: the
    dataset whose statistics the workflow computed in place of a published file; empty otherwise.
    """

    group: Group
    metric: str
    heading: str
    measured_as: str
    tier: str = ""
    refuted: str = ""
    computed: str = ""


@dataclass
class Row:
    """`kind`: paper (a row of the paper), quoted, extra (a run of the scale's own), control.

    `note`: how it is meant, for below the table, if that is not what is expected of it.
    """

    labels: tuple[str, ...]
    cells: list[Cell]
    kind: str = "paper"
    note: str = ""


@dataclass
class Tier:
    """Columns that stand side by side, and the rows with a cell in any of them."""

    heading: str
    columns: list[Column]
    rows: list[Row]

    def groups(self) -> list[tuple[Group, str, int]]:
        """Each group with its heading and its number of columns."""
        found = groupby(self.columns, key=lambda column: column.group)
        return [
            (group, group.label or SLOTS[group.slot].dataset, len(list(columns)))
            for group, columns in found
        ]

    def computed(self, group: Group) -> bool:
        """Whether the workflow computed the statistics that columns of the group compare with."""
        return any(column.computed for column in self.columns if column.group == group)

    def bodies(self) -> list[tuple[str, list[Row]]]:
        """The rows in runs of one kind, in order."""
        return [(kind, list(rows)) for kind, rows in groupby(self.rows, key=lambda row: row.kind)]


@dataclass
class Table:
    """One table of the paper with what was reproduced of it."""

    name: str
    stubs: tuple[str, ...]
    columns: list[Column]
    rows: list[Row] = field(default_factory=list)

    @property
    def number(self) -> str:
        return self.name.removeprefix("table")

    def tiers(self) -> list[Tier]:
        """The parts that stand one above the other, as in the paper; mostly there is one."""
        headings = dict.fromkeys(column.tier for column in self.columns)
        return [self._tier(heading) for heading in headings]

    def _tier(self, heading: str) -> Tier:
        chosen = [column.tier == heading for column in self.columns]
        cut = [replace(row, cells=_where(chosen, row.cells)) for row in self.rows]
        rows = [row for row in cut if any(cell.status for cell in row.cells)]
        return Tier(heading, _where(chosen, self.columns), rows)

    def blank_note(self) -> str:
        """What an empty place means, if any tier shows one."""
        shown = (cell for tier in self.tiers() for row in tier.rows for cell in row.cells)
        if all(cell.status for cell in shown):
            return ""
        return "– no value in the paper, and none here"

    def notes(self) -> list[str]:
        """What the values are compared with, and how to read their differences to the paper."""
        return [*self._reference_notes(), *self._size_notes()]

    def _reference_notes(self) -> list[str]:
        datasets = dict.fromkeys(column.computed for column in self.columns if column.computed)
        said = [row.note for row in self.rows if row.note]
        if datasets:
            said.insert(
                0,
                f"Reference computed here: values of {', '.join(datasets)} compare with statistics "
                "of all training images that the workflow computed, not with a published file",
            )
        return said

    def differences(self) -> list[Difference]:
        """Those to the paper's values, of cells that compare with them in size."""
        cells = (cell for row in self.rows for cell in row.cells)
        return [cell.difference for cell in cells if cell.difference is not None]

    def _size_notes(self) -> list[str]:
        if not self.differences():
            return []
        return [
            "Per cent: the difference to the paper’s value, where data, networks, training and "
            "measurement are the paper’s",
            "≈: a FID within the noise of one seed, below two standard deviations of what "
            f"retraining does to it, {100 * FID_LOTTERY:.1f} % of each FID (The FID Lottery, arXiv "
            "2606.20536)",
        ]

    def counts(self) -> Counter[str]:
        """Cells of the paper by status; quoted ones and empty places are no cells."""
        cells = (cell for row in self.rows if row.kind == "paper" for cell in row.cells)
        return Counter(cell.status for cell in cells if cell.status)

    def reasons(self) -> list[tuple[str, str, int]]:
        """(status, reason, cells) of what is not measured, most frequent first."""
        found: Counter[tuple[str, str]] = Counter(
            (cell.status, cell.reason)
            for row in self.rows
            for cell in row.cells
            if cell.status not in ("", "measured", "computed", "quoted")
        )
        return [(*what, count) for what, count in found.most_common()]


def _where(chosen: Sequence[bool], items: Sequence) -> list:
    return [item for item, is_chosen in zip(items, chosen, strict=True) if is_chosen]


def size_summary(tables: list[Table]) -> str:
    """How far measured FIDs are from the paper's, each model once; empty where none compares."""
    found = {
        (cell.run, cell.protocol_id): cell.difference
        for table in tables
        for row in table.rows
        for cell in row.cells
        if cell.metric == "fid" and cell.difference is not None
    }
    if not found:
        return ""
    far = sorted((one for one in found.values() if not one.near), key=lambda one: one.share)
    models = f"{len(found)} model{'s' if len(found) > 1 else ''}"
    near = f"{len(found) - len(far)} within the noise of one seed of the paper’s value"
    said = f"FID compares in size with the paper’s for {models}: {near}"
    if not far:
        return f"{said}."
    ends = dict.fromkeys((far[0].text, far[-1].text))
    return f"{said}, {len(far)} beyond it ({' to '.join(ends)})."


def summary(tables: list[Table]) -> Counter[str]:
    """Cells of all tables by status."""
    return sum((table.counts() for table in tables), Counter())
