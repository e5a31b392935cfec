"""The paper's numbers (published.yaml) as a tidy table; what was not found stays null."""

from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

DATA = Path(__file__).with_name("published.yaml")
UNKNOWN = "unknown"


@cache
def published() -> dict[str, Any]:
    """Everything in published.yaml as plain Python values; treat it as read-only."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C parser is not always built
    return yaml.load(DATA.read_text(encoding="utf-8"), Loader=loader)


def run_key(run: str | list[str] | tuple[str, ...]) -> str:
    """One name for the run or runs behind a cell: several sampled as one are joined by '+'."""
    return run if isinstance(run, str) else "+".join(run)


@cache
def results_frame() -> pd.DataFrame:
    """One row per published metric value of the tables and figures.

    Columns: table, run (`run_key`), iterations, n_samples, guidance, metric, value (NaN: unknown),
    tolerance (NaN: as printed), provenance ('' or codes joined by ', '), note ('' if none).
    """
    rows = [
        {
            "table": row["table"],
            "run": run_key(row["run"]),
            "iterations": row["iterations"],
            "n_samples": row["n_samples"],
            "guidance": row["guidance"],
            "metric": metric,
            "value": value,
            "tolerance": row.get("tolerance", {}).get(metric),
            "provenance": ", ".join(row["provenance"] or ()),
            "note": row.get("note", ""),
        }
        for row in published()["results"]
        for metric, value in (row["metrics"] | _facts(row)).items()
    ]
    return pd.DataFrame(rows).astype({"value": float, "tolerance": float, "guidance": float})


@cache
def _rows_by_cell() -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    cells: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in results_frame().to_dict("records"):
        cells.setdefault((row["table"], row["run"], row["metric"]), []).append(row)
    return cells


def _facts(row: dict[str, Any]) -> dict[str, float]:
    """The columns of a table that describe the model: its size and its cost."""
    return {name: row[name] for name in ("parameters_millions", "gflops") if name in row}


def value_of(table: str, run: str, metric: str, *, iterations: int | None = None) -> dict | None:
    """The published row of one cell (`run` as `run_key`), or None where the paper has no such cell.

    `iterations` chooses among several training lengths of the same run.
    """
    for row in _rows_by_cell().get((table, run, metric), ()):
        if iterations is None or row["iterations"] == iterations:
            return row
    return None


def complexity_of(backbone: str, routing: str, metric: str) -> dict[str, Any] | None:
    """Published `gflops` or `iterations_per_second` of a preset, with its provenance."""
    for row in published()["complexity"]:
        if (row["backbone"], row["routing"]) == (backbone, routing):
            return {
                "value": row["metrics"][metric],
                "provenance": ", ".join(row["provenance"] or ()),
            }
    return None
