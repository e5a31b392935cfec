"""Which runs a scale trains, with which settings, and what a change of settings redoes."""

import pytest

from dtr.config.checks import load_scale, why_not
from dtr.config.resolve import inputs, routing_settings, run_settings, training_steps
from dtr.config.scale import Scale
from dtr.config.stages import REVISIONS, RunSettings
from dtr.experiments import RUNS, SLOTS, Run
from dtr.planning.runs import all_runs, find_run, reason_not_run, selected_runs
from dtr.registry import known_names
from dtr.routing import Unrouted
from dtr.support.errors import Refusal

DATA = "0" * 64
TABLE1_DIT = [
    "ffhq256-b2-none",
    "ffhq256-b2-rtr",
    "ffhq256-b2-dtr-a4",
    "in256-l2-none",
    "in256-l2-rtr",
    "in256-l2-dtr-a4",
]
OWN = {
    "id": "mine",
    "slot": "unconditional",
    "backbone": "DiT-B/2",
    "routing": {"type": "dtr", "alpha": 2.5, "beta": 0.5},
    "iterations": 50_000,
}


def fingerprints(scale: Scale, seed: int = 0) -> dict[str, str]:
    return {
        name: run_settings(scale, run, seed).fingerprint(DATA, {})
        for name, run in selected_runs(scale).items()
    }


def changed_runs(before: Scale, after: Scale) -> set[str]:
    old, new = fingerprints(before), fingerprints(after)
    assert old.keys() == new.keys()
    return {name for name in old if old[name] != new[name]}


def scale_with(digits: dict, **sections: dict) -> Scale:
    return load_scale(
        digits | {name: digits[name] | values for name, values in sections.items()}, source="test"
    )


def test_table1_selects_its_runs_on_the_slots_that_are_filled(digits):
    selected = selected_runs(load_scale(digits | {"targets": ["table1"]}, source="test"))
    assert set(TABLE1_DIT) <= set(selected)
    assert all(run.needed_by("table1") for run in selected.values())
    assert all(run.slot in digits["slots"] for run in selected.values())


def test_every_run_is_either_selected_or_has_a_reason(scale):
    selected = selected_runs(scale)
    for run in RUNS:
        reason = reason_not_run(scale, run)
        assert (run.id in selected) == (reason is None)
        assert reason is None or "\n" not in reason


def test_no_target_selects_no_run_of_the_paper(digits):
    scale = load_scale(digits | {"targets": []}, source="test")
    assert selected_runs(scale) == {}
    assert reason_not_run(scale, all_runs(scale)["ffhq256-b2-none"]).startswith("not among")


def test_a_run_of_ones_own_is_selected_without_a_target(digits):
    scale = load_scale(digits | {"targets": [], "extra_runs": [OWN]}, source="test")
    assert list(selected_runs(scale)) == ["mine"]
    assert find_run(scale, "mine").alpha == 2.5


def test_an_unknown_run_is_refused_by_name(scale):
    with pytest.raises(Refusal, match=r"run 'ffhq256-b2-nine': unknown"):
        find_run(scale, "ffhq256-b2-nine")


def test_a_run_outside_of_the_scale_is_refused_with_the_reason(digits):
    scale = load_scale(digits | {"targets": []}, source="test")
    with pytest.raises(Refusal, match=r"run 'in256-l2-none': not among the targets"):
        find_run(scale, "in256-l2-none")


def test_paper_iterations_stand_for_the_steps_of_a_slot(scale):
    runs = all_runs(scale)
    for name in TABLE1_DIT:
        assert training_steps(scale, runs[name]) == scale.slots[runs[name].slot].steps
    full = scale.slots["class_conditional"].steps
    assert training_steps(scale, runs["in256-b2-expert0"]) == full // 2
    assert training_steps(scale, runs["in256-l2-dtr-a4-ant_uw_8-2M"]) == 5 * full


def test_paper_iterations_are_those_of_the_unrouted_runs():
    """Every slot's baseline of Table 1 is trained for the iterations its steps stand for."""
    baselines = [run for run in RUNS if run.needed_by("table1") and run.routing.type == "none"]
    iterations = {name: slot.iterations for name, slot in SLOTS.items()}
    assert {run.slot: run.iterations for run in baselines} == iterations


def test_beta_redoes_the_routed_runs_only(digits, scale):
    after = scale_with(digits, routing={"beta": 0.6})
    routed = {name for name, run in selected_runs(scale).items() if run.routing.type != "none"}
    assert routed
    assert routed < set(selected_runs(scale))
    assert changed_runs(scale, after) == routed


def test_beta_of_a_run_wins_over_the_scales(digits):
    digits |= {"extra_runs": [OWN]}
    before, after = load_scale(digits, source="test"), scale_with(digits, routing={"beta": 0.6})
    assert "mine" not in changed_runs(before, after)
    assert routing_settings(before, find_run(before, "mine"), 0).beta == 0.5


def test_seed_of_random_masks_redoes_the_random_runs_only(digits, scale):
    after = scale_with(digits, routing={"seed": 7})
    random = {name for name, run in selected_runs(scale).items() if run.routing.type == "random"}
    assert changed_runs(scale, after) == random


def test_random_masks_are_drawn_from_the_seed_of_the_training(scale):
    run = all_runs(scale)["ffhq256-b2-rtr"]
    assert [routing_settings(scale, run, seed).seed for seed in (0, 1, 5)] == [0, 1, 5]
    fixed = scale.model_copy(update={"routing": scale.routing.model_copy(update={"seed": 3})})
    assert [routing_settings(fixed, run, seed).seed for seed in (0, 1, 5)] == [3, 3, 3]


