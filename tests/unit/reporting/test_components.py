"""Where noise comes from: closed forms, simulation, and the panel from records."""

import math
from pathlib import Path

import numpy as np
import pytest

from dtr.config.scale import Scale
from dtr.planning.evaluations import protocols
from dtr.planning.noise import DRAWS, drawn_protocols, noise_evaluations, noise_records
from dtr.records.reference import collect, compare
from dtr.records.table import Records
from dtr.reporting.claims.components import Components, components, noise_panels, noise_table
from dtr.reporting.figures.noise import noise_figure
from tests.synthetic_results import write_evaluation, write_training

SLOT = "unconditional"


@pytest.fixture
def seeds3(whole: Scale) -> Scale:
    return whole.model_copy(update={"seeds": [0, 1, 2]})


def draw_panel(scale: Scale, *, training: float, sampling: float) -> None:
    """FID with DTR differs by seed times `training` and draw times `sampling`, in logarithms."""
    draws = list(dict.fromkeys(one.protocol.seed for one in noise_evaluations(scale)))
    for one in noise_evaluations(scale):
        if one.slot != SLOT:
            continue
        write_training(scale, one.name, seed=one.seed)
        change = training * one.seed + sampling * draws.index(one.protocol.seed)
        fid = 3.0 * math.exp(change if "dtr" in one.name else 0.0)
        measured = {"name": f"fid@{one.protocol.extractor}", "n": one.protocol.n_samples}
        measured |= {"direction": "lower", "value": fid, "low": fid, "high": fid}
        write_evaluation(scale, one, metrics=[measured])


def test_components_by_hand() -> None:
    # Means 0 and 2: variance 2; within each 0.5, of which half is in the variance of the means.
    found = components(np.array([[-0.5, 0.5], [1.5, 2.5]]))
    assert found == Components(1.75, 0.5)
    assert found.share == pytest.approx(1.75 / 2.25)
    assert components(np.array([[0.0, 1.0], [1.0, 0.0]])) == Components(0.0, 0.5)
    assert math.isnan(components(np.zeros((2, 2))).share)


def test_components_are_unbiased() -> None:
    noise = np.random.default_rng(0)
    found = [
        components(0.3 * noise.normal(size=(10, 1)) + 0.2 * noise.normal(size=(10, 3)))
        for _ in range(2000)
    ]
    assert np.mean([one.training for one in found]) == pytest.approx(0.09, rel=0.05)
    assert np.mean([one.sampling for one in found]) == pytest.approx(0.04, rel=0.05)


def test_the_panel_draws_the_same_models_with_other_noise(seeds3: Scale) -> None:
    drawn = drawn_protocols(seeds3)
    first = protocols(seeds3)
    assert len(drawn) == DRAWS * len(seeds3.slots)
    assert len(drawn.keys() & first.keys()) == len(seeds3.slots)  # the first draw is the tables'
    assert len(set(noise_records(seeds3))) == 2 * 3 * DRAWS * len(seeds3.slots)


def test_the_panel_of_records(seeds3: Scale) -> None:
    assert noise_table(Records(seeds3)).empty and noise_figure(Records(seeds3)) is None
    draw_panel(seeds3, training=0.1, sampling=0.0)
    (panel,) = noise_panels(Records(seeds3))
    assert panel.seeds == [0, 1, 2]
    np.testing.assert_allclose(panel.table, [[0.0] * DRAWS, [0.1] * DRAWS, [0.2] * DRAWS])
    row = noise_table(Records(seeds3)).iloc[0].tolist()
    assert row == ["FFHQ 256", "3", "3", "10.0", "0.0", "100"]
    figure, alt = noise_figure(Records(seeds3))
    assert len(figure.axes) == 1 and "FFHQ 256 100 %" in alt


def test_a_training_without_all_draws_is_left_out(seeds3: Scale) -> None:
    draw_panel(seeds3, training=0.1, sampling=0.05)
    last = next(
        path
        for path, one in zip(noise_records(seeds3), noise_evaluations(seeds3), strict=True)
        if (one.slot, one.seed) == (SLOT, 2) and one.protocol.seed > 0
    )
    Path(last).unlink()
    (panel,) = noise_panels(Records(seeds3))
    assert panel.seeds == [0, 1]


def test_other_draws_are_not_missed_by_a_comparison(seeds3: Scale, tmp_path: Path) -> None:
    draw_panel(seeds3, training=0.1, sampling=0.05)
    collect(seeds3, tmp_path / "reference")
    for path, one in zip(noise_records(seeds3), noise_evaluations(seeds3), strict=True):
        if one.protocol.seed > 0:
            Path(path).unlink(missing_ok=True)
    assert {one.agreement for one in compare(seeds3, tmp_path / "reference")} == {"identical"}
