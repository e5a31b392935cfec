"""The files of a table: CSV with everything that is known, Markdown and LaTeX as in the paper."""

from pathlib import Path

import pandas as pd

from dtr.experiments import SLOTS
from dtr.reporting.published import UNKNOWN
from dtr.reporting.tables.cells import Cell
from dtr.reporting.tables.table import Column, Table, Tier
from dtr.support.files import write_text

OWN = ("value", "low", "high")  # columns that a cell has under these names
BEHIND = ("status", "reason", "run", "n", "measured_as", "protocol_id", "interval", "source")
COLUMNS = ["table", "row", "kind", "dataset", "metric", "paper", *OWN, "seeds", *BEHIND]


def plain_text(cell: Cell) -> str:
    """A cell in one line: `paper / ours [low, high]`, or the status in place of ours."""
    if not cell.status:
        return "–"
    ours = " ".join(part for part in (cell.value_text or cell.status, cell.interval_text) if part)
    ours += f" ({cell.difference.text})" if cell.difference else ""
    return f"{cell.paper_text} / {ours}" if cell.paper is not None else ours


def to_csv(table: Table) -> str:
    """One line per cell, with everything that is known about it."""
    lines = [
        [table.name, " / ".join(filter(None, row.labels)), row.kind]
        + [SLOTS[column.group.slot].dataset, cell.metric]
        + [UNKNOWN if cell.paper_text == UNKNOWN else cell.paper]
        + [getattr(cell, name) for name in OWN]
        + [" ".join(map(str, cell.seeds)), *(getattr(cell, name) for name in BEHIND)]
        for row in table.rows
        for column, cell in zip(table.columns, row.cells, strict=True)
        if cell.status
    ]
    # As they are: a column of integers in which one is missing would become one of floats.
    return pd.DataFrame(lines, columns=COLUMNS, dtype=object).to_csv(index=False)


def _heading(column: Column) -> str:
    """As the cells below it: `the paper's metric / the one measured here`."""
    said = " / ".join(filter(None, (column.heading, column.measured_as)))
    said += ", reference computed here" if column.computed else ""
    return f"{said} †" if column.refuted else said


def _full_heading(table: Table, column: Column) -> str:
    """With the dataset, unless the group has another label or the table has this group only."""
    shared = column.group.label or len({other.group for other in table.columns}) == 1
    dataset = "" if shared else f"{SLOTS[column.group.slot].dataset} "
    return dataset + _heading(column)


def _notes(table: Table) -> list[str]:
    """What a reader of the file has to know, a line each."""
    lines = ["Cells: the paper’s value / the value here [its interval]."]
    if any(column.measured_as for column in table.columns):
        lines += [
            "Headings: the paper’s metric, on Inception features / the one measured here, on "
            "features of the network named behind @.",
            "Bold: the paper’s best of a column; here the best and all whose range over seeds "
            "overlaps its, where that is not every value.",
        ]
    lines += [f"{note}." for note in table.notes()]
    lines += [
        f"†: {column.measured_as} of {SLOTS[column.group.slot].dataset} is {column.refuted}; "
        "values here are never bold."
        for column in table.columns
        if column.refuted
    ]
    lines += [f"{status}: {reason} (cells: {count})." for status, reason, count in table.reasons()]
    return lines + ([f"{blank}."] if (blank := table.blank_note()) else [])


def to_markdown(table: Table) -> str:
    """Pipe tables, one for each tier, and notes; the best values are bold."""
    tiers = [_tier_as_markdown(table, tier) for tier in table.tiers()]
    return "\n".join([*tiers, *(f"{note}\n" for note in _notes(table))])


def _tier_as_markdown(table: Table, tier: Tier) -> str:
    heads = [*table.stubs, *(_full_heading(table, column) for column in tier.columns)]
    lines = [f"**{tier.heading}**", ""] if tier.heading else []
    lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in tier.rows:
        cells = [_emphasised(cell, "**", "**").replace("|", "\\|") for cell in row.cells]
        lines.append("| " + " | ".join([*row.labels, *cells]) + " |")
    return "\n".join(lines) + "\n"


def _emphasised(cell: Cell, before: str, after: str) -> str:
    text = plain_text(cell)
    if cell.paper is not None and cell.status:
        paper, ours = text.split(" / ", 1)
        paper = f"{before}{paper}{after}" if cell.best_paper else paper
        return f"{paper} / {before}{ours}{after}" if cell.best_value else f"{paper} / {ours}"
    return f"{before}{text}{after}" if cell.best_value else text


LATEX = {"↓": r"$\downarrow$", "↑": r"$\uparrow$", "α": r"$\alpha$", "–": "--"}
LATEX |= {"†": r"\dag{}", "≈": r"$\approx$"} | {symbol: f"\\{symbol}" for symbol in "%&_#$"}


def _latex(text: str) -> str:
    return "".join(LATEX.get(symbol, symbol) for symbol in text)


def to_latex(table: Table) -> str:
    """A booktabs tabular for each tier, and notes; the best values are bold."""
    tiers = [_tier_as_latex(table, tier) for tier in table.tiers()]
    notes = [f"{{\\footnotesize {_latex(note)}\\par}}\n" for note in _notes(table)]
    return "\n\\par\\medskip\n".join([*tiers, "".join(notes)])


def _tier_as_latex(table: Table, tier: Tier) -> str:
    stubs = len(table.stubs)
    lines = [f"\\begin{{tabular}}{{{'l' * stubs}{'r' * len(tier.columns)}}}", "\\toprule"]
    spans, rules, start = [_latex(tier.heading), *[""] * (stubs - 1)], [], stubs + 1
    for _, heading, width in tier.groups():
        spans.append(f"\\multicolumn{{{width}}}{{c}}{{{_latex(heading)}}}")
        rules.append(f"\\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    heads = [*table.stubs, *(_heading(column) for column in tier.columns)]
    lines += [" & ".join(spans) + r" \\", " ".join(rules)]
    lines += [" & ".join(map(_latex, heads)) + r" \\", "\\midrule"]
    for before, row in zip([None, *tier.rows], tier.rows, strict=False):
        if before is not None and row.kind != before.kind:
            lines.append("\\midrule")
        cells = [_emphasised(cell, "\x01", "\x02") for cell in row.cells]
        line = " & ".join(map(_latex, (*row.labels, *cells))) + r" \\"
        lines.append(line.replace("\x01", r"\textbf{").replace("\x02", "}"))
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def write_tables(tables: list[Table], folder: Path) -> None:
    """Write tables/table<N>.{csv,md,tex}."""
    for table in tables:
        write_text(folder / f"{table.name}.csv", to_csv(table))
        write_text(folder / f"{table.name}.md", to_markdown(table))
        write_text(folder / f"{table.name}.tex", to_latex(table))
