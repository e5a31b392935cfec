"""The report: one self-contained page from whatever records exist now; nothing is started."""

import math
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from string import Template
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from dtr.config.scale import Scale, stated_facts
from dtr.experiments import FIGURES, RUNS, SLOTS, TABLES
from dtr.planning.places import Places
from dtr.planning.runs import selected_runs
from dtr.records.schema import MetricsRecord, ModelRecord
from dtr.records.table import Records
from dtr.reporting.built import write_built
from dtr.reporting.claims.answer import answer, lines
from dtr.reporting.claims.judged import (
    ClaimResult,
    build_claims,
    grouped,
    write_claims,
)
from dtr.reporting.claims.secondary import error_rows
from dtr.reporting.figures.draw import MASK_CHANNELS, Picture, build_figures, draw_forest
from dtr.reporting.figures.sheets import Sheet, Strip, build_sheets
from dtr.reporting.listings import (
    machines,
    measurements,
    problems,
    protocols_of_slots,
    trainings,
)
from dtr.reporting.published import published
from dtr.reporting.tables.build import build_tables
from dtr.reporting.tables.formats import write_tables
from dtr.reporting.tables.table import Table, size_summary, summary
from dtr.support.errors import Refusal
from dtr.support.files import write_text

SOURCES = Path(__file__).parents[2] / "report"
NEEDED = (
    "page.html.j2",
    "claims.html.j2",
    "style.css",
    "page.js",
    "captions.yaml",
    "claims.yaml",
    "discrepancies.yaml",
)
MAIN_SLOTS = ("class_conditional", "unconditional", "text_conditional")  # of the first strips
BUILT_FOLDERS = ("tables", "figures", "claims")
RECORD_FOLDERS = ("runs", "analysis", "controls", "data")


def build_report(scale: Scale, root: Path | None = None) -> Path:
    """Write tables, figures, claims and the page of the records that exist now; returns the page.

    root: folder below which all of it goes, never one where rules declare outputs; None: the
    scale's own for what exists now.
    """
    _check_sources()
    root = Path(Places(scale.results).now()) if root is None else root
    records = Records(scale)
    tables, claims = build_tables(scale, records), build_claims(scale, records)
    write_tables(tables, root / "tables")
    write_claims(claims, root / "claims")
    page = root / "report" / "index.html"
    pictures = build_figures(records, figures=root / "figures", others=page.parent)
    _write_page(page, records, tables, claims, pictures, linked=(*TABLES, *FIGURES))
    write_built(records, root)
    return page


def build_page(scale: Scale) -> Path:
    """Write the page of a finished scale and the pictures that it alone shows; returns the page.

    It links to the tables, figures and claims of the scale, which other jobs have written.
    """
    _check_sources()
    records = Records(scale)
    page = Path(Places(scale.results).page())
    pictures = build_figures(records, figures=None, others=page.parent)
    tables, claims = build_tables(scale, records), build_claims(scale, records)
    _write_page(page, records, tables, claims, pictures, linked=scale.targets)
    write_built(records, records.root)
    return page


def _check_sources() -> None:
    for name in NEEDED:
        if not (SOURCES / name).is_file():
            raise Refusal(f"{SOURCES / name}: missing; the page is built from a repository clone")


def _write_page(
    page: Path,
    records: Records,
    tables: list[Table],
    claims: list[ClaimResult],
    pictures: list[Picture],
    *,
    linked: Iterable[str],
) -> None:
    """Write the page, and the sample sheets beside it; `linked` tables and figures have files."""
    scale = records.scale
    up = Path(os.path.relpath(scale.results, page.parent)).as_posix()
    folders = [f"../{name}" for name in BUILT_FOLDERS if (page.parent.parent / name).is_dir()]
    folders += [f"{up}/{name}" for name in RECORD_FOLDERS if (records.root / name).is_dir()]
    sheets = build_sheets(records, page.parent)
    text = (
        environment()
        .get_template("page.html.j2")
        .render(
            scale=scale,
            deviations=_deviations(records),
            up=up,
            linked=set(linked),
            tables=tables,
            pictures=pictures,
            sheets=sheets,
            answer=answer(claims),
            forest=draw_forest(lines(claims), page.parent),
            main_strips=_main_strips(sheets),
            error_rows=error_rows(records),
            counts=summary(tables),
            sizes=size_summary(tables),
            claims=grouped(claims),
            **_overview(scale, records),
            **_texts(scale),
            measurements=measurements(records),
            trainings=trainings(records),
            problems=problems(records),
            machines=machines(records),
            protocols=protocols_of_slots(scale),
            slots=SLOTS,
            folders=folders,
        )
    )
    write_text(page, _marked(text) if scale.rehearsal else text)


