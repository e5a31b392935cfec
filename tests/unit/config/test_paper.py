"""paper.yaml is the paper's protocol: every constant of every run, and of every measurement."""

from fractions import Fraction

import pytest

from dtr.config.reading import load_scale_file
from dtr.config.resolve import run_settings, training_steps
from dtr.experiments import RUNS
from dtr.planning.evaluations import evaluations, protocol
from dtr.planning.runs import milestones, previous_milestone, selected_runs
from dtr.reporting.published import published

# Of the paper (Appendix C), DiT, ADM and the authors' code, written down here a second time.
DIT = {  # width, depth, heads
    "DiT-S/2": (384, 12, 6),
    "DiT-B/2": (768, 12, 12),
    "DiT-L/2": (1024, 24, 16),
    "DiT-B/2-t2i": (768, 12, 12),
}
ADM = {
    "type": "adm", "model_channels": 192, "channel_mult": [1, 2, 3, 4], "num_res_blocks": 3,
    "attention_downsampling": [2, 4, 8], "num_head_channels": 64, "dropout": 0.1,
    "norm_groups": 32, "mask_place": "first_norms",
}  # fmt: skip
TOLD = {  # by dataset and resolution: input size, channels, classes, dropout
    ("ffhq", 256): (32, 4, 1, 0.0),
    ("imagenet", 256): (32, 4, 1000, 0.1),
    ("coco2014", 256): (32, 4, 1, 0.1),
    ("ffhq", 64): (64, 3, 1, 0.0),
    ("imagenet", 64): (64, 3, 1000, 0.1),
}
WEIGHTINGS = {
    "vanilla": {"type": "vanilla"},
    "p2": {"type": "p2", "gamma": 1.0, "k": 1.0},
    "min_snr_5": {"type": "min_snr", "gamma": 5.0},
    "ant_uw_8": {"type": "ant_uw", "clusters": 8, "learning_rate": 0.025},
}
SETS = {  # how ids begin: dataset, resolution, steps
    "ffhq256": ("ffhq", 256, 100_000),
    "coco256": ("coco2014", 256, 400_000),
    "in256": ("imagenet", 256, 400_000),
    "in64": ("imagenet", 64, 400_000),
    "ffhq64": ("ffhq", 64, 100_000),
}
MODELS = {"s2": "DiT-S/2", "b2": "DiT-B/2", "l2": "DiT-L/2", "adm": "ADM-64"}
ROUTINGS = {  # as the third part of an id
    "none": {"type": "none"},
    "rtr": {"type": "random", "beta": 0.8, "seed": 0},
    "dtr": {"type": "dtr", "beta": 0.8, "variant": "code"},
    "maxroaming": {"type": "max_roaming", "beta": 0.8, "seed": 0, "period": 649},  # 100000 // 154
    "ercdt8": {"type": "ercdt", "clusters": 8},
    "cdtr8": {"type": "cdtr", "beta": 0.8, "alpha": 4.0, "clusters": 8},
}


def facts(run_id: str) -> dict:
    """What the name of a run says of it, in the paper's terms."""
    start, model, *rest = run_id.split("-")
    dataset, resolution, steps = SETS[start]
    found = {"dataset": dataset, "resolution": resolution, "model": MODELS[model], "steps": steps,
             "timesteps": (0, 1000), "weighting": "vanilla"}  # fmt: skip
    if dataset == "coco2014":
        found["model"] += "-t2i"
    if rest[0].startswith("expert"):
        quarter = int(rest[0].removeprefix("expert"))
        own = {"steps": 200_000, "timesteps": (250 * quarter, 250 * (quarter + 1))}
        return found | own | {"routing": ROUTINGS["none"]}
    routing = dict(ROUTINGS[rest[0]])
    for part in rest[1:]:
        if part[0] in "ab" and part[1].isdigit():
            routing["alpha" if part[0] == "a" else "beta"] = float(part[1:])
        elif part == "2M":
            found["steps"] = 2_000_000
        else:
            found["weighting"] = part
    return found | {"routing": routing}


@pytest.fixture(scope="module")
def paper(root):
    return load_scale_file(root / "workflow/config/paper.yaml")


def test_all_runs_of_the_paper_are_trained(paper):
    assert set(selected_runs(paper)) == {run.id for run in RUNS}
    assert len(RUNS) == 59
    assert paper.seeds == [0]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.id)
