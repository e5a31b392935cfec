"""The cost of a scale: by hand for one training, shared between targets, at the paper's sizes."""

import pytest

from dtr.analysis import cost
from dtr.analysis.cost import Costs
from dtr.analysis.counting import count_network
from dtr.analysis.forecast import forecast
from dtr.config.checks import load_scale
from dtr.config.resolve import inputs
from dtr.planning.evaluations import protocol
from dtr.planning.jobs import catalogue
from dtr.planning.places import Places
from dtr.planning.runs import all_runs
from dtr.records import timed
from dtr.records.timed import Timed
from dtr.training.checkpoint import KEPT
from tests.synthetic_results import write_metrics, write_training

RUN, GUIDED = "ffhq256-b2-none", "in256-l2-none"
STEPS, BATCH, IMAGES, SAMPLING_STEPS = 2000, 32, 1000, 16  # of RUN in digits.yaml
TRAINING = 6 * BATCH  # operations per multiply-add and step


@pytest.fixture(autouse=True)
def no_reference(monkeypatch, tmp_path):
    """Without the reference results of this repository."""
    monkeypatch.setattr(timed, "KEPT", tmp_path / "reference")


def macs(scale, run: str) -> int:
    own = all_runs(scale)[run]
    return count_network(scale.backbones[own.backbone], inputs(scale, own)).macs


def costs_of(scale) -> Costs:
    return Costs(scale, Timed(scale), 1e12)


def training(scale, run=RUN, seed=0, step=STEPS):
    return catalogue(scale)[Places(scale.results).training(run, seed, step)]


def sampling(scale, run=RUN, slot="unconditional", seed=0, step=STEPS):
    wanted = Places(scale.results).shard(run, seed, step, protocol(scale, slot).id, 0)
    return catalogue(scale)[wanted]


def test_a_training_is_three_forward_passes_per_image(scale):
    expected = STEPS * TRAINING * macs(scale, RUN)
    assert costs_of(scale).of(training(scale)) == (expected, expected / 1e12, False)


def test_guidance_doubles_a_sampling_step(scale):
    images = IMAGES * SAMPLING_STEPS
    plain = costs_of(scale).of(sampling(scale))
    assert plain.operations == images * 2 * macs(scale, RUN)
    guided = costs_of(scale).of(sampling(scale, GUIDED, "class_conditional", step=1000))
    assert guided.operations == 2 * images * 2 * macs(scale, GUIDED)


def test_a_guidance_of_one_doubles_nothing(digits, tmp_path):
    digits["evaluation"]["guidance"] = 1.0
    scale = load_scale(digits | {"results": str(tmp_path / "results")}, source="test")
    drawn = costs_of(scale).of(sampling(scale, GUIDED, "class_conditional", step=1000))
    assert drawn.operations == IMAGES * SAMPLING_STEPS * 2 * macs(scale, GUIDED)


def test_recorded_seconds_come_before_throughput(scale):
    write_training(scale, RUN, wall_seconds=35.0)
    assert costs_of(scale).of(training(scale))[1:] == (pytest.approx(35.0), True)
    untimed = costs_of(scale).of(sampling(scale))  # at the speed of its training
    forward = IMAGES * SAMPLING_STEPS / (3 * BATCH * STEPS)
    assert untimed[1:] == (pytest.approx(35.0 * forward), False)
    write_metrics(scale, RUN, sampling_seconds=40.0)
    assert costs_of(scale).of(sampling(scale))[1:] == (pytest.approx(40.0), True)


def test_a_seed_without_a_record_takes_the_mean_of_the_others(digits, tmp_path):
    own = digits | {"results": str(tmp_path / "results"), "seeds": [0, 1, 2]}
    scale = load_scale(own, source="test")
    write_training(scale, RUN, seed=0, wall_seconds=30.0)
    write_training(scale, RUN, seed=1, wall_seconds=50.0)
    seconds = [costs_of(scale).of(training(scale, seed=seed)).seconds for seed in (0, 1, 2)]
    assert seconds == pytest.approx([30.0, 50.0, 40.0])


def test_records_of_other_settings_say_nothing(scale, digits):
    write_training(scale, RUN)
    digits["training"]["batch_size"] = 64
    other = load_scale(digits | {"results": scale.results}, source="test")
    assert not costs_of(other).of(training(other)).recorded
    assert Timed(other).passed_over == 1


def test_the_reference_of_a_scale_is_used_where_nothing_is_there(scale, monkeypatch, tmp_path):
    write_training(scale, RUN, wall_seconds=35.0)
    monkeypatch.setattr(timed, "KEPT", tmp_path / "kept")
    (tmp_path / "kept").mkdir()
    (tmp_path / "results").rename(tmp_path / "kept" / scale.scale)
    assert costs_of(scale).of(training(scale)).seconds == pytest.approx(35.0)


