"""Values of the paper's own protocol compare in size; tables say whose reference they compare."""

import math
from pathlib import Path

import pytest
import yaml

from dtr.config.checks import load_scale
from dtr.config.scale import Scale
from dtr.records.table import Records
from dtr.reporting import html
from dtr.reporting.listings import measurements
from dtr.reporting.tables.build import build_tables
from dtr.reporting.tables.cells import Cell
from dtr.reporting.tables.formats import to_csv, to_latex, to_markdown
from dtr.reporting.tables.sizes import Difference, comparable, difference
from dtr.reporting.tables.table import Table, size_summary
from dtr.support.files import read_json, write_json
from tests.synthetic_results import write_control, write_metrics, write_target

FFHQ, IMAGENET = "ffhq256-b2-dtr-a4", "in256-l2-dtr-a4"
COMPUTED = {"computed": "ffhq256", "count": 70_000, "images": 10_000, "dataset_hash": "d" * 64}
PUBLISHED = {"published": "VIRTUAL_imagenet256_labeled.npz", "sha256": "a" * 64, "images": 10_000}


@pytest.fixture(scope="module")
def paper_yaml(root: Path) -> dict:
    return yaml.safe_load((root / "workflow/config/paper.yaml").read_text(encoding="utf-8"))


def changed(content: dict, tmp_path: Path, **changes: object) -> Scale:
    """The paper's scale with some keys "slots.unconditional.steps" in other ways."""
    value = yaml.safe_load(yaml.safe_dump(content)) | {"results": str(tmp_path / "results")}
    for place, new in changes.items():
        *folders, last = place.split("__")
        part = value
        for name in folders:
            part = part[name]
        part[last] = new
    return load_scale(value, source="paper.yaml")


@pytest.fixture
def paper(paper_yaml: dict, tmp_path: Path) -> Scale:
    return changed(paper_yaml, tmp_path)


def tables_of(scale: Scale) -> dict[str, Table]:
    return {table.name: table for table in build_tables(scale, Records(scale))}


def cell_of(table: Table, run: str, metric: str = "fid") -> Cell:
    cells = [cell for row in table.rows for cell in row.cells]
    return next(cell for cell in cells if (cell.run, cell.metric) == (run, metric))


@pytest.mark.parametrize(
    ("value", "seeds", "share", "strength", "near"),
    [
        (7.32, 1, 0.0, 0.0, True),
        # 0.1 / (0.013 sqrt(7.42^2 + 7.32^2)), and with a quarter of the first variance.
        (7.42, 1, 0.1 / 7.32, 0.1 / (0.013 * math.hypot(7.42, 7.32)), True),
        (7.42, 4, 0.1 / 7.32, 0.1 / (0.013 * math.hypot(3.71, 7.32)), True),
        (8.00, 1, 0.68 / 7.32, 0.68 / (0.013 * math.hypot(8.0, 7.32)), False),
        (7.00, 1, -0.32 / 7.32, -0.32 / (0.013 * math.hypot(7.0, 7.32)), False),
    ],
)
def test_a_difference_in_standard_deviations_of_retraining(value, seeds, share, strength, near):
    found = difference("fid", value, 7.32, seeds)
    assert found.share == pytest.approx(share) and found.strength == pytest.approx(strength)
    assert found.near is near


def test_only_the_noise_of_fid_is_known():
    found = difference("recall", 0.46, 0.51, 1)
    assert (found.strength, found.near, found.text) == (None, False, "−9.8 %")
    assert difference("fid", 3.0, math.nan, 1) is None
    assert difference("fid", 0.0, 3.0, 1) is None


def test_the_papers_own_protocol_compares_in_size(paper: Scale) -> None:
    write_metrics(paper, FFHQ, fid=7.42)
    write_metrics(paper, IMAGENET, fid=9.79, inception_score=156.48, recall=0.46)
    table = tables_of(paper)["table1"]
    near, far = cell_of(table, FFHQ), cell_of(table, IMAGENET)
    assert (near.difference.text, far.difference.text) == ("+1.4 % ≈", "+10.0 %")
    assert "+1.4 % of the paper's value, 0.7 standard deviations of retraining: within the noise " \
        "of one seed" in near.details  # fmt: skip
    assert "+10.0 % of the paper's value, 5.2 standard deviations of retraining" in far.details
    assert cell_of(table, IMAGENET, "inception_score").difference.text == "+0.0 %"
    assert cell_of(table, IMAGENET, "recall").difference.text == "−9.8 %"
    text = to_markdown(table)
    assert "7.32** / 7.42 [7.05, 7.79] (+1.4 % ≈)" in text
    assert "1.3 % of each FID" in text
    assert r"(+1.4 \% $\approx$)" in to_latex(table)
    assert size_summary([table, table]) == (
        "FID compares in size with the paper’s for 2 models: 1 within the noise of one seed of "
        "the paper’s value, 1 beyond it (+10.0 %)."
    )


