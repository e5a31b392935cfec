"""The user's own seed among those of the reference results."""

from pathlib import Path

from dtr.config.scale import Scale
from dtr.planning.evaluations import Evaluation, panel_protocol
from dtr.records.reference import collect
from dtr.records.table import Records
from dtr.reporting.figures.typical import typical_figure
from tests.synthetic_results import model_folder, write_evaluation, write_training

RUNS = {"ffhq256-b2-none": (3.0, 3.2), "ffhq256-b2-dtr-a4": (2.0, 2.1)}


def measure(scale: Scale, values: dict[str, tuple[float, ...]]) -> None:
    own = panel_protocol(scale, "table1", "unconditional")
    for run, fids in values.items():
        for seed, fid in enumerate(fids):
            write_training(scale, run, seed=seed)
            step = int(model_folder(scale, run, seed).name.removeprefix("step"))
            measured = {"name": f"fid@{own.extractor}", "n": own.n_samples, "direction": "lower"}
            measured |= {"value": fid, "low": fid, "high": fid}
            place = Evaluation(run, "unconditional", seed, step, own)
            write_evaluation(scale, place, metrics=[measured])


def keep_reference(scale: Scale, kept: Path) -> None:
    reference = scale.model_copy(
        update={"results": str(kept.parent / "reference-run"), "seeds": [0, 1]}
    )
    measure(reference, RUNS)
    collect(reference, kept / scale.scale)


def test_own_values_stand_beside_the_reference_seeds(whole: Scale, no_kept_reference: Path) -> None:
    keep_reference(whole, no_kept_reference)
    measure(whole, {"ffhq256-b2-none": (3.1,), "ffhq256-b2-dtr-a4": (9.0,)})
    figure, alt = typical_figure(Records(whole))
    drawn = [list(line.get_ydata()) for line in figure.axes[0].lines]
    assert drawn == [[3.0, 3.2], [3.1], [2.0, 2.1], [9.0]]
    assert "FID of 2 runs" in alt and "1 within" in alt


def test_without_a_reference_there_is_no_figure(whole: Scale, no_kept_reference: Path) -> None:
    measure(whole, RUNS)
    assert typical_figure(Records(whole)) is None
    keep_reference(whole, no_kept_reference)
    assert typical_figure(Records(whole)) is not None
    (Path(whole.results) / "scale.json").write_text("{}")  # these are reference results themselves
    assert typical_figure(Records(whole)) is None


def test_values_of_another_protocol_are_not_compared(whole: Scale, no_kept_reference: Path) -> None:
    keep_reference(whole, no_kept_reference)
    sampled = whole.evaluation.model_copy(update={"sampling_steps": 8})
    other = whole.model_copy(update={"evaluation": sampled})
    measure(other, RUNS)
    assert typical_figure(Records(other)) is None
