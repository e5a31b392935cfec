"""Sampling: what an image depends on, which timestep a model sees, how guidance is applied."""

import numpy as np
import pytest
import torch
from torch import nn

from dtr.backbones.build import build_backbone
from dtr.backbones.experts import Experts
from dtr.config.backbones import Inputs
from dtr.config.stages import DiffusionSettings, Protocol
from dtr.diffusion import Diffusion
from dtr.registry import settings_model
from dtr.sampling import ddpm
from dtr.sampling.ddpm import ImageStreams, guided_output, rng_of, sample_latents, sample_shard

SHAPE = (4, 2, 2)
PROCESS = Diffusion.from_settings(DiffusionSettings())


def protocol(**changes) -> Protocol:
    values = {
        "dataset": "toy",
        "autoencoder": "toy",
        "extractor": "toy",
        "n_samples": 10,
        "guidance": 1.5,
        "guidance_channels": "all",
        "sampling_steps": 5,
        "x0_clamp": 4.0,
        "labels": "random",
        "seed": 0,
        "neighbours": 3,
        "kid_subset": 5,
        "inception_split": 10,
    }
    return Protocol(**(values | changes))


class Spy(nn.Module):
    """A fixed function of its inputs that remembers how it was called."""

    num_classes = 10

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def null_condition(self, y):
        return torch.full_like(y, 10)

    def forward(self, x, t, y):
        self.calls.append((x, t, y))
        shift = (y + 1).view(-1, 1, 1, 1) / 20
        return torch.cat([0.5 * x + shift, torch.tanh(x) - shift], dim=1)


def draw(indices, model=None, **changes):
    return sample_latents(
        model or Spy(), PROCESS, protocol(**changes), np.array(indices), shape=SHAPE
    )


def test_an_image_depends_on_its_batch_by_rounding_only():
    together, labels = draw(range(6))
    for index in (0, 3, 5):
        alone, label = draw([index])
        torch.testing.assert_close(alone[0], together[index], rtol=1e-5, atol=1e-6)
        assert label[0] == labels[index]


def test_a_shard_depends_on_the_batch_size_by_rounding_only():
    options = {"shape": SHAPE, "device": "cpu", "title": "toy"}
    whole, labels = sample_shard(
        Spy(), PROCESS, protocol(), first=0, count=7, batch_size=7, **options
    )
    late, late_labels = sample_shard(
        Spy(), PROCESS, protocol(), first=4, count=3, batch_size=2, **options
    )
    torch.testing.assert_close(late, whole[4:], rtol=1e-5, atol=1e-6)
    assert late_labels.tolist() == labels[4:].tolist()


def test_the_seed_changes_every_image():
    first, second = draw(range(3))[0], draw(range(3), seed=1)[0]
    assert ((first - second).abs().amax((1, 2, 3)) > 1e-3).all()


def test_each_training_seed_has_noise_of_its_own():
    options = {"first": 0, "count": 3, "batch_size": 3, "shape": SHAPE, "device": "cpu"}
    images = [
        sample_shard(Spy(), PROCESS, protocol(), training_seed=seed, title="toy", **options)[0]
        for seed in (0, 1)
    ]
    assert torch.equal(images[0], draw(range(3))[0])  # as before there were others
    assert ((images[0] - images[1]).abs().amax((1, 2, 3)) > 1e-3).all()


def test_two_models_start_from_the_same_noise():
    spies = [Spy(), Spy()]
    draw([0, 1], spies[0])
    draw([0, 1], spies[1], sampling_steps=9)
    assert torch.equal(spies[0].calls[0][0], spies[1].calls[0][0])


def test_the_model_sees_original_timesteps():
    """Not the index in the respaced chain: masks belong to the timesteps of training."""
    spy = Spy()
    draw([0], spy)
    assert [int(t[0]) for _, t, _ in spy.calls] == [999, 749, 500, 250, 0]


@pytest.mark.parametrize("guidance", [None, 1.0])
def test_without_guidance_there_is_one_pass_per_step(guidance):
    spy = Spy()
    draw([0, 1, 2], spy, guidance=guidance)
    assert [len(x) for x, _, _ in spy.calls] == [3] * 5


