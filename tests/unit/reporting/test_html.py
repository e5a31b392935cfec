"""The page builds from nothing, from everything and from damage, and is one sound file."""

import math
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dtr.cli import main
from dtr.config.scale import Scale
from dtr.experiments import FIGURES, TABLES
from dtr.planning.evaluations import evaluations_for
from dtr.planning.places import Places
from dtr.records.table import Records
from dtr.reporting import html
from dtr.reporting.figures.sheets import build_sheets
from dtr.support.errors import Refusal
from dtr.support.files import canonical_json, read_json, write_text
from tests.synthetic_results import (
    TABLE1_RUNS,
    write_control,
    write_evaluation,
    write_everything,
    write_metrics,
    write_samples,
    write_throughput,
    write_training,
)

VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """Collects what the tests ask about, and checks that tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: Counter[str] = Counter()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if (name := dict(attrs).get("id")) is not None:
            self.ids[name] += 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


def check_page(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open
    assert not {name: count for name, count in page.ids.items() if count > 1}
    for tag, attrs in page.tags:
        for name in ("src", "href", "xlink:href"):
            target = attrs.get(name) or ""
            if target.startswith("#"):
                assert target[1:] in page.ids, target
            elif target and not target.startswith(("data:", "https://arxiv.org/")):
                assert (path.parent / target).exists(), (tag, target)
        if tag == "img":
            assert attrs["alt"]
        if tag == "th":
            assert attrs["scope"] in ("row", "col", "colgroup")
        if tag == "svg":
            assert attrs["role"] == "img" and attrs["aria-label"]
    assert "@import" not in text and "url(http" not in text
    assert len(text) < 15_000_000
    return text


def test_the_page_builds_from_nothing(scale: Scale) -> None:
    path = html.build_report(scale)
    assert path == Path(scale.results) / "now" / "report" / "index.html"
    assert [path.name for path in Path(scale.results).iterdir()] == ["now"]
    text = check_page(path)
    assert "MNIST digits" in text and "direction only" in text
    assert text.count('class="paper-table"') == 8
    assert re.search(r"<b>0</b> are measured", text)


def test_the_page_builds_from_everything(scale: Scale) -> None:
    write_everything(scale)
    text = check_page(html.build_report(scale))
    assert re.search(r"<b>53</b> are measured", text)
    assert text.count('class="strip"') == len(TABLE1_RUNS) + 3  # three on the first screen
    assert "fid@digits-cnn" in text and "Synthetic CPU" in text and "0123456789" in text
    now = Path(scale.results) / "now"
    assert (now / "figures/figure2.png").is_file()
    assert {path.name for path in (now / "report").glob("*.png")} >= {
        "training.png",
        "samples-in256-l2-none-step1000.png",
    }


def write_declared(scale: Scale) -> set[Path]:
    """Stand-ins for what the jobs of the workflow write before the page."""
    places = Places(scale.results)
    files = [*places.beside(places.claims(), ".csv", ".md", ".json")]
    for table in TABLES:
        if table in scale.targets:
            files += places.beside(places.table(table), ".csv", ".md", ".tex")
    for figure in FIGURES:
        if figure in scale.targets:
            files += places.beside(places.figure(figure), ".svg", ".png", ".pdf")
    for file in files:
        write_text(file, "declared")
    return {Path(file) for file in files}


@pytest.mark.parametrize("targets", [["table1"], ["table1", "figure2", "figure5"]])
def test_the_finished_page_writes_no_declared_file_but_itself(
    scale: Scale, targets: list[str]
) -> None:
    scale = scale.model_copy(update={"targets": targets})
    write_everything(scale)
    declared = write_declared(scale)
    before = {path for path in Path(scale.results).rglob("*") if path.is_file()}
    page = html.build_page(scale)
    text = check_page(page)
    assert page == Path(scale.results) / "report" / "index.html"
    assert {path.read_text() for path in declared} == {"declared"}
    made = {path for path in Path(scale.results).rglob("*") if path.is_file()} - before
    assert {path.parent for path in made} == {page.parent}
    assert {path.stem for path in made} >= {"index", "overlap", "training"}
    assert not any(path.stem.startswith("figure") for path in made)
    assert 'href="../tables/table1.csv"' in text and 'href="../tables/table2.csv"' not in text
    assert ('href="../figures/figure2.svg"' in text) == ("figure2" in targets)


def test_links_to_records_lead_there_from_both_pages(scale: Scale) -> None:
    write_everything(scale)
    write_declared(scale)
    for page, prefix in ((html.build_report(scale), "../.."), (html.build_page(scale), "..")):
        assert f'href="{prefix}/runs/in256-l2-none/seed0' in check_page(page)


def test_the_page_survives_damage_and_divergence_and_says_so(scale: Scale) -> None:
    write_everything(scale)
    write_metrics(scale, "in256-l2-rtr", status="diverged", reason="loss <nan>", metrics=[])
    write_training(scale, "in256-l2-none").write_text('{"run"', encoding="utf-8")
    write_metrics(scale, "in256-l2-none").write_text("", encoding="utf-8")
    (shard,) = Path(scale.results).glob("runs/ffhq256-b2-none/*/*/samples/*/shard-0.npz")
    shard.write_bytes(b"PK damaged")
    text = check_page(html.build_report(scale))
    assert "loss &lt;nan&gt;" in text and ">diverged<" in text and ">broken<" in text
    assert "Records that are not used" in text
    assert text.count('class="strip"') == len(TABLE1_RUNS) - 1 + 3  # three on the first screen


def test_building_again_gives_the_same_page(scale: Scale) -> None:
    write_everything(scale)
    first = html.build_report(scale).read_bytes()
    assert html.build_report(scale).read_bytes() == first


def test_missing_sources_are_refused_by_name(
    scale: Scale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "SOURCES", tmp_path)
    with pytest.raises(Refusal, match=r"page\.html\.j2: missing"):
        html.build_report(scale)


def test_a_training_says_what_its_parts_from_outside_were(scale: Scale) -> None:
    path = write_training(scale, "in256-l2-none")
    settings = read_json(path)["settings"]
    settings["routing"] = {"type": "methods/checker.py:table", "beta": 0.5, "width": 3}
    settings["weighting"] = {"type": "theirs", "power": 2}
    write_training(
        scale,
        "in256-l2-none",
        settings=settings,
        sources={"routing": "0123456789abcdef", "weighting": "fedcba9876543210"},
        parts={"routing": "of the mask table", "weighting": "version 7"},
    )
    write_training(scale, "in256-l2-dtr-a4")
    text = check_page(html.build_report(scale))
    said = re.findall(r'<span class="part">(.*?)</span>', text)
    assert said == [
        "routing methods/checker.py:table, beta 0.5, width 3, source 0123456789",
        "weighting theirs, power 2, source fedcba9876, version 7",
    ]


def test_a_figure_whose_models_all_failed_is_blank_and_an_early_one_refused(
    whole: Scale, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that a failed model does not keep the page of a finished scale from being made."""
    verb = ["figure", "--only", "figure4", "--settings", canonical_json(whole.plain())]
    wanted = evaluations_for(whole, "figure4")
    for evaluation in wanted[1:]:
        write_evaluation(whole, evaluation, status="failed", reason="no", metrics=[])
    assert main(verb) == 2
    assert "--only figure4: there are no records to draw it from yet" in capsys.readouterr().err
    write_evaluation(whole, wanted[0], status="failed", reason="no", metrics=[])
    assert main(verb) == 0
    svg = (Path(whole.results) / "now/figures/figure4.svg").read_text(encoding="utf-8")
    assert "No model of this figure has a value" in svg


