"""Every mistake in a scale file is refused in one line that names the culprit."""

import json
import math
import os
import subprocess
import sys

import pytest
import yaml

from dtr.config.backbones import DiTSize
from dtr.config.checks import load_scale, why_not
from dtr.config.reading import merged, read_mapping
from dtr.config.scale import EvaluationSettings, Scale
from dtr.experiments import RUNS
from dtr.routing import Windows
from dtr.support.errors import Refusal
from dtr.support.settings import parse

GRAPHS = "blocks-reduce-overhead"
ROW = {
    "id": "mine",
    "slot": "class_conditional",
    "backbone": "DiT-B/2",
    "routing": {"type": "dtr", "alpha": 2.0},
    "iterations": 400_000,
}


def refused(content: dict) -> str:
    """The line with which `content` is refused as a scale."""
    with pytest.raises(Refusal) as refusal:
        load_scale(content, source="my.yaml")
    line = str(refusal.value)
    assert "\n" not in line
    assert line.startswith("my.yaml: ")
    return line


def changed(content: dict, where: str, value: object) -> dict:
    """`content` with the value at `where`, e.g. "routing.beta", replaced."""
    *folders, last = where.split(".")
    inner = content
    for folder in folders:
        inner = inner[folder]
    inner[last] = value
    return content


OVERLAYS = {
    "rehearsal": "paper",
    "quick": "workstation",
}  # laid over another scale, which has the rest


def test_every_shipped_scale_is_accepted(root):
    files = sorted((root / "workflow/config").glob("*.yaml"))
    assert "digits.yaml" in [file.name for file in files]
    for file in files:
        value = yaml.safe_load(file.read_text())
        if file.stem in OVERLAYS:
            value = merged(read_mapping(file.with_stem(OVERLAYS[file.stem])), value)
        scale = load_scale(value, source=file.name)
        assert scale.scale == file.stem


@pytest.mark.parametrize(
    "where", ["colour", "training.colour", "slots.unconditional.colour", "routing.colour"]
)
def test_an_unknown_key_is_refused(digits, where):
    assert f"{where}: unknown key" in refused(changed(digits, where, 1))


@pytest.mark.parametrize("key", ["routing", "slots", "datasets", "results"])
def test_a_missing_key_is_refused(digits, key):
    del digits[key]
    assert f"{key}: missing" in refused(digits)


@pytest.mark.parametrize(
    ("where", "value", "found"),
    [
        ("training.batch_size", "64", '"64"'),
        ("training.batch_size", 64.5, "64.5"),
        ("training.batch_size", True, "true"),
        ("training.learning_rate", "2e-3", '"2e-3"'),
        ("datasets.digits.mirror", "no", '"no"'),
        ("seeds", 0, "0"),
        ("deviations", "none", '"none"'),
        ("routing.beta", None, "null"),
    ],
)
def test_a_wrong_type_is_refused_and_not_converted(digits, where, value, found):
    assert f"{where} = {found}: input should be" in refused(changed(digits, where, value))


@pytest.mark.parametrize("beta", [0, 0.0, -0.1, 1.0001, 2])
def test_beta_outside_of_0_to_1_is_refused(digits, beta):
    line = refused(changed(digits, "routing.beta", beta))
    assert "routing.beta = " in line
    assert "greater than 0" in line or "less than or equal to 1" in line


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 10**19])
@pytest.mark.parametrize(
    "where", ["routing.beta", "training.weight_decay", "evaluation.seed", "routing.alpha"]
)
def test_a_number_no_machine_has_is_refused_wherever_it_stands(digits, where, number):
    line = refused(changed(digits, where, number))
    assert f"{where} = " in line
    assert "finite number" in line or "at most 64 bits" in line


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"devices": [0, 1]}, "devices [0, 1] are of no use with device cpu"),
        ({"device": "cuda", "devices": [0], "processes": 2}, "exceeds the devices [0]"),
        ({"device": "cuda", "devices": [0], "nodes": 2}, "[0] are of one machine, with nodes 2"),
        ({"nodes": 3}, "32: not divisible by execution.nodes times execution.accumulation (3)"),
        ({"processes": 4, "nodes": 16}, "execution.processes times execution.nodes times"),
        ({"compile": GRAPHS}, f"compile {GRAPHS} needs device cuda, not cpu"),
        ({"compile": GRAPHS, "device": "cuda", "accumulation": 2}, "needs accumulation 1, not 2"),
        ({"compile": GRAPHS, "device": "cuda", "recompute": "blocks"}, "needs recompute nothing"),
    ],
)
def test_what_does_not_fit_together_in_execution_is_refused(digits, changes, says):
    assert says in refused(digits | {"execution": digits["execution"] | changes})