def test_no_routing_depends_on_no_routing_constant(scale):
    settings = routing_settings(scale, all_runs(scale)["ffhq256-b2-none"], 0)
    assert settings == Unrouted(type="none")


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("training", {"learning_rate": 1.0e-3}),
        ("training", {"batch_size": 48}),
        ("training", {"ema_decay": 0.98}),
        ("diffusion", {"schedule": "linear"}),
    ],
)
def test_optimisation_and_schedule_redo_every_run(digits, scale, section, values):
    after = scale_with(digits, **{section: values})
    assert changed_runs(scale, after) == set(selected_runs(scale))


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("execution", {"device": "cuda", "runtime_minutes": 5}),
        ("evaluation", {"guidance": 2.0, "n_samples": 1500}),
    ],
)
def test_execution_and_evaluation_redo_no_run(digits, scale, section, values):
    assert changed_runs(scale, scale_with(digits, **{section: values})) == set()


def test_total_steps_are_not_in_the_fingerprint(digits, scale):
    slots = {name: slot | {"steps": 2 * slot["steps"]} for name, slot in digits["slots"].items()}
    longer = load_scale(digits | {"slots": slots}, source="test")
    assert changed_runs(scale, longer) == set()
    for run in selected_runs(scale).values():
        assert training_steps(longer, run) == 2 * training_steps(scale, run)


def test_an_extension_goes_on_from_the_run_it_extends(scale):
    """The 2M-iteration run differs in length alone, so it has the fingerprint of the shorter."""
    runs = all_runs(scale)
    longer = runs["in256-l2-dtr-a4-ant_uw_8-2M"]
    settings = run_settings(scale, longer, 0)
    assert settings == run_settings(scale, runs[longer.extends], 0)
    shorter = run_settings(scale, runs[longer.extends], 0)
    assert settings.fingerprint(DATA, {}) == shorter.fingerprint(DATA, {})
    assert training_steps(scale, longer) > training_steps(scale, runs[longer.extends])


def test_every_run_and_seed_has_its_own_fingerprint(scale):
    prints = [print_ for seed in (0, 1) for print_ in fingerprints(scale, seed).values()]
    assert len(set(prints)) == len(prints)


def test_data_and_revision_are_in_the_fingerprint(scale, monkeypatch):
    settings = run_settings(scale, all_runs(scale)["ffhq256-b2-none"], 0)
    before = settings.fingerprint(DATA, {})
    assert settings.fingerprint("1" * 64, {}) != before
    assert settings.fingerprint(DATA, {"routing": "2" * 64}) != before
    monkeypatch.setitem(REVISIONS, "train", REVISIONS["train"] + 1)
    assert settings.fingerprint(DATA, {}) != before


def test_a_whole_number_and_the_same_real_number_are_one_setting(digits):
    whole, real = (scale_with(digits, routing={"beta": beta}) for beta in (1, 1.0))
    assert changed_runs(whole, real) == set()


def test_backbone_fits_latents_and_labels(scale, digits):
    runs = all_runs(scale)
    unconditional = inputs(scale, runs["ffhq256-b2-dtr-a4"])
    conditional = inputs(scale, runs["in256-l2-dtr-a4"])
    latent = digits["autoencoders"]["digits-vae"]["latent_channels"]
    assert unconditional.in_channels == conditional.in_channels == latent
    assert unconditional.input_size % scale.backbones["DiT-B/2"].patch_size == 0
    assert (unconditional.num_classes, conditional.num_classes) == (1, 10)
    assert unconditional.label_dropout == 0.0
    assert conditional.label_dropout == digits["training"]["label_dropout"]


def test_runs_that_are_compared_differ_in_routing_alone(scale):
    """The rows of Table 1 on one slot share everything but the routing."""
    runs = all_runs(scale)
    for slot in ("unconditional", "class_conditional"):
        plain = []
        for name in TABLE1_DIT:
            if runs[name].slot == slot:
                settings = run_settings(scale, runs[name], 0).plain()
                settings.pop("routing")
                plain.append(settings)
        assert len(plain) == 3
        assert plain[0] == plain[1] == plain[2]


def test_settings_of_every_implemented_run_can_be_resolved(scale):
    implemented = [run for run in RUNS if why_not(scale, run) is None]
    assert len(implemented) >= len(TABLE1_DIT)
    for run in implemented:
        settings = run_settings(scale, run, 0)
        assert settings.routing.type in known_names("routing")
        assert RunSettings.model_validate_json(settings.model_dump_json()) == settings


def test_alpha_is_the_runs(scale):
    """Runs of Table 4 differ in alpha alone."""
    runs = all_runs(scale)
    first, second = (
        run_settings(scale, runs[f"ffhq256-b2-dtr-a{alpha}"], 0) for alpha in ("1", "4")
    )
    assert (first.routing.alpha, second.routing.alpha) == (1.0, 4.0)
    changed = second.routing.model_copy(update={"alpha": 1.0})
    assert first == second.model_copy(update={"routing": changed})


def test_a_row_is_a_run(digits):
    run = Run(**OWN)
    assert run == find_run(load_scale(digits | {"extra_runs": [OWN]}, source="test"), "mine")


def test_a_slot_may_have_batches_of_its_own(grid):
    own = grid["slots"]["pixel_class_conditional"] | {"batch_size": 24}
    slots = grid["slots"] | {"pixel_class_conditional": own}
    scale = load_scale(grid | {"slots": slots}, source="test")
    runs = all_runs(scale)
    sizes = {
        run: run_settings(scale, runs[run], 0).training.batch_size
        for run in ("in64-adm-none", "in256-l2-none")
    }
    assert sizes == {"in64-adm-none": 24, "in256-l2-none": grid["training"]["batch_size"]}