def test_the_overview_says_how_long_sampling_took_as_far_as_known(scale: Scale) -> None:
    def said() -> str:
        page = html.environment().from_string(
            '{% import "macros.html.j2" as macros %}{{ macros.durations(spent) }}'
        )
        return " ".join(page.render(spent=html._overview(scale, Records(scale))["spent"]).split())

    assert "0 s of drawing samples" in said()
    write_control(scale, "class_conditional")  # draws none
    for run in ("in256-l2-none", "in256-l2-rtr"):
        write_metrics(scale, run, sampling_seconds=50.0)
    assert said() == ("0 s of training, 1 min 40 s of drawing samples, 36 s of computing metrics")
    write_metrics(scale, "in256-l2-rtr", sampling_seconds=math.nan)
    assert "50 s of drawing samples (1 of 2 models not timed), 36 s" in said()
    write_metrics(scale, "in256-l2-none", sampling_seconds=math.nan)
    assert said().endswith("36 s of computing metrics; drawing samples was not timed")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(42.4, "42 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (float("nan"), "unknown")],
)
def test_durations(seconds: float, said: str) -> None:
    assert html.duration(seconds) == said


def test_sheets_show_the_same_indices_two_of_each_class(scale: Scale, tmp_path: Path) -> None:
    for run, shade in (("in256-l2-none", 250), ("in256-l2-dtr-a4", 100)):
        write_samples(scale, run, shade=shade)
    (sheet,) = build_sheets(Records(scale), tmp_path)
    assert sheet.labels == [str(digit) for digit in (*range(10), *range(10))]
    assert [strip.run for strip in sheet.strips] == ["in256-l2-none", "in256-l2-dtr-a4"]
    first, second = (
        np.asarray(Image.open(tmp_path / f"samples-{strip.run}-step1000.png"))
        for strip in sheet.strips
    )
    assert first.shape == (2 * 33 - 1, 10 * 33 - 1, 3)
    assert np.array_equal(first == 250, second == 100)  # the same discs in other shades


def test_deviations_tell_what_was_recorded(whole: Scale) -> None:
    planned = read(html.build_report(whole))
    assert "batches of 1 (256 on eight GPUs in the paper) on cpu with 2 CPU threads" in planned
    write_throughput(whole, "DiT-S/2", threads=7, batch_size=3)
    recorded = read(html.build_report(whole))
    assert "batches of 3 (256 on eight GPUs in the paper) on cpu with 7 CPU threads" in recorded


def read(page: Path) -> str:
    return " ".join(page.read_text(encoding="utf-8").split())