def test_a_run_is_trained_as_in_the_paper(paper, run):
    theirs, ours = facts(run.id), run_settings(paper, run, 0)
    assert training_steps(paper, run) == theirs["steps"]
    assert (ours.seed, ours.timesteps) == (0, theirs["timesteps"])
    assert ours.routing.model_dump() == theirs["routing"]
    assert ours.weighting.model_dump() == WEIGHTINGS[theirs["weighting"]]
    assert ours.diffusion.model_dump() == {"schedule": "cosine", "num_timesteps": 1000}
    training = ours.training.model_dump()
    assert training.pop("precision") in ("float32", "bfloat16", "float16")
    assert training == {
        "batch_size": 256, "learning_rate": 1e-4, "warmup_steps": 0, "weight_decay": 0.0,
        "adam_betas": (0.9, 0.999), "ema_decay": 0.9999, "label_dropout": 0.1,
    }  # fmt: skip
    given, size = ours.inputs, ours.backbone
    told = (given.input_size, given.in_channels, given.num_classes, given.label_dropout)
    assert told == TOLD[theirs["dataset"], theirs["resolution"]]
    text = (77, 768) if theirs["dataset"] == "coco2014" else (None, None)
    assert (given.text_tokens, given.text_width) == text
    if theirs["model"] in DIT:
        assert (size.width, size.depth, size.heads) == DIT[theirs["model"]]
        assert (size.patch_size, getattr(size, "adaln_chunks", 9)) == (2, 9)
    else:
        assert size.model_dump() == ADM


def test_the_two_million_steps_continue_a_run(paper):
    run = selected_runs(paper)["in256-l2-dtr-a4-ant_uw_8-2M"]
    assert previous_milestone(paper, run, 2_000_000) == ("in256-l2-dtr-a4-ant_uw_8", 400_000)


def test_figure_5_has_a_milestone_every_50_000_steps(paper):
    every = [50_000 * n for n in range(1, 9)]
    for run in selected_runs(paper).values():
        if run.needed_by("figure5"):
            assert [step for step in milestones(paper, run) if step] == every


@pytest.mark.parametrize("slot", ["unconditional", "class_conditional", "text_conditional",
                                  "pixel_unconditional", "pixel_class_conditional"])  # fmt: skip
def test_samples_are_drawn_and_measured_as_in_the_paper(paper, slot):
    own = protocol(paper, slot)
    assert (own.n_samples, protocol(paper, slot, reduced=True).n_samples) == (50_000, 10_000)
    assert (own.sampler, own.sampling_steps, own.labels, own.seed) == ("ddpm", 250, "random", 0)
    assert own.guidance == (None if "unconditional" in slot else 1.5)
    assert own.guidance_channels == "all"
    assert own.x0_clamp == (1.0 if slot.startswith("pixel") else None)
    assert (own.neighbours, own.inception_split, own.reference.images) == (3, 5000, 10_000)
    used = paper.slots[slot]
    assert paper.extractors[used.extractor].resize == (
        "pytorch" if slot == "text_conditional" else "tensorflow"
    )
    published = {
        "class_conditional": "VIRTUAL_imagenet256_labeled.npz",
        "pixel_class_conditional": "VIRTUAL_imagenet64_labeled.npz",
        "text_conditional": "fid_stats_mscoco256_val.npz",
    }
    assert own.reference.published == published.get(slot)


def test_figure_3_has_four_strengths_of_guidance(paper):
    assert paper.evaluation.guidance_sweep == [1.0, 1.5, 2.0, 2.5]


def test_latents_are_those_of_stable_diffusion(paper):
    names = {slot.autoencoder for slot in paper.slots.values()} - {None}
    for name in names:
        own = paper.autoencoders[name]
        assert (own.type, own.scale_factor, own.latent_channels) == ("sd_vae", 0.18215, 4)
        assert own.downsampling == 8


def test_the_datasets_are_whole(paper):
    counts = {name: data.expected_images for name, data in paper.datasets.items()}
    assert counts["ffhq256"] == counts["ffhq64"] == 70_000
    assert counts["imagenet256"] == counts["imagenet64"] == 1_281_167
    assert paper.datasets["imagenet256"].classes and not paper.datasets["ffhq256"].classes
    assert all(data.mirror for data in paper.datasets.values())


def test_every_published_cell_is_measured(paper):
    """Steps, samples and guidance of every value in the paper's tables and figures."""
    ours = {
        (e.name, e.step, e.protocol.n_samples, e.protocol.guidance or 1.0)
        for e in evaluations(paper)
    }
    missing = []
    for row in published()["results"]:
        run = row["run"] if isinstance(row["run"], str) else "+".join(row["run"])
        if run.startswith("cited:") or not row["metrics"] or "fid" not in row["metrics"]:
            continue
        # Table 3 does not say its guidance: that of all others is assumed.
        guided = run.startswith(("in", "coco"))
        guidance = float(row["guidance"] or 1.5) if guided else 1.0
        key = (run, row["iterations"], row["n_samples"], guidance)
        if key not in ours:
            missing.append((row["table"], *key))
    assert not missing


def test_shares_of_a_training_are_exact(paper):
    assert [Fraction(share) for share in paper.evaluation.convergence] == [
        Fraction(n, 8) for n in range(1, 9)
    ]


@pytest.mark.parametrize("name", ["workstation", "paper"])
def test_other_scales_are_understood_without_their_data(root, name):
    scale = load_scale_file(root / f"workflow/config/{name}.yaml")
    assert scale.scale == name and scale.execution.device == "cuda"
    assert evaluations(scale)