def test_bytes_are_those_of_the_shapes(scale):
    costs, known, places = costs_of(scale), catalogue(scale), Places(scale.results)
    own = all_runs(scale)[RUN]
    parameters = count_network(scale.backbones[own.backbone], inputs(scale, own)).parameters
    assert costs.disk(known[places.dataset("digits")]) == {"data": 5000 * 3 * 32 * 32}
    latents = known[places.latents("digits", "digits-vae")]
    assert costs.disk(latents) == {"latents": 4500 * 2 * 4 * 4 * 4 * 4}
    assert costs.disk(training(scale)) == {"weights": 4 * parameters}
    assert costs.disk(sampling(scale)) == {"samples": IMAGES * 3 * 32 * 32}
    assert costs.disk(known[places.real_features("digits", "digits-cnn")]) == {
        "features": 4500 * 64 * 4
    }
    assert costs.checkpoints(training(scale))[1] == 2 * 4 * 4 * parameters
    assert cost.CHECKPOINTS == KEPT


def test_captions_are_part_of_latents(whole):
    latents = catalogue(whole)[Places(whole.results).latents("scenes", "scenes-vae")]
    moments, captions = 2 * 4 * 4 * 4, 5 * 16 * 64
    assert costs_of(whole).disk(latents) == {"latents": 4500 * (moments + captions) * 4}


def test_what_targets_share_counts_once(whole):
    targets = ["table4", "table5", "table8"]
    found = forecast(whole, targets, tflops=1.0)
    alone = {part.name: part for part in found.targets}
    assert list(alone) == targets
    assert [part.runs for part in found.targets] == [24, 6, 5]
    # Two runs of FFHQ are in Tables 4 and 8, two of DiT-L/2 in 4 and 5.
    assert (found.union.runs, found.union.seeds, found.union.trainings) == (31, 1, 31)
    assert found.union.total.operations < sum(part.total.operations for part in found.targets)
    again = forecast(whole, ["table8", "table8"], tflops=1.0)
    assert again.targets == [alone["table8"]]
    assert again.union == alone["table8"]


def test_the_whole_scale_is_every_run(whole):
    found = forecast(whole, [], tflops=1.0)
    assert len(found.targets) == len(whole.targets)
    assert (found.union.runs, found.union.trainings) == (59, 59)
    assert found.union.total.remaining == found.union.total.jobs
    names = ("checkpoints", "data", "features", "latents", "samples", "weights")
    assert sorted(found.union.disk) == sorted(names)


@pytest.fixture
def paper(grid, tmp_path):
    """The scale of the paper itself: its sizes, steps and batches; the data are still digits'."""
    for slot, content in grid["slots"].items():
        content["steps"] = 100_000 if slot.endswith("unconditional") else 400_000
    grid["slots"]["unconditional"]["steps"] = 100_000
    for slot in ("class_conditional", "pixel_class_conditional"):
        grid["slots"][slot]["num_classes"] = 1000
    grid["datasets"]["digits"]["resolution"] = grid["datasets"]["scenes"]["resolution"] = 256
    grid["datasets"]["digits8"]["resolution"] = 64
    grid["text_encoders"]["words"] |= {"tokens": 77, "width": 768}
    for name, (width, depth, heads) in {
        "DiT-S/2": (384, 12, 6),
        "DiT-B/2": (768, 12, 12),
        "DiT-L/2": (1024, 24, 16),
        "DiT-B/2-t2i": (768, 12, 12),
    }.items():
        grid["backbones"][name] |= {"width": width, "depth": depth, "heads": heads}
    grid["backbones"]["ADM-64"] = {
        "type": "adm", "model_channels": 192, "channel_mult": [1, 2, 3, 4], "num_res_blocks": 3,
        "attention_downsampling": [2, 4, 8], "num_head_channels": 64, "dropout": 0.1,
    }  # fmt: skip
    grid["training"]["batch_size"] = 256
    return load_scale(grid | {"results": str(tmp_path / "paper")}, source="paper.yaml")


def test_the_paper_s_own_scale(paper):
    """Hours of one GPU at 400 TFLOP/s, worked out beforehand from the networks' tables."""
    costs, hours, operations = Costs(paper, Timed(paper), 400e12), {}, 0
    for job in catalogue(paper).values():
        if job.stage == "train":
            slot, own = all_runs(paper)[job.name].slot, costs.of(job)
            kind = "adm" if slot.startswith("pixel") else slot
            hours[kind] = hours.get(kind, 0) + own.seconds / 3600
            operations += own.operations
    expected = {"class_conditional": 595, "adm": 316, "text_conditional": 73, "unconditional": 56}
    assert hours == pytest.approx(expected, rel=0.03)
    assert sum(hours.values()) == pytest.approx(1041, rel=0.01)
    assert operations == pytest.approx(1.50e21, rel=0.01)
