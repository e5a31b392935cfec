"""Figures show what the records say, nothing else, and stay small and readable on the page."""

import json
import re
from collections import Counter
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from seaborn import color_palette

from dtr.config.checks import load_scale
from dtr.config.resolve import training_steps
from dtr.config.scale import Scale
from dtr.experiments import RUNS
from dtr.planning.evaluations import Evaluation, evaluations_for
from dtr.planning.runs import selected_runs
from dtr.records.table import Records
from dtr.reporting.figures import style
from dtr.reporting.figures.draw import FIGURE_NAMES, Picture, build_figures, draw_figure
from dtr.reporting.figures.quality import convergence_figure, guidance_figure, ratio_figure
from dtr.reporting.figures.similarity import overlap_figure, similarity_figure
from dtr.reporting.figures.training import ALL_POINTS, MAIN, over_seeds, training_figure
from dtr.reporting.published import value_of
from dtr.support.errors import Refusal
from tests.synthetic_results import (
    write_cka,
    write_evaluation,
    write_target,
    write_training,
)

COMPARED = ("ffhq256-b2-none", "ffhq256-b2-rtr", "ffhq256-b2-dtr-a4")
ALWAYS = ["figure2", "overlap"]  # they need no record
PALETTES = (style.COLOURS, style.WEIGHTING_COLOURS, style.SIZE_COLOURS)


def value_for(evaluation: Evaluation) -> dict[str, float]:
    """A FID that differs for every run, step and guidance."""
    place = [run.id for run in RUNS].index(evaluation.name)
    fid = 4 + place / 10 + 1000 / max(1, evaluation.step)
    return {"fid": fid + (evaluation.protocol.guidance or 0) + evaluation.seed / 100}


def lines_of(axis: Axes) -> list[tuple[list[float], list[float]]]:
    """x and y of every line with markers."""
    return [
        (list(line.get_xdata()), list(line.get_ydata()))
        for line in axis.lines
        if line.get_marker() not in ("None", "")
    ]


def names_drawn(scale: Scale, folder: Path) -> list[str]:
    return [
        picture.name for picture in build_figures(Records(scale), figures=folder, others=folder)
    ]


def change_settings(path: Path) -> None:
    """Make a model look as if it had been trained with another batch size."""
    record = json.loads(path.read_text(encoding="utf-8"))
    record["settings"]["training"]["batch_size"] += 1
    path.write_text(json.dumps(record), encoding="utf-8")


def test_without_records_only_the_masks_are_drawn(whole: Scale, tmp_path: Path) -> None:
    assert names_drawn(whole, tmp_path / "figures") == ALWAYS
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        f"{name}.{suffix}" for name in ALWAYS for suffix in ("png", "pdf", "svg")
    }


@pytest.mark.parametrize("name", ["figure3", "figure4", "figure5"])
def test_a_quality_figure_is_drawn_with_its_first_point(
    whole: Scale, tmp_path: Path, name: str
) -> None:
    assert draw_figure(name, Records(whole), tmp_path) is None
    wanted = evaluations_for(whole, name)[0]
    path = write_evaluation(whole, wanted, status="failed", reason="no", metrics=[])
    assert draw_figure(name, Records(whole), tmp_path) is None
    path.write_text("{", encoding="utf-8")
    assert draw_figure(name, Records(whole), tmp_path) is None
    assert list(tmp_path.glob("*.png")) == []
    write_evaluation(whole, wanted)
    picture = draw_figure(name, Records(whole), tmp_path)
    assert isinstance(picture, Picture) and "3.50" in picture.alt
    assert {path.name for path in tmp_path.glob("fig*")} == {
        f"{name}.png",
        f"{name}.pdf",
        f"{name}.svg",
    }


def test_an_unknown_figure_is_refused(whole: Scale, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"figure 'figure7': unknown; known: figure2, figure3"):
        draw_figure("figure7", Records(whole), tmp_path)


def test_figure3_shows_every_metric_over_guidance_and_the_papers_points_apart(
    whole: Scale,
) -> None:
    write_target(whole, "figure3", value_for)
    figure, alt = guidance_figure(Records(whole))
    here, paper = figure.subfigs
    sweep = whole.evaluation.guidance_sweep
    expected = {}
    for evaluation in evaluations_for(whole, "figure3"):
        expected.setdefault(evaluation.name, []).append(value_for(evaluation)["fid"])
    assert [axis.get_ylabel() for axis in here.axes] == ["FID ↓", "IS ↑", "Precision ↑", "Recall ↑"]
    drawn = lines_of(here.axes[0])
    assert sorted(drawn) == sorted((sweep, values) for values in expected.values())
    assert len(drawn) == 6
    digitised = lines_of(paper.axes[0])
    assert len(digitised) == 6 and not set(map(str, digitised)) & set(map(str, drawn))
    plain = value_of("figure3", "in256-l2-none", "fid")["value"]
    assert plain in [values[0] for _, values in digitised]
    assert sum(np.isnan(values).sum() for _, values in lines_of(paper.axes[3])) > 0  # unknown
    assert "digitised" in paper._suptitle.get_text()
    dashes = Counter(line.get_linestyle() for line in here.axes[0].lines)
    assert dashes == {"--": 3, "-": 3}
    assert len({line.get_color() for line in here.axes[0].lines}) == 3
    best = min(expected["in256-l2-dtr-a4"])
    assert f"DTR {best:.2f} at guidance 1" in alt