@pytest.mark.parametrize(("channels", "guided"), [("all", 4), ("first3", 3)])
def test_guidance_formula(channels, guided):
    """eps_u + s (eps_c - eps_u) on the guided channels; everything else is conditional."""
    spy = Spy()
    x, t, y = torch.randn(2, *SHAPE), torch.tensor([5, 5]), torch.tensor([1, 7])
    ours = guided_output(spy, x, t, y, guidance=1.5, channels=channels)
    conditional, unconditional = spy(x, t, y), spy(x, t, torch.tensor([10, 10]))
    expected = conditional.clone()
    difference = conditional[:, :guided] - unconditional[:, :guided]
    expected[:, :guided] = unconditional[:, :guided] + 1.5 * difference
    torch.testing.assert_close(ours, expected)


def test_guidance_rounds_nothing_in_reduced_precision():
    """Only the products of the network are in it."""

    class Reduced(Spy):
        def forward(self, x, t, y):
            return super().forward(x, t, y).bfloat16()

    x, t, y = torch.randn(4, *SHAPE), torch.full((4,), 5), torch.arange(4)
    output = Reduced()(torch.cat([x, x]), t, torch.cat([y, torch.full_like(y, 10)])).float()
    conditional, unconditional = output[:4, :4], output[4:, :4]
    ours = guided_output(Reduced(), x, t, y, guidance=1.5, channels="all")
    torch.testing.assert_close(ours[:, :4], unconditional + 1.5 * (conditional - unconditional))


def test_the_clamp_bounds_the_last_image():
    class Wild(Spy):
        def forward(self, x, t, y):
            return torch.cat([torch.full_like(x, -50.0), torch.zeros_like(x)], dim=1)

    assert draw([0], Wild(), guidance=None, x0_clamp=2.0)[0].max() <= 2.0
    assert draw([0], Wild(), guidance=None, x0_clamp=None)[0].max() > 2.0


def test_the_last_step_adds_no_noise():
    """With one timestep of noise left, the result is the posterior mean itself."""
    spy = Spy()
    x, _ = draw([0], spy, guidance=None)
    last, t, y = spy.calls[-1]
    chain = PROCESS.respaced(5)
    mean = chain.reverse_step(spy(last, t, y), last, torch.zeros(1, dtype=torch.long), clamp=4.0)
    torch.testing.assert_close(x, mean.mean)


def test_labels():
    many = np.arange(20000)
    random = ImageStreams(0, many).labels(10, balanced=False)
    counts = torch.bincount(random, minlength=10)
    assert counts.min() > 1800
    assert not torch.equal(random, torch.arange(20000) % 10)
    balanced = ImageStreams(0, many[3:13]).labels(10, balanced=True)
    assert balanced.tolist() == [3, 4, 5, 6, 7, 8, 9, 0, 1, 2]


class Reader(Spy):
    """Of captions, which it remembers like labels."""

    num_classes = 1

    def null_condition(self, y):
        return torch.zeros_like(y)

    def forward(self, x, t, y):
        self.calls.append((x, t, y))
        return torch.cat([0.5 * x + y.mean((1, 2)).view(-1, 1, 1, 1), x], dim=1)


def test_captions_take_the_place_of_labels():
    prompts = torch.randn(2, 3, 2)
    reader = Reader()
    sample_latents(reader, PROCESS, protocol(), np.array([4, 2]), shape=SHAPE, prompts=prompts)
    told = reader.calls[0][2]
    assert torch.equal(told[:2], prompts)
    assert told[2:].abs().max() == 0


