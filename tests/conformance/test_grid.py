"""Every backbone with every registered routing and weighting keeps the contract of a run.

Parts of an installed package are picked up by themselves; for the constants that a scale does not
give, their settings model has to say `example`, as in test_parts.py.
"""

import io
import itertools
from contextlib import nullcontext
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from dtr.config.checks import load_scale
from dtr.config.resolve import run_settings
from dtr.config.scale import Scale
from dtr.data.rows import EVERY, TrainingData
from dtr.experiments import RUNS, SLOTS, Run
from dtr.planning.evaluations import protocol
from dtr.registry import BUILT_IN, Family, known_names, named, settings_model
from dtr.sampling.ddpm import sample_latents
from dtr.support.settings import parse
from dtr.training.distributed import World
from dtr.training.trainer import Trainer

PRESETS = {  # of the smoke scale: a slot it can be trained on
    "DiT-B/2": "class_conditional",
    "DiT-L/2": "unconditional",
    "DiT-B/2-t2i": "text_conditional",
    "ADM-64": "pixel_class_conditional",
}
BACKBONES = (*PRESETS, *(n for n in known_names("backbone") if n not in BUILT_IN["backbone"]))
GRID = list(itertools.product(BACKBONES, known_names("routing"), known_names("weighting")))


class RandomData(TrainingData):
    """Noise in the place of images: what is tested does not depend on them."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(self.manifest["shape"])

    def sample(
        self, rows: np.ndarray, draws: np.random.Generator, part: slice = EVERY
    ) -> np.ndarray:
        draws.standard_normal(3)  # so that the next draws differ from those without sampling
        return np.random.default_rng(0).standard_normal((64, *self.shape), np.float32)[rows[part]]


@pytest.fixture(scope="module")
def smoke(root):
    text = (root / "workflow/config/smoke.yaml").read_text(encoding="utf-8")
    return load_scale(yaml.safe_load(text), source="smoke.yaml")


CONSTANTS = {  # of runs whose scale gives none
    "dtr": {"alpha": 4.0},
    "cdtr": {"alpha": 4.0, "clusters": 8},
    "ercdt": {"clusters": 8},
    "max_roaming": {"period": 2},
}


def constants_of(family: Family, name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Constants of a part for a trial; skipped where nothing gives one that it needs."""
    if name in BUILT_IN[family]:
        return CONSTANTS.get(name, {})
    model = settings_model(family, name)
    example = getattr(model, "example", {})
    needed = {field for field, info in model.model_fields.items() if info.is_required()}
    if missing := sorted(needed - {"type", *example, *given}):
        lacking = f"add `example` with {', '.join(missing)} to its settings {model.__name__}"
        pytest.skip(f"{named(family, name)}: {lacking}")
    return example


def slot_of(backbone: str) -> str:
    """A slot that a backbone can be trained on."""
    if backbone in PRESETS:
        return PRESETS[backbone]
    size = settings_model("backbone", backbone)
    return next(n for n, s in SLOTS.items() if s.space == size.space and s.told in size.told)


def with_backbone(smoke: Scale, backbone: str) -> Scale:
    """The scale, with a size of a backbone from outside."""
    if backbone in PRESETS:
        return smoke
    own = {"type": backbone} | constants_of("backbone", backbone, {})
    size = parse(settings_model("backbone", backbone), own, source=backbone)
    return smoke.model_copy(update={"backbones": smoke.backbones | {backbone: size}})


def resolved(smoke: Scale, backbone: str, routing: str, weighting: str):
    filled = smoke.routing.model_dump(exclude_none=True) | {"period": None}
    routed = {"type": routing} | constants_of("routing", routing, filled)
    given = smoke.weighting.get(weighting, {})
    weighted = {"type": weighting} | constants_of("weighting", weighting, given)
    run = Run(
        id="grid",
        slot=slot_of(backbone),
        backbone=backbone,
        routing=routed,
        weighting=weighted,
        iterations=100_000,
    )
    return run_settings(with_backbone(smoke, backbone), run, 0)


@cache
def tokens() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((65, 16, 32), np.float32)


def trainer_of(settings, world: World | None = None, **options) -> Trainer:
    inputs = settings.inputs
    text = {"tokens": tokens(), "first": np.arange(65)} if inputs.text_tokens else {}
    manifest = {"shape": list(inputs.shape), "content_hash": "random"}
    data = RandomData(manifest=manifest, labels=np.arange(64) % 10, **text)
    trainer = Trainer(settings, data, world or World(), **options)
    trainer.model.train()
    return trainer