@pytest.mark.parametrize("beta", [1, 1.0, 0.001])
def test_beta_at_the_limits_is_accepted(digits, beta):
    assert load_scale(changed(digits, "routing.beta", beta), source="my.yaml").routing.beta == beta


def test_beta_of_a_run_is_checked_too(digits):
    row = ROW | {"routing": ROW["routing"] | {"beta": 1.5}}
    assert "extra_runs.0.routing.beta = 1.5" in refused(digits | {"extra_runs": [row]})


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("training.ema_decay", 1.0),
        ("training.label_dropout", -0.1),
        ("training.batch_size", 0),
        ("training.warmup_steps", -1),
        ("evaluation.guidance", 0.0),
        ("evaluation.sampling_steps", 1001),
        ("execution.device", "tpu"),
        ("diffusion.schedule", "quadratic"),
        ("diffusion.num_timesteps", 500),
        ("scale", "My Scale"),
    ],
)
def test_a_value_out_of_range_is_refused(digits, where, value):
    assert f"{where} = {json.dumps(value)}: " in refused(changed(digits, where, value))


@pytest.mark.parametrize(
    ("where", "value", "line"),
    [
        ("training.batch_size", 60, "60: not divisible by weighting.ant_uw.clusters (8)"),
        (
            "slots.unconditional.batch_size",
            12,
            "12: not divisible by weighting.ant_uw.clusters (8)",
        ),
        ("execution.accumulation", 3, "32: not divisible by execution.accumulation (3)"),
    ],
)
def test_a_batch_that_cannot_be_cut_is_refused(digits, where, value, line):
    assert line in refused(changed(digits, where, value))


def test_an_unknown_target_is_refused_with_the_known_ones(digits):
    line = refused(digits | {"targets": ["table9"]})
    assert 'targets.0 = "table9"' in line
    assert "'table8'" in line


def test_a_claim_unknown_to_the_page_cannot_be_untestable(digits):
    digits["untestable"] = {"convergance": "Too short."}
    with pytest.raises(Refusal, match=r"untestable = 'convergance': unknown; known: .*convergence"):
        load_scale(digits, source="digits.yaml")


def test_channels_that_do_not_fall_into_groups_are_refused(digits):
    digits["autoencoders"]["digits-vae"]["norm_groups"] = 5
    with pytest.raises(Refusal, match=r"digits-vae.*channels 16 must be divisible by norm_groups"):
        load_scale(digits, source="digits.yaml")


def test_a_seed_given_twice_is_refused(digits):
    assert "seeds = [0, 1, 0]" in refused(digits | {"seeds": [0, 1, 0]})


@pytest.mark.parametrize("field", ["dataset", "extractor", "autoencoder"])
def test_a_slot_that_refers_to_nothing_is_refused(digits, field):
    where = f"slots.class_conditional.{field}"
    line = refused(changed(digits, where, "nothing"))
    assert f"{where} = 'nothing': unknown; known: digits" in line


def test_two_slots_of_one_dataset_are_told_the_same_number_of_classes(grid):
    grid["slots"]["pixel_class_conditional"] |= {"dataset": "digits", "num_classes": 9}
    line = refused(grid)
    assert "slots.pixel_class_conditional.num_classes = 9: slots.class_conditional, of the" in line
    assert "same dataset, has 10" in line


@pytest.mark.parametrize("kind", ["autoencoders", "extractors"])
def test_an_asset_of_an_unknown_dataset_is_refused(digits, kind):
    name = next(iter(digits[kind]))
    where = f"{kind}.{name}.dataset"
    assert f"{where} = 'nothing': unknown" in refused(changed(digits, where, "nothing"))


@pytest.mark.parametrize(
    ("slot", "backbone"),
    [
        ("unconditional", "DiT-B/2-t2i"),
        ("class_conditional", "DiT-B/2-t2i"),
        ("text_conditional", "DiT-B/2"),
        ("class_conditional", "ADM-64"),
        ("pixel_unconditional", "DiT-B/2"),
    ],
)
def test_an_impossible_pair_of_backbone_and_slot_is_refused(digits, slot, backbone):
    line = refused(digits | {"extra_runs": [ROW | {"slot": slot, "backbone": backbone}]})
    assert f"extra_runs.0.backbone = '{backbone}': impossible on slot '{slot}'" in line


