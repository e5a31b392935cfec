"""Which models are measured, at which step and under which protocol."""

import pytest

from dtr.config.checks import load_scale
from dtr.config.resolve import training_steps
from dtr.config.scale import Scale
from dtr.experiments import EXPERTS, FIGURES, RUNS, TABLES
from dtr.planning.evaluations import (
    evaluations,
    evaluations_for,
    model_name,
    panel_protocol,
    protocol,
)
from dtr.planning.runs import (
    all_runs,
    baseline_run,
    convergence_steps,
    lineage,
    milestones,
    previous_milestone,
    selected_runs,
)
from dtr.planning.targets import analysis_records, measured_records, target_files

OWN = {
    "id": "mine",
    "slot": "unconditional",
    "backbone": "DiT-B/2",
    "routing": "none",
    "iterations": 100_000,
}


def with_targets(grid: dict, *targets: str, **changes) -> Scale:
    return load_scale(grid | {"targets": list(targets)} | changes, source="test")


def test_every_run_of_the_paper_is_part_of_a_measured_model(whole):
    measured = {name for name, *_ in evaluations(whole)}
    assert measured == {model_name(run) for run in RUNS}
    assert len(selected_runs(whole)) == len(RUNS) == 59


def test_models_shared_by_tables_are_measured_once(whole):
    found = evaluations(whole)
    assert len(set(found)) == len(found)
    shared = ("in256-l2-none", "in256-l2-dtr-a4")
    for target in ("table1", "table4", "table5", "table6"):
        assert set(shared) <= {one.name for one in evaluations_for(whole, target)}
        assert set(evaluations_for(whole, target)) <= set(found)
    final = [one for one in found if one.name == shared[0] and one.step == 1000]
    assert len(final) == len(whole.evaluation.guidance_sweep)


def test_one_table_needs_its_own_runs_only(grid):
    scale = with_targets(grid, "table8")
    names = {one.name for one in evaluations(scale)}
    methods = ("none", "maxroaming", "ercdt8", "cdtr8", "dtr-a4")
    assert names == {f"ffhq256-b2-{method}" for method in methods}
    assert analysis_records(scale) == []


def test_the_guidance_sweep_is_measured_at_the_end_of_the_training(whole):
    sweep = evaluations_for(whole, "figure3")
    assert len(sweep) == 6 * len(whole.evaluation.guidance_sweep)
    assert {one.protocol.guidance for one in sweep} == set(whole.evaluation.guidance_sweep)
    runs = all_runs(whole)
    assert all(one.step == training_steps(whole, runs[one.name]) for one in sweep)
    assert protocol(whole, "class_conditional") in {one.protocol for one in sweep}