def test_several_seeds_narrow_the_noise(paper_yaml: dict, tmp_path: Path) -> None:
    scale = changed(paper_yaml, tmp_path, seeds=[0, 1, 2, 3])
    for seed in scale.seeds:
        write_metrics(scale, FFHQ, seed=seed, fid=7.42)
    found = cell_of(tables_of(scale)["table1"], FFHQ).difference
    assert found.strength == pytest.approx(0.1 / (0.013 * math.hypot(3.71, 7.32)))


def test_controls_and_unknown_values_have_no_difference(paper: Scale) -> None:
    write_control(paper, "unconditional", fid=0.4)
    write_metrics(paper, "ffhq256-b2-none", step=0, fid=300.0)
    write_metrics(paper, FFHQ, fid=7.42)
    table = tables_of(paper)["table1"]
    found = [(row.kind, cell.run) for row in table.rows for cell in row.cells if cell.difference]
    assert found == [("paper", FFHQ)]


CLOSE = {  # each one step from the paper, and which of two runs still compares
    "seeds": ([0, 1, 2], True),
    "datasets__ffhq256__path": ("elsewhere.zip", True),
    "training__precision": ("float32", True),
    "extractors__inception__batch": (8, True),
    "extractors__inception": ({"type": "inception_clean", "download": True}, True),
    "execution__accumulation": (2, True),
    "evaluation__kid_subset": (500, True),
    "evaluation__n_samples": (10_000, False),
    "evaluation__sampling_steps": (50, False),
    "evaluation__neighbours": (5, False),
    "training__batch_size": (128, False),
    "training__ema_decay": (0.999, False),
    "slots__unconditional__steps": (50_000, False),
    "slots__unconditional__extractor": ("inception-pytorch", False),
    "datasets__ffhq256__expected": (1000, False),
    "datasets__ffhq256__resolution": (128, False),
    "autoencoders__sd-vae__scale_factor": (0.2, False),
    "extractors__inception__dims": (192, False),
    "extractors__inception__rehearsal": (True, False),
    "references__ffhq256__images": (5000, False),
    "routing__beta": (0.5, False),
    "rehearsal": (True, False),
}


@pytest.mark.parametrize("place", CLOSE)
def test_what_keeps_values_comparable(paper_yaml: dict, tmp_path: Path, place: str) -> None:
    value, expected = CLOSE[place]
    scale = changed(paper_yaml, tmp_path, **{place: value})
    assert comparable(scale, "table1", "unconditional", FFHQ) is expected


def test_a_reference_of_ones_own_in_place_of_the_published_compares_in_direction_only(
    paper_yaml: dict, tmp_path: Path
) -> None:
    own = {"dataset": "imagenet256"}
    scale = changed(paper_yaml, tmp_path, references__imagenet256=own)
    assert not comparable(scale, "table1", "class_conditional", IMAGENET)
    assert comparable(scale, "table1", "unconditional", FFHQ)


def test_fewer_samples_compare_where_the_paper_takes_fewer(
    paper_yaml: dict, tmp_path: Path
) -> None:
    scale = changed(paper_yaml, tmp_path, evaluation__n_samples=20_000)
    assert comparable(scale, "table2_ffhq", "unconditional", FFHQ)
    assert not comparable(scale, "table1", "unconditional", FFHQ)


def test_experts_compare_if_all_of_them_do(paper: Scale) -> None:
    names = [f"in256-b2-expert{quarter}" for quarter in range(4)]
    assert comparable(paper, "table6", "class_conditional", "+".join(names))
    assert not comparable(paper, "table6", "class_conditional", "+".join([*names, "my-own"]))


def test_other_scales_never_compare_in_size(
    grid: dict, root: Path, tmp_path: Path, paper_yaml: dict
) -> None:
    digits = load_scale(grid | {"results": str(tmp_path / "digits")}, source="digits.yaml")
    text = (root / "workflow/config/workstation.yaml").read_text(encoding="utf-8")
    own = yaml.safe_load(text) | {"results": str(tmp_path / "workstation")}
    rehearsal = changed(paper_yaml, tmp_path, rehearsal=True)
    for scale in (digits, load_scale(own, source="workstation.yaml"), rehearsal):
        assert write_target(scale, "table1", lambda _: {"fid": 7.32})
        table = tables_of(scale)["table1"]
        assert table.counts()["measured"] and not table.differences()
        assert "≈" not in to_markdown(table) and size_summary([table]) == ""