def test_figure4_joins_both_routings_with_the_unrouted_baseline(whole: Scale) -> None:
    shown = write_target(whole, "figure4", value_for)
    values = {evaluation.name: value_for(evaluation)["fid"] for evaluation in shown}
    figure, alt = ratio_figure(Records(whole))
    here, paper = figure.axes
    baseline = values["ffhq256-b2-none"]
    ratios = [0.2, 0.4, 0.6, 0.8, 1.0]
    for line, name in zip(lines_of(here)[:2], ("rtr", "dtr-a4"), strict=True):
        method = [values[f"ffhq256-b2-{name}-b{beta}"] for beta in (0.2, 0.4, 0.6)]
        assert line == (ratios, [*method, values[f"ffhq256-b2-{name}"], baseline])
    assert lines_of(here)[2] == ([1.0], [baseline])
    labels = [text.get_text() for text in here.get_legend().get_texts()]
    assert labels == ["R-TR", "DTR (α = 4)", "no routing (β = 1)"]
    known = {y for _, ys in lines_of(paper) for y in ys if not np.isnan(y)}
    assert known == {value_of("figure4", name, "fid")["value"] for name in COMPARED}
    assert {line.get_linestyle() for line in paper.lines[:2]} == {"None"}  # points are not joined
    assert f"no routing {baseline:.2f} at beta 1" in alt


def test_figure5_shows_sizes_and_weightings_over_training(whole: Scale) -> None:
    write_target(whole, "figure5", value_for)
    figure, _ = convergence_figure(Records(whole))
    left, right, paper = figure.axes
    steps = [250, 500, 750, 1000]
    assert len(lines_of(left)) == len(lines_of(right)) == 6
    assert {tuple(xs) for axis in (left, right) for xs, _ in lines_of(axis)} == {tuple(steps)}
    shown = evaluations_for(whole, "figure5")
    small = [value_for(own)["fid"] for own in shown if own.name == "in256-s2-dtr-a4"]
    assert (steps, small) in lines_of(left) and (steps, small) not in lines_of(right)
    assert sorted(point for xs, ys in lines_of(paper) for point in zip(xs, ys, strict=True)) == [
        (200_000, 31.0),
        (400_000, 31.0),
    ]


def test_figure5_uses_the_reduced_protocol_only(grid: dict, tmp_path: Path) -> None:
    grid["evaluation"]["n_samples_reduced"] = 500
    scale = load_scale(grid | {"results": str(tmp_path)}, source="digits.yaml")
    write_target(scale, "table1", value_for)
    assert convergence_figure(Records(scale)) is None
    write_target(scale, "figure5", value_for)
    figure, _ = convergence_figure(Records(scale))
    assert "n = 500" in figure.get_supxlabel() and "n500-" in figure.get_supxlabel()


def test_several_seeds_are_a_mean_within_their_range(grid: dict, tmp_path: Path) -> None:
    settings = grid | {"results": str(tmp_path), "seeds": [0, 4]}
    scale = load_scale(settings, source="digits.yaml")
    write_target(scale, "figure4", value_for)
    here = ratio_figure(Records(scale))[0]
    axis = here.axes[0]
    low, _, high = (
        value_for(own)["fid"] + shift
        for own in evaluations_for(scale, "figure4")[:1]
        for shift in (0.0, 0.02, 0.04)
    )
    assert lines_of(axis)[2] == ([1.0], [pytest.approx((low + high) / 2)])
    bounds = axis.collections[0].get_paths()[0].vertices
    at_one = bounds[bounds[:, 0] == 1.0, 1]
    assert {round(y, 6) for y in at_one} == {round(low, 6), round(high, 6)}
    assert "seeds 0, 4" in here.get_supxlabel() and "range over 2 seeds" in here.get_supxlabel()


def test_the_interval_of_one_seed_is_that_of_its_record(whole: Scale) -> None:
    (wanted, *_) = evaluations_for(whole, "figure5")
    write_evaluation(whole, wanted, fid=10.0)
    figure, _ = convergence_figure(Records(whole))
    (interval,) = figure.axes[0].collections[-1].get_segments()
    assert interval.tolist() == [[wanted.step, 9.5], [wanted.step, 10.5]]
    assert "bootstrap interval of one seed" in figure.get_supxlabel()


