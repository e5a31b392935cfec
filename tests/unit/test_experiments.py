"""The matrix of the paper: which runs exist, what they are, who needs them."""

from collections import Counter
from itertools import pairwise

import pytest
from pydantic import ValidationError

from dtr.experiments import BACKBONES, FIGURES, RUNS, SLOTS, TABLES, Run
from dtr.registry import BUILT_IN, settings_model

BY_ID = {run.id: run for run in RUNS}
ROW = {
    "id": "mine",
    "slot": "unconditional",
    "backbone": "DiT-B/2",
    "routing": "none",
    "iterations": 100_000,
}


def needed_by(target: str) -> set[str]:
    return {run.id for run in RUNS if run.needed_by(target)}


def test_the_paper_has_59_runs_with_unique_ids():
    assert len(RUNS) == 59
    assert len(BY_ID) == 59


def test_runs_per_dataset():
    assert Counter(run.id.split("-")[0] for run in RUNS) == {
        "ffhq256": 23,
        "coco256": 6,
        "in256": 21,
        "in64": 6,
        "ffhq64": 3,
    }


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.id)
def test_id_and_settings_of_a_run_agree(run):
    dataset = {
        "ffhq256": "unconditional",
        "in256": "class_conditional",
        "coco256": "text_conditional",
        "ffhq64": "pixel_unconditional",
        "in64": "pixel_class_conditional",
    }
    method = {
        "none": "none",
        "rtr": "random",
        "dtr": "dtr",
        "maxroaming": "max_roaming",
        "ercdt8": "ercdt",
        "cdtr8": "cdtr",
        **{f"expert{i}": "none" for i in range(4)},
    }
    parts = run.id.split("-")
    assert run.slot == dataset[parts[0]]
    assert run.routing.type == method[parts[2]]
    if run.routing.type == "dtr":
        assert f"-a{run.alpha:g}" in run.id
    if run.beta is not None:
        assert run.id.endswith(f"-b{run.beta:g}")
    weighted = run.weighting.type != "vanilla"
    assert weighted == any(name in run.id for name in BUILT_IN["weighting"])


def test_every_name_in_the_matrix_is_known():
    for run in RUNS:
        assert run.slot in SLOTS
        assert run.routing.type in BUILT_IN["routing"]
        assert run.weighting.type in BUILT_IN["weighting"]
        assert {use.split("_")[0] for use in run.used_by} <= set(TABLES + FIGURES)
        assert run.used_by
        assert run.timesteps in {(0, 1000), (0, 250), (250, 500), (500, 750), (750, 1000)}


def test_backbone_space_and_conditioning_fit_the_slot():
    for run in RUNS:
        slot, size = SLOTS[run.slot], settings_model("backbone", BACKBONES[run.backbone])
        assert (slot.space == "pixel") == run.slot.startswith("pixel_")
        assert size.space == slot.space
        assert slot.told in size.told


@pytest.mark.parametrize(
    ("target", "count"),
    [
        ("table1", 15),
        ("table2", 14),
        ("table3", 1),
        ("table4", 24),
        ("table5", 6),
        ("table6", 6),
        ("table7", 0),
        ("table8", 5),
        ("figure3", 6),
        ("figure4", 9),
        ("figure5", 10),
        ("figure6", 3),
    ],
)
def test_runs_per_table_and_figure(target, count):
    assert len(needed_by(target)) == count


def test_a_table_needs_the_runs_of_its_panels():
    run = BY_ID["ffhq256-b2-none-p2"]
    assert run.used_by == ("table2_ffhq",)
    assert run.needed_by("table2")
    assert not any(run.needed_by(target) for target in TABLES + FIGURES if target != "table2")


def test_a_target_is_not_taken_for_another_that_starts_alike():
    run = Run(**ROW, used_by=("table10_ffhq",))
    assert run.needed_by("table10")
    assert not run.needed_by("table1")


def test_table1_compares_three_routings_on_five_slots():
    rows = {(run.slot, run.routing.type) for run in RUNS if run.needed_by("table1")}
    assert rows == {(slot, routing) for slot in SLOTS for routing in ("none", "random", "dtr")}
    assert {BY_ID[run].alpha for run in needed_by("table1") if "dtr" in run} == {4.0}


def test_the_2m_run_extends_one_that_differs_in_length_alone():
    longer = BY_ID["in256-l2-dtr-a4-ant_uw_8-2M"]
    shorter = BY_ID[longer.extends]
    differing = {
        name for name in Run.model_fields if getattr(longer, name) != getattr(shorter, name)
    }
    assert differing == {"id", "iterations", "extends", "used_by"}
    assert longer.iterations > shorter.iterations
    assert [run.id for run in RUNS if run.extends] == [longer.id]


def test_experts_share_out_all_timesteps():
    ranges = sorted(run.timesteps for run in RUNS if "expert" in run.id)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == 1000
    assert all(before[1] == after[0] for before, after in pairwise(ranges))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "../escape"),
        ("id", ""),
        ("slot", "moon"),
        ("iterations", 0),
        ("iterations", "100000"),
        ("beta", 0.0),
        ("beta", 1.2),
        ("alpha", 0.0),
        ("clusters", 0),
        ("colour", "red"),
    ],
)
def test_a_run_refuses_values_out_of_range(field, value):
    Run(**ROW)
    with pytest.raises(ValidationError) as error:
        Run(**ROW | {field: value})
    assert error.value.errors()[0]["loc"] == (field,)