def test_the_papers_own_pairs_are_possible(digits):
    for run in RUNS:
        row = run.model_dump(mode="json") | {"id": "copy", "extends": None, "routing": "unheard-of"}
        assert "impossible" not in refused(digits | {"extra_runs": [row]})


def test_a_run_id_given_twice_is_refused(digits):
    assert "extra_runs.0.id = 'mine'" in refused(digits | {"extra_runs": [ROW, ROW]})


def test_the_id_of_a_run_of_the_paper_is_refused(digits):
    line = refused(digits | {"extra_runs": [ROW | {"id": RUNS[0].id}]})
    assert f"extra_runs.0.id = '{RUNS[0].id}'" in line


def test_the_culprit_among_several_runs_is_the_one_named(digits):
    rows = [ROW, ROW | {"id": "other", "routing": "nonsense"}]
    line = refused(digits | {"extra_runs": rows})
    assert "extra_runs.1.routing = 'nonsense': unknown; known: none" in line


def test_dtr_without_alpha_is_refused(digits):
    for routing in ("dtr", {"type": "dtr"}):
        row = ROW | {"routing": routing}
        assert "extra_runs.0.routing.alpha: missing" in refused(digits | {"extra_runs": [row]})


def test_a_run_without_a_size_for_its_backbone_is_refused(digits):
    line = refused(digits | {"extra_runs": [ROW | {"backbone": "DiT-XL/2"}]})
    assert "no size for 'DiT-XL/2'" in line


def test_what_is_not_implemented_is_refused_by_name(scale):
    """As long as a method of the paper is missing, its runs say which one."""
    for run in RUNS:
        reason = why_not(scale, run)
        if run.slot not in scale.slots:
            assert reason is not None


def test_a_results_path_that_is_a_file_is_refused_and_kept(digits, tmp_path):
    file = tmp_path / "taken"
    file.write_text("precious")
    file.chmod(0o755)  # an executable file passes for a folder where only permissions are asked
    for results in (file, file / "below"):
        line = refused(digits | {"results": str(results)})
        assert f"results = '{results}'" in line
        assert f"{file} cannot be written to" in line
    assert file.read_text() == "precious"


def test_a_results_folder_without_permission_is_refused(digits, tmp_path, monkeypatch):
    """os.access is replaced because root, who runs containers, may write everywhere."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert f"{tmp_path} cannot be written to" in refused(
        digits | {"results": str(tmp_path / "results")}
    )


def test_checking_a_scale_creates_nothing(scale, tmp_path):
    assert list(tmp_path.iterdir()) == []


def test_heads_must_divide_the_width():
    with pytest.raises(Refusal, match=r"size: width 128 must be divisible by heads \(3\)"):
        parse(
            DiTSize,
            {"type": "dit", "patch_size": 2, "width": 128, "depth": 1, "heads": 3},
            source="size",
        )


def test_a_kid_subset_larger_than_the_sample_is_refused(digits):
    line = refused(changed(digits, "evaluation.kid_subset", digits["evaluation"]["n_samples"] + 1))
    assert "evaluation: kid_subset" in line


def test_resolved_dtr_routing_needs_alpha():
    with pytest.raises(Refusal, match="run: alpha: missing"):
        parse(Windows, {"type": "dtr", "beta": 0.8}, source="run")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"digits"'])
def test_text_that_is_no_settings_object_is_refused(text):
    with pytest.raises(Refusal, match=r"^settings\.json: ") as refusal:
        parse(EvaluationSettings, text, source="settings.json")
    assert "\n" not in str(refusal.value)


def test_settings_survive_the_way_through_json(scale):
    for settings in (scale, scale.training, scale.evaluation, scale.slots["unconditional"]):
        text = json.dumps(settings.plain())
        assert parse(type(settings), text, source="test") == settings


def test_settings_cannot_be_changed_afterwards(scale):
    with pytest.raises(ValueError, match="frozen"):
        scale.routing.beta = 0.5


def test_the_schema_is_in_step_with_the_models(root):
    written = (root / "workflow/schemas/scale.schema.json").read_text(encoding="utf-8")
    assert written == json.dumps(Scale.model_json_schema(), indent=2) + "\n"


def test_reading_settings_does_not_load_torch(root):
    """Snakemake parses its rules again in every job; torch would cost seconds each time."""
    code = "import sys, dtr.planning.runs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


def test_a_deviation_names_facts_that_are_known(digits):
    digits["deviations"] = ["Figure 6 compares $cka_images images.", "On $machines machines."]
    with pytest.raises(Refusal, match=r"deviations\.1: a dollar names a fact; known: \$cka_images"):
        load_scale(digits, source="my.yaml")