def test_convergence_is_measured_on_the_way_with_fewer_samples(grid):
    grid["evaluation"] |= {"n_samples_reduced": 500, "convergence": [0.5, 1.0]}
    scale = with_targets(grid, "figure5")
    curve = [one for one in evaluations_for(scale, "figure5") if one.name == "in256-l2-none"]
    steps = training_steps(scale, all_runs(scale)["in256-l2-none"])
    assert [one.step for one in curve] == [steps // 2, steps]
    assert {one.protocol.n_samples for one in curve} == {500}
    assert milestones(scale, all_runs(scale)["in256-l2-rtr"])[-1:] == [steps]


def test_the_ffhq_half_of_table_2_has_the_papers_fewer_samples(grid):
    grid["evaluation"]["n_samples_reduced"] = 500
    scale = with_targets(grid, "table1", "table2")
    assert panel_protocol(scale, "table2_ffhq", "unconditional").n_samples == 500
    assert panel_protocol(scale, "table1", "unconditional").n_samples == 1000
    counts = {}
    for one in evaluations(scale):
        counts.setdefault(one.name, set()).add(one.protocol.n_samples)
    assert counts["ffhq256-b2-none"] == {500, 1000}
    assert counts["ffhq256-b2-none-p2"] == {500}
    assert counts["ffhq256-b2-rtr"] == {1000}


def test_experts_are_measured_together(whole):
    joined = "+".join(EXPERTS)
    (experts,) = [one for one in evaluations(whole) if one.name == joined]
    assert experts.step == training_steps(whole, all_runs(whole)[EXPERTS[0]])
    assert not {one.name for one in evaluations(whole)} & set(EXPERTS)


def test_the_untrained_baseline_of_each_slot_is_measured_once(grid):
    scale = with_targets(grid, "table1", seeds=[3, 4])
    models = [(one.name, one.seed, one.step) for one in evaluations(scale)]
    assert len(set(models)) == len(models)
    assert {model for model in models if model[2] == 0} == {
        (baseline_run(scale, slot).id, 3, 0) for slot in scale.slots
    }
    trained = {(name, seed) for name in selected_runs(scale) for seed in (3, 4)}
    assert {model[:2] for model in models if model[2] > 0} == trained


def test_only_the_baselines_keep_their_first_weights(whole):
    for run in selected_runs(whole).values():
        steps = milestones(whole, run)
        assert steps[-1] == training_steps(whole, run)
        names = (run.routing.type, run.weighting.type)
        plain = (names, run.timesteps) == (("none", "vanilla"), (0, 1000))
        baseline = plain and baseline_run(whole, run.slot) == run
        assert (steps[0] == 0) == baseline


def test_without_a_baseline_there_is_no_control(grid):
    scale = with_targets(grid, extra_runs=[OWN])
    assert baseline_run(scale, "unconditional").id == "mine"
    routed = OWN | {"routing": "random"}
    scale = with_targets(grid, extra_runs=[routed])
    assert baseline_run(scale, "unconditional") is None
    assert [one.name for one in evaluations(scale)] == ["mine"]


def test_milestones_follow_one_another_and_an_extension_its_run(whole):
    runs = all_runs(whole)
    run = runs["in256-l2-dtr-a4-ant_uw_8"]
    steps = convergence_steps(whole, run)
    assert milestones(whole, run) == steps
    assert previous_milestone(whole, run, steps[0]) is None
    assert previous_milestone(whole, run, steps[1]) == (run.id, steps[0])
    longer = runs[f"{run.id}-2M"]
    assert previous_milestone(whole, longer, 5 * steps[-1]) == (run.id, steps[-1])
    assert lineage(whole, longer) == run
    assert lineage(whole, runs["in256-l2-none"]).id == "in256-l2-none"


def test_an_extension_alone_trains_from_the_start(grid):
    scale = with_targets(grid, "table3")
    longer = all_runs(scale)["in256-l2-dtr-a4-ant_uw_8-2M"]
    assert list(selected_runs(scale)) == [longer.id]
    assert previous_milestone(scale, longer, training_steps(scale, longer)) is None


def test_the_first_weights_continue_nothing(whole):
    run = all_runs(whole)["in256-l2-none"]
    assert previous_milestone(whole, run, 0) is None


@pytest.mark.parametrize("target", [*TABLES, *FIGURES])
def test_what_a_target_needs_is_part_of_what_the_scale_needs(whole, target):
    everything = measured_records(whole) + analysis_records(whole)
    needed = measured_records(whole, target) + analysis_records(whole, target)
    assert set(needed) <= set(everything)
    assert len(set(needed)) == len(needed)
    assert bool(needed) == (target != "figure2")


def test_speed_and_similarity_are_measured_for_their_targets_alone(grid):
    scale = with_targets(grid, "table7", "figure6", seeds=[0, 1])
    paths = [path.removeprefix(f"{scale.results}/analysis/") for path in analysis_records(scale)]
    assert [path for path in paths if path.startswith("throughput")] == [
        f"throughput/DiT-{size}-2.json" for size in "SBL"
    ]
    runs = ("none", "rtr", "dtr-a4")
    assert [path for path in paths if path.startswith("cka")] == [
        f"cka/ffhq256-b2-{run}-seed{seed}.json" for run in runs for seed in (0, 1)
    ]


def test_files_of_a_scale_are_those_of_its_targets(grid):
    scale = with_targets(grid, "table2", "figure4")
    folder = scale.results
    assert target_files(scale) == [f"{folder}/tables/table2.csv", f"{folder}/figures/figure4.svg"]
