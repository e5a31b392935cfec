"""Figures show what the records say, nothing else, and stay small and readable on the page."""

import json
import re
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.colors import to_hex, to_rgb
from seaborn import color_palette

from dtr.config.checks import load_scale
from dtr.config.resolve import training_steps
from dtr.config.scale import Scale
from dtr.planning.runs import selected_runs
from dtr.records.table import Records
from dtr.reporting.figures import style
from dtr.reporting.figures.draw import FIGURE_NAMES, Picture, build_figures, draw_figure
from dtr.reporting.figures.quality import convergence_figure, guidance_figure, ratio_figure
from dtr.reporting.figures.similarity import overlap_figure, similarity_figure
from dtr.reporting.figures.training import ALL_POINTS, MAIN, over_seeds, training_figure
from dtr.support.errors import Refusal
from tests.synthetic_figures import COMPARED, change_settings, lines_of, value_for
from tests.synthetic_results import (
    write_cka,
    write_target,
    write_training,
)

ALWAYS = ["figure2", "overlap"]  # they need no record
PALETTES = (style.COLOURS, style.WEIGHTING_COLOURS, style.SIZE_COLOURS)


def names_drawn(scale: Scale, folder: Path) -> list[str]:
    return [
        picture.name for picture in build_figures(Records(scale), figures=folder, others=folder)
    ]


def test_without_records_only_the_masks_are_drawn(whole: Scale, tmp_path: Path) -> None:
    assert names_drawn(whole, tmp_path / "figures") == ALWAYS
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        f"{name}.{suffix}" for name in ALWAYS for suffix in ("png", "pdf", "svg")
    }


def test_an_unknown_figure_is_refused(whole: Scale, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"figure 'figure7': unknown; known: figure2, figure3"):
        draw_figure("figure7", Records(whole), tmp_path)


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
