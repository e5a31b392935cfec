"""Figures 3 to 5: quality over guidance, ratio and training."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dtr.config.checks import load_scale
from dtr.config.scale import Scale
from dtr.planning.evaluations import evaluations_for
from dtr.records.table import Records
from dtr.reporting.figures.draw import Picture, draw_figure
from dtr.reporting.figures.quality import convergence_figure, guidance_figure, ratio_figure
from dtr.reporting.published import value_of
from tests.synthetic_figures import COMPARED, lines_of, value_for
from tests.synthetic_results import (
    write_evaluation,
    write_target,
)


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
