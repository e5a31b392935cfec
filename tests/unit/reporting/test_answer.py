"""What the page says first, the power of some seeds, and the second outcome."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dtr.config.scale import Scale
from dtr.experiments import RUNS
from dtr.records.table import Records
from dtr.reporting.claims.answer import answer, lines
from dtr.reporting.claims.judged import build_claims
from dtr.reporting.claims.power import power_table
from dtr.reporting.claims.secondary import error_rows
from dtr.reporting.figures.forest import LIMIT, Line, forest_figure
from tests.synthetic_results import write_metrics, write_training

TABLE1 = [run for run in RUNS if "table1" in run.used_by]
WOBBLE = {0: 1.0, 1: 1.01, 2: 0.99}  # of a seed, shared by all runs
OWN = {"none": (0.0, 0.004, -0.004), "random": (0.003, -0.003, 0.0), "dtr": (-0.002, 0.0, 0.002)}


def measure_table1(scale: Scale, factor: float, *, seeds: int = 3) -> Scale:
    """Every run of Table 1 with FIDs near 4; those with DTR times `factor`."""
    scale = scale.model_copy(update={"seeds": list(range(seeds))})
    for run in TABLE1:
        for seed in scale.seeds:
            write_training(scale, run.id, seed=seed)
            noise = 1 + OWN[run.routing.type][seed]
            fid = 4.0 * WOBBLE[seed] * noise * (factor if run.routing.type == "dtr" else 1)
            write_metrics(scale, run.id, seed=seed, fid=fid)
    return scale


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (0.7, "Yes, at this scale it does"),
        (1.3, "No: at this scale it makes them worse"),
        (1.0, "No: at this scale it makes no difference"),
    ],
)
def test_the_page_answers_its_question(whole: Scale, factor: float, words: str) -> None:
    scale = measure_table1(whole, factor)
    said = answer(build_claims(scale, Records(scale)))
    assert said.startswith(words) and "in the paper by −22.3 %" in said
    change = 100 * (factor - 1)
    assert (
        f"changes by {'+' if change > 0 else '−' if change < 0 else ''}{abs(change):.1f} %" in said
    )


def test_one_seed_gives_no_answer_but_counts_directions(whole: Scale) -> None:
    scale = measure_table1(whole, 0.7, seeds=1)
    said = answer(build_claims(scale, Records(scale)))
    assert said.startswith("One seed cannot tell") and "lower with DTR on 5 of 5 datasets" in said


def test_without_records_nothing_is_said(whole: Scale) -> None:
    found = build_claims(whole, Records(whole))
    assert answer(found) == "Nothing has been measured yet."
    assert lines(found) == [] and forest_figure([]) is None


def test_every_claim_with_an_effect_is_a_line(whole: Scale) -> None:
    scale = measure_table1(whole, 0.7)
    found = {line.title: line for line in lines(build_claims(scale, Records(scale)))}
    one = found["DTR helps on FFHQ 256"]
    assert one.verdict == "reproduced" and one.low < one.value < one.high < 0
    assert one.value == pytest.approx(-30, abs=0.5) and one.expected == pytest.approx(
        -33.4, abs=0.05
    )
    assert 0 < one.detectable < 10
    assert "DTR converges twice as fast" not in found  # the scale says that it is not testable


def test_an_effect_beyond_the_picture_is_an_arrow() -> None:
    line = Line("far", "contradicted", 900.0, 700.0, 1100.0, -24.7, 8.0)
    figure, alt = forest_figure([line])
    (axis,) = figure.axes
    (mark,) = [one for one in axis.lines if one.get_marker() == ">"]
    assert 0.9 * LIMIT < mark.get_xdata()[0] <= LIMIT and "far: +900.0 (contradicted)" in alt


@pytest.mark.parametrize("count", [1, 4, 30])
def test_the_key_stands_below_the_axis_however_many_claims_there_are(count: int) -> None:
    line = Line("one", "inconclusive", -5.0, -9.0, 3.0, -20.0, 12.0)
    figure, _ = forest_figure([line] * count)
    FigureCanvasAgg(figure).draw()
    (axis,), (key,) = figure.axes, figure.legends
    assert key.get_window_extent().y1 <= axis.xaxis.label.get_window_extent().y0
    assert key.get_window_extent().y0 >= 0


def test_power_says_what_the_seeds_can_see_and_cost(whole: Scale) -> None:
    scale = measure_table1(whole, 0.7)
    table = power_table(Records(scale)).set_index("Slot")
    row = table.loc["FFHQ 256"]
    assert row["Seeds"] == "3" and row["Paper %"] == "-33.4"
    assert row["Hours per seed"] == "0.02"  # two trainings of 35 s
    assert float(row["Seen from %"]) < 5 and row["Here %"].startswith("-30")


def test_power_of_one_seed_is_unknown(whole: Scale) -> None:
    scale = measure_table1(whole, 0.7, seeds=1)
    row = power_table(Records(scale)).set_index("Slot").loc["FFHQ 256"]
    assert row["Seeds"] == "fewer than 2" and row["Seen from %"] == "–"


def test_training_errors_are_compared_over_the_second_half(whole: Scale) -> None:
    scale = measure_table1(whole, 1.0, seeds=2)
    rows = {(row.dataset, row.routing): row for row in error_rows(Records(scale))}
    assert len(rows) == 10  # R-TR and DTR on five datasets
    # The made-up histories: 0.2 + 20 / step without DTR, 0.18 + 20 / step with it.
    one = rows["FFHQ 256", "DTR"]
    late = [20 / step for step in range(1025, 2001, 25)]
    plain = 0.2 + sum(late) / len(late)
    assert one.here == pytest.approx((plain - 0.02, plain))
    assert one.effect.percent == pytest.approx(100 * (-0.02 / plain))
    assert rows["FFHQ 256", "R-TR"].effect.percent == pytest.approx(0)


def test_one_seed_has_no_second_outcome(whole: Scale) -> None:
    scale = measure_table1(whole, 1.0, seeds=1)
    assert error_rows(Records(scale)) == []