def _marked(page: str) -> str:
    """The page of a rehearsal: each heading says that its numbers are no results."""
    return re.sub(r"(<(?:h[1-6]|title|caption|figcaption)\b[^>]*>)", r"\1Rehearsal: ", page)


def _main_strips(sheets: list[Sheet]) -> list[Strip]:
    """The runs of Table 1 (none, R-TR, DTR) of the first slot that has samples of all of them."""
    for slot in MAIN_SLOTS:
        wanted = [run.id for run in RUNS if run.slot == slot and "table1" in run.used_by]
        for sheet in (one for one in sheets if one.slot == slot):
            strips = {strip.run: strip for strip in sheet.strips}
            if all(run in strips for run in wanted):
                return [strips[run] for run in wanted]
    return []


def environment() -> jinja2.Environment:
    """Templates of the report folder: values are escaped, a name that is missing is an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(SOURCES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["duration"] = duration
    made.globals["asset"] = lambda name: Markup((SOURCES / name).read_text("utf-8"))
    made.globals["svg"] = Markup
    return made


def _texts(scale: Scale) -> dict[str, Any]:
    captions = yaml.safe_load((SOURCES / "captions.yaml").read_text("utf-8"))
    kinds = {scale.datasets[slot.dataset].type for slot in scale.slots.values()}
    fill = {"channels": MASK_CHANNELS, "beta": scale.routing.beta}
    for figure in captions["figures"].values():
        figure["caption"] = figure["caption"].format(**fill)
    return {
        "captions": captions,
        "notices": [text for kind, text in captions["notices"].items() if kind in kinds],
        "discrepancies": yaml.safe_load((SOURCES / "discrepancies.yaml").read_text("utf-8")),
        "published": published(),
    }


def _deviations(records: Records) -> list[str]:
    """The scale's own words, with the numbers that were recorded, or else planned."""
    facts = stated_facts(records.scale)
    for speed in records.throughput.values():
        for name in ("batch_size", "device", "threads"):
            facts[f"throughput_{name}"] = getattr(speed, name)
    for similarity in records.cka.values():
        facts["cka_images"] = similarity.n
    return [Template(text).substitute(facts) for text in records.scale.deviations]


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 3 min 20 s, 2 h 05 min."""
    if math.isnan(seconds):
        return "unknown"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _overview(scale: Scale, records: Records) -> dict[str, Any]:
    """What was run, on what, and for how long."""
    selected = selected_runs(scale)
    trained = [
        record
        for record in records.final_trainings()
        if record.run in selected and record.seed in scale.seeds  # a try leaves others there
    ]
    measured = records.metrics.values()
    provenances = [record.provenance for record in (*trained, *measured)]
    devices = Counter(
        place.get("cpu") if place.get("device") == "cpu" else place.get("device")
        for place in provenances
    )
    return {
        "selected": selected,
        "trained": trained,
        "devices": [str(device) for device in devices if device],
        "spent": _spent(trained, measured),
        "created": max((str(place.get("created", "")) for place in provenances), default=""),
    }


def _spent(trained: Iterable[ModelRecord], measured: Iterable[MetricsRecord]) -> dict[str, Any]:
    """Seconds of each stage, and of how many of the sampled models the sampling was not timed."""
    drawn = [record.sampling_seconds for record in measured if record.run != "real"]
    return {
        "training": _total(record.wall_seconds for record in trained),
        "sampling": _total(drawn),
        "metrics": _total(record.wall_seconds for record in measured),
        "sampled": len(drawn),
        "untimed": sum(map(math.isnan, drawn)),
    }


def _total(seconds: Iterable[float]) -> float:
    return sum(value for value in seconds if not math.isnan(value))