def headings(table: Table) -> dict[str, str]:
    return {column.measured_as: column.computed for column in table.columns}


def test_a_column_says_that_its_reference_was_computed_here(paper: Scale) -> None:
    write_metrics(paper, FFHQ, reference=COMPUTED)
    write_metrics(paper, IMAGENET, reference=PUBLISHED)
    table = tables_of(paper)["table1"]
    text, latex = to_markdown(table), to_latex(table)
    said = "FID ↓ / fid@inception, reference computed here"
    assert f"FFHQ 256 {said}" in text and f"FFHQ 64 {said}" in text
    assert "ImageNet 256 FID ↓ / fid@inception |" in text  # that one is published
    assert "FID $\\downarrow$ / fid@inception, reference computed here" in latex
    note = "values of ffhq256, ffhq64 compare with statistics of all training images that the"
    assert note in text and note in latex
    cell, other = cell_of(table, FFHQ), cell_of(table, IMAGENET)
    assert cell.reason == "reference statistics computed here from 70,000 training images"
    assert cell.reason in cell.details and cell.reason in to_csv(table) and other.reason == ""


def test_a_score_without_reference_does_not_say_so(paper_yaml: dict, tmp_path: Path) -> None:
    own = {"dataset": "imagenet256"}
    scale = changed(paper_yaml, tmp_path, references__imagenet256=own)
    write_metrics(scale, IMAGENET, reference=COMPUTED | {"count": 1_281_167})
    table = tables_of(scale)["table5"]
    assert {name: bool(said) for name, said in headings(table).items()} == {
        "fid@inception": True,
        "inception_score@inception": False,
        "precision@inception": True,
        "recall@inception": True,
    }
    assert cell_of(table, IMAGENET, "inception_score").reason == ""
    assert "1,281,167 training images" in cell_of(table, IMAGENET, "precision").reason


def test_measured_values_say_it_by_their_own_records(paper: Scale) -> None:
    write_metrics(paper, FFHQ, reference=COMPUTED)
    (alone,) = measurements(Records(paper))
    assert alone["computed"]
    write_metrics(paper, "ffhq256-b2-none")  # an older record does not know
    (mixed,) = measurements(Records(paper))
    assert not mixed["computed"]
    assert {row["run"]: row["computed"] for row in mixed["rows"]} == {
        FFHQ: True,
        "ffhq256-b2-none": False,
    }


def test_the_page_says_both(paper: Scale) -> None:
    write_metrics(paper, FFHQ, fid=7.42, reference=COMPUTED)
    write_metrics(paper, "ffhq256-b2-none", fid=12.0)
    page = html.build_report(paper).read_text(encoding="utf-8")
    assert '<span class="interval">+1.4 % ≈</span>' in page
    assert "FID compares in size with the paper" in page
    assert page.count("features of inception<br>reference computed here") >= 4  # of four tables
    assert "values of ffhq256, ffhq64 compare with statistics of all training images" in page
    assert '<span class="interval">reference computed here</span>' in page


def test_the_control_of_statistics_says_what_it_compares(paper: Scale) -> None:
    path = write_control(paper, "unconditional", fid=0.4)
    write_json(path, read_json(path) | {"reference": COMPUTED})
    table = tables_of(paper)["table1"]
    real = table.rows[-2].cells[0]
    assert real.status == "measured" and "the other real images" not in real.reason
    said = "images of the reference, measured against the statistics of all of its images"
    assert said in real.reason and f"Real against real images: {said}." in to_markdown(table)


def test_a_control_that_cannot_be_computed_is_no_failure(paper: Scale) -> None:
    reason = "the reference of this slot, coco.npz, consists of statistics without images"
    path = write_control(paper, "text_conditional")
    changes = {"status": "unmeasurable", "reason": reason, "metrics": []}
    write_json(path, read_json(path) | changes)
    table = tables_of(paper)["table1"]
    index = [column.group.slot for column in table.columns].index("text_conditional")
    real = table.rows[-2].cells[index]
    assert (real.status, real.reason) == ("unmeasurable", reason)
    assert f"unmeasurable: {reason} (cells: 1)." in to_markdown(table)


def test_at_digits_no_column_says_more_than_before(whole: Scale) -> None:
    write_metrics(whole, IMAGENET)
    for table in tables_of(whole).values():
        assert not any(column.computed for column in table.columns)
        assert "reference" not in to_markdown(table) + to_latex(table)


def test_the_text_of_a_difference() -> None:
    assert Difference(0.02, 1.99).text == "+2.0 % ≈" and Difference(-0.2, -9.0).text == "−20.0 %"