def test_a_shard_has_the_captions_of_its_own_images_only():
    prompts, reader = torch.randn(5, 3, 2), Reader()
    options = {"first": 40, "count": 5, "batch_size": 2, "device": "cpu", "title": "toy"}
    sample_shard(reader, PROCESS, protocol(), shape=SHAPE, prompts=prompts, **options)
    told = [y[: len(y) // 2] for _, _, y in reader.calls[::5]]
    assert torch.equal(torch.cat(told), prompts)


def test_noise_of_a_device_belongs_to_the_image_and_its_step(monkeypatch):
    options = {"shape": SHAPE, "rng": "device"}
    whole, labels = sample_latents(Spy(), PROCESS, protocol(), np.arange(6), **options)
    part, own = sample_latents(Spy(), PROCESS, protocol(), np.array([4, 1]), **options)
    torch.testing.assert_close(part, whole[[4, 1]], rtol=1e-5, atol=1e-6)
    assert own.tolist() == labels[[4, 1]].tolist()
    host, host_labels = draw(range(6))
    assert host_labels.tolist() == labels.tolist()  # classes are drawn on the host everywhere
    assert ((host - whole).abs().amax((1, 2, 3)) > 1e-3).all()
    streams = ddpm.DeviceImageStreams(0, np.arange(2))
    first, second = streams.noise((64, 64)), streams.noise((64, 64))
    assert (first * second).mean().abs() < 0.05 and (first[0] * first[1]).mean().abs() < 0.06
    assert first.std().item() == pytest.approx(1, abs=0.05)


def test_where_noise_is_drawn():
    assert [rng_of("auto", device) for device in ("cpu", "cuda")] == ["host", "device"]
    assert rng_of("host", "cuda") == "host" and rng_of("device", "cpu") == "device"


def network(kind: str, label_dropout: float = 0.1) -> nn.Module:
    """A small routed network whose output is not zero."""
    dit = {"patch_size": 2, "width": 16, "depth": 2, "heads": 2}
    own = {
        "dit": dit,
        "dit_text": dit,
        "adm": {
            "model_channels": 8, "channel_mult": [1, 2], "num_res_blocks": 1,
            "attention_downsampling": [2], "num_head_channels": 8, "dropout": 0.0, "norm_groups": 4,
        },
    }[kind]  # fmt: skip
    text = {"text_tokens": 3, "text_width": 8} if kind == "dit_text" else {}
    inputs = Inputs(
        input_size=4, in_channels=4, num_classes=1 if text or not label_dropout else 10,
        label_dropout=label_dropout, **text,
    )  # fmt: skip
    torch.manual_seed(0)
    size = settings_model("backbone", kind)(type=kind, **own)
    routing = settings_model("routing", "dtr")(type="dtr", beta=0.8, alpha=4.0)
    model = build_backbone(size, inputs, routing).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    if text:
        model.null_tokens.normal_()
    return model


@pytest.mark.parametrize("kind", ["dit", "dit_text", "adm"])
def test_one_timestep_for_all_images_gives_the_same(kind, monkeypatch):
    model, options = network(kind), {"shape": (4, 4, 4)}
    if kind == "dit_text":
        options["prompts"] = torch.randn(6, 3, 8, generator=torch.Generator().manual_seed(0))
    experts = Experts([model, model], [(0, 500), (500, 1000)])
    each, _ = sample_latents(model, PROCESS, protocol(), np.arange(6), **options)
    rows = []

    def forward(module, inputs):
        rows.append(len(inputs[1]))

    model.register_forward_pre_hook(forward)
    monkeypatch.setattr(ddpm, "_timestep_rows", lambda *_: 1)
    for one in (model, experts):
        shared, _ = sample_latents(one, PROCESS, protocol(), np.arange(6), **options)
        torch.testing.assert_close(shared, each, rtol=1e-4, atol=1e-5)
    assert set(rows) == {1}


def test_only_networks_that_say_so_are_told_the_timestep_once():
    assert ddpm._timestep_rows(network("dit"), "cpu", 6) == 6
    assert ddpm._timestep_rows(network("dit"), "cuda:1", 6) == 1
    assert ddpm._timestep_rows(Spy(), "cuda", 6) == 6


def test_reduced_precision_is_a_protocol_of_its_own():
    model, plain, reduced = network("dit"), protocol(), protocol(dtype="bfloat16")
    assert plain.id != reduced.id and "dtype" not in plain.essence()
    images = [
        sample_latents(model, PROCESS, own, np.arange(3), shape=(4, 4, 4))[0]
        for own in (plain, reduced)
    ]
    assert images[1].dtype == torch.float32
    assert not torch.equal(*images)
    assert (images[0] - images[1]).abs().median() < 0.1