@pytest.mark.parametrize(("backbone", "routing", "weighting"), GRID)
def test_two_steps_learn_and_a_checkpoint_resumes_exactly(smoke, backbone, routing, weighting):
    settings = resolved(smoke, backbone, routing, weighting)
    trainer = trainer_of(settings)
    before = {name: tensor.clone() for name, tensor in trainer.ema.items()}
    losses = [trainer.train_step()[0] for _ in range(2)]
    assert all(torch.isfinite(loss) for loss in losses)
    assert any(not torch.equal(before[name], tensor) for name, tensor in trainer.ema.items())
    resumed = trainer_of(settings)
    resumed.restore(torch_round_trip(trainer.state()))
    for other in (trainer, resumed):
        other.train_step()
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    for name, tensor in trainer.ema.items():
        assert torch.equal(tensor, resumed.ema[name]), name


def torch_round_trip(state):
    """What a checkpoint on disk would give back."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize(("backbone", "routing", "weighting"), GRID)
def test_the_loss_of_a_fixed_batch_falls(smoke, backbone, routing, weighting):
    trainer = trainer_of(resolved(smoke, backbone, routing, weighting))
    batch = trainer.batch()
    trainer.batch = lambda: batch
    losses = [trainer.train_step() for _ in range(15)]
    assert torch.isfinite(torch.stack(losses)).all()
    errors = [values[1].item() for values in losses]
    assert np.mean(errors[-3:]) < np.mean(errors[:3])


@pytest.mark.parametrize(
    ("backbone", "routing"), list(itertools.product(BACKBONES, known_names("routing")))
)
def test_routing_adds_no_parameter_and_starts_at_zero(smoke, backbone, routing):
    routed = trainer_of(resolved(smoke, backbone, routing, "vanilla"))
    plain = trainer_of(resolved(smoke, backbone, "none", "vanilla"))
    sizes = [{n: p.shape for n, p in t.model.named_parameters()} for t in (routed, plain)]
    assert sizes[0] == sizes[1]
    x0, t, y, _ = routed.batch()
    if backbone in PRESETS:  # how a network from outside starts is its own affair
        assert routed.model.eval()(x0, t, y).abs().max() == 0


@pytest.mark.parametrize(
    ("backbone", "routing"), list(itertools.product(BACKBONES, known_names("routing")))
)
def test_an_image_is_the_same_alone_and_in_a_batch(smoke, backbone, routing):
    settings = resolved(smoke, backbone, routing, "vanilla")
    trainer = trainer_of(settings)
    for _ in range(3):
        trainer.train_step()
    model = trainer.model.eval()
    chosen = protocol(smoke, slot_of(backbone))

    def drawn(indices: list[int]) -> torch.Tensor:
        told = torch.from_numpy(tokens()[indices]) if settings.inputs.text_tokens else None
        options = {"shape": trainer.data.shape, "prompts": told}
        process = trainer.objective.diffusion
        return sample_latents(model, process, chosen, np.array(indices), **options)[0]

    together, alone = drawn([0, 1, 2, 3]), drawn([2])
    assert torch.isfinite(together).all()
    torch.testing.assert_close(together[2:3], alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("weighting", known_names("weighting"))
def test_gradients_do_not_depend_on_how_the_batch_is_cut(smoke, backbone, weighting):
    """In portions, or as the mean of two processes; dropout and stratification are global."""
    settings = resolved(smoke, backbone, "dtr", weighting)
    whole = gradients(trainer_of(settings))
    portions = gradients(trainer_of(settings, accumulation=2))
    parts = [gradients(trainer_of(settings, alone_of_two(rank))) for rank in (0, 1)]
    for name, gradient in whole.items():
        torch.testing.assert_close(portions[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
        mean = (parts[0][name] + parts[1][name]) / 2
        torch.testing.assert_close(mean, gradient, rtol=1e-4, atol=1e-6, msg=name)


def alone_of_two(rank: int) -> World:
    """One of two processes, whose gradients nobody averages."""
    world = World(rank, 2)
    object.__setattr__(world, "wrap", lambda module: module)
    object.__setattr__(world, "adding_up", lambda module, more: nullcontext())
    return world


def gradients(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Of one step, of all parameters, the weighting's included; none starts at zero."""
    for parameter in trainer.model.parameters():
        torch.manual_seed(parameter.numel())
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    trainer.optimizer.step = lambda: None
    trainer.train_step()
    return {n: p.grad for n, p in trainer.objective.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("backbone", BACKBONES)
def test_all_channels_are_no_routing_bit_for_bit(smoke, backbone):
    plain = trainer_of(resolved(smoke, backbone, "none", "vanilla"))
    settings = resolved(smoke, backbone, "dtr", "vanilla")
    whole = settings.routing.model_copy(update={"beta": 1.0})
    routed = trainer_of(settings.model_copy(update={"routing": whole}))
    for trainer in (plain, routed):
        for _ in range(3):
            trainer.train_step()
    for name, tensor in plain.ema.items():
        assert torch.equal(tensor, routed.ema[name]), name


def test_the_grid_covers_the_paper():
    """Every pair of routing and weighting that a run of the paper has is in the grid."""
    pairs = {(run.routing.type, run.weighting.type) for run in RUNS}
    assert pairs <= {(routing, weighting) for _, routing, weighting in GRID}