def test_outdated_models_are_drawn_nowhere(whole: Scale) -> None:
    for name in ("figure3", "figure4", "figure5"):
        write_target(whole, name, value_for)
    for run in COMPARED:
        write_cka(whole, run, level=0.5)
    for name in ("ffhq256-b2-rtr", "in256-l2-none"):
        change_settings(write_training(whole, name))
    write_training(whole, "ffhq256-b2-none")
    records = Records(whole)
    figure, alt = similarity_figure(records)
    assert "R-TR" not in alt and len(figure.axes) == 2 * 4 + 1
    lines = {line.get_label(): line for line in ratio_figure(records)[0].axes[0].lines}
    assert list(lines["R-TR"].get_xdata()) == [0.2, 0.4, 0.6, 1.0]
    assert len(lines_of(guidance_figure(records)[0].subfigs[0].axes[0])) == 5
    assert [xs for xs, _ in lines_of(convergence_figure(records)[0].axes[0])].count(
        [250, 500, 750]
    ) == 1  # of in256-l2-none only its last step was trained otherwise
    assert len(training_figure(records)[0].axes) == 1


def test_figure6_shows_the_matrices_of_the_first_seed(whole: Scale) -> None:
    assert similarity_figure(Records(whole)) is None
    for level, run in zip((0.4, 0.6, 0.5), COMPARED, strict=True):
        write_cka(whole, run, level=level)
        write_cka(whole, run, level=0.9, seed=1)
    write_cka(whole, "ffhq256-b2-dtr-a1", level=0.5)  # not compared
    figure, alt = similarity_figure(Records(whole))
    *panels, bar = figure.axes
    assert len(panels) == 12 and bar.get_ylabel() == "CKA, unbiased"
    assert [panel.get_ylabel().split("\n")[0] for panel in panels[::4]] == [
        "no routing",
        "R-TR",
        "DTR",
    ]
    records = Records(whole)
    for row, run in enumerate(COMPARED):
        for column, block in enumerate(records.cka[run, 0].blocks):
            image = panels[4 * row + column].images[0]
            assert np.array_equal(image.get_array(), block.unbiased)
            assert image.get_clim() == (0, 1) and image.origin == "lower"
    pairs = np.array(records.cka[COMPARED[1], 0].blocks[0].unbiased)
    mean = pairs[~np.eye(21, dtype=bool)].mean()
    assert panels[4].get_title(loc="right") == f"{mean:.2f}" and f"R-TR {mean:.2f}" in alt
    assert [label.get_text() for label in panels[8].get_xticklabels()][::4] == ["0", "999"]


def test_figure6_leaves_out_what_cannot_be_compared(whole: Scale, tmp_path: Path) -> None:
    write_cka(whole, COMPARED[0], level=0.4, status="diverged", blocks=[])
    write_cka(whole, COMPARED[1], level=0.4, step=7)
    assert similarity_figure(Records(whole)) is None
    path = write_cka(whole, COMPARED[2], level=-0.2)
    record = json.loads(path.read_text(encoding="utf-8"))
    matrix = record["blocks"][0]["unbiased"]
    record["blocks"][0]["unbiased"] = [[None] * len(matrix)] * len(matrix)
    path.write_text(json.dumps(record), encoding="utf-8")
    picture = draw_figure("figure6", Records(whole), tmp_path)  # a block where nothing varies
    assert picture is not None and "DTR nan" in picture.alt


def test_overlap_is_counted_in_the_masks(whole: Scale) -> None:
    figure, alt = overlap_figure(Records(whole))
    left, right = figure.axes
    points = dict(zip(*lines_of(left)[0], strict=True))
    for beta, shared in points.items():
        assert shared == pytest.approx(int(768 * beta) ** 2 / 768, abs=0.3)
    assert points[0.8] == pytest.approx(490.88, abs=0.3) and "Eq. 9 says 490.9" in alt
    for line in right.lines[:2]:  # alpha 1 and 4
        shared = line.get_ydata()
        assert shared[-1] == 614 - 154 and np.all(np.diff(shared) <= 0)
        # 154 shifts of one channel lie between 999 pairs of neighbours.
        assert shared[0] == pytest.approx(614 - 154 / 999)


