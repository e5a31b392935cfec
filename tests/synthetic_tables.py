"""Tables of whatever records exist, and the cells in them."""

from pathlib import Path

from dtr.config.checks import load_scale
from dtr.config.scale import Scale
from dtr.records.table import Records
from dtr.reporting.tables.build import build_tables
from dtr.reporting.tables.cells import Cell
from dtr.reporting.tables.table import Table

RUN = "in256-l2-none"


def tables_of(scale: Scale) -> dict[str, Table]:
    return {table.name: table for table in build_tables(scale, Records(scale))}


def cell_of(table: Table, run: str, metric: str = "fid") -> Cell:
    cells = [cell for row in table.rows for cell in row.cells]
    return next(cell for cell in cells if (cell.run, cell.metric) == (run, metric))


def scale_of_seeds(digits: dict, tmp_path: Path, seeds: list[int]) -> Scale:
    return load_scale(digits | {"results": str(tmp_path), "seeds": seeds}, source="digits.yaml")