def test_training_curves_emphasise_table1_and_leave_out_what_compares_with_nothing(
    whole: Scale,
) -> None:
    for run in ("in256-l2-none", "in256-l2-dtr-a4-ant_uw_8", "in256-b2-expert0"):
        write_training(whole, run)
    write_training(whole, "in256-l2-dtr-a4-ant_uw_8-2M")
    figure, alt = training_figure(Records(whole))
    (axis,) = figure.axes
    widths = [line.get_linewidth() for line in axis.lines]
    assert len(widths) == 2 and sorted(widths)[1] == MAIN["linewidth"] > sorted(widths)[0]
    assert axis.get_xlim()[1] < 1100 and "ImageNet 256, 2 lines" in alt


def test_training_curves_are_means_over_seeds_where_all_of_them_have_a_value() -> None:
    own = {"run": "a", "slot": "unconditional", "routing": "dtr", "main": True}
    rows = [(0, 1, 0.5), (0, 2, 0.3), (1, 1, 0.7), (1, 2, 0.1), (1, 3, 0.2)]  # seed, step, mse
    history = pd.DataFrame([own | {"seed": s, "step": t, "mse": mse} for s, t, mse in rows])
    found = over_seeds(history)
    assert found["step"].tolist() == [1, 2]
    assert found["mse"].tolist() == pytest.approx([0.6, 0.2])
    assert found[["low", "high"]].to_numpy().tolist() == [[0.5, 0.7], [0.1, 0.3]]


def test_the_page_stays_small_however_much_is_trained(grid: dict, tmp_path: Path) -> None:
    settings = grid | {"results": str(tmp_path), "seeds": [0, 1]}
    scale = load_scale(settings, source="digits.yaml")
    noise = np.random.default_rng(0)
    for run in selected_runs(scale).values():
        for seed in scale.seeds:
            steps = np.linspace(1, training_steps(scale, run), 160).astype(int).tolist()
            history = [{"step": at, "loss": 1.0, "mse": noise.random(), "vb": 0.1} for at in steps]
            write_training(scale, run.id, seed=seed, history=history)
    for run in COMPARED:
        write_cka(scale, run, level=0.5, depth=12)
    for name in ("figure3", "figure4", "figure5"):
        write_target(scale, name, value_for)
    records = Records(scale)
    figure, _ = training_figure(records)
    assert sum(len(line.get_xdata()) for axis in figure.axes for line in axis.lines) <= ALL_POINTS
    pictures = build_figures(records, figures=tmp_path / "figures", others=tmp_path / "figures")
    drawn = [picture.name for picture in pictures]
    others = ["typical", "noise"]  # need reference results, and more draws of samples
    assert drawn + others == list(FIGURE_NAMES)
    for picture in pictures:
        assert len(picture.svg.encode()) < 400_000, picture.name
    check_page(pictures)


def check_page(pictures: list[Picture]) -> None:
    """Inlined together, ids are unique, links lead somewhere, and only known colours remain."""
    text = "".join(picture.svg for picture in pictures)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids)) > 0
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)
    assert "xlink" not in text and "DejaVu" not in text
    known = {colour for palette in PALETTES for colour in palette.values()}
    colours = set(re.findall(r"(?<=[ :\"])#[0-9a-f]{6}", text))
    lowest = to_hex(color_palette("mako", as_cmap=True)(0.0))  # of values below the colour bar
    assert colours <= known | {*style.OTHER_COLOURS, lowest}, (
        "such a colour would not turn in the dark"
    )
    for variable in style.CURRENT.values():
        assert variable in text
    for picture in pictures:
        assert picture.svg.startswith("<svg") and picture.svg.endswith("</svg>")
        assert picture.alt and 'role="img"' in picture.svg[:200]


def luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize("page", ["#fdfcfa", "#15171b"])
def test_every_colour_stands_out_on_the_light_and_on_the_dark_page(page: str) -> None:
    for palette in (*PALETTES, dict(enumerate(style.OTHER_COLOURS))):
        for name, colour in palette.items():
            light, dark = sorted((luminance(page), luminance(colour)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3, (name, colour)


def test_a_method_of_ones_own_has_a_colour_of_its_own() -> None:
    colours = style.colours_of(style.COLOURS, ["mine", "dtr", "none", "dtr", "yours"])
    assert list(colours) == ["none", "dtr", "mine", "yours"]
    assert len(set(colours.values())) == 4


def test_a_figure_is_the_same_file_every_time(whole: Scale, tmp_path: Path) -> None:
    first = draw_figure("figure2", Records(whole), tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.glob("figure2.*")}
    assert draw_figure("figure2", Records(whole), tmp_path) == first and len(files) == 3
    assert files == {path: path.read_bytes() for path in files}
    assert matplotlib.rcParams["svg.fonttype"] == matplotlib.rcParamsDefault["svg.fonttype"]


def test_every_figure_has_a_caption(root: Path) -> None:
    captions = yaml.safe_load((root / "report/captions.yaml").read_text(encoding="utf-8"))
    assert set(captions["figures"]) == {*FIGURE_NAMES, "claims"}
