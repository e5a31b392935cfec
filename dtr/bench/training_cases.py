"""Cases of training: one step of each kind of network, and the host's share of it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch

from dtr.analysis.counting import count_network
from dtr.analysis.throughput import BYTES_PER_PARAMETER, noise_trainer, paper_settings
from dtr.bench.timing import Bench, Case, Variant
from dtr.config.backbones import AdmSize, DiTSize, Inputs, TextDiTSize
from dtr.config.stages import RunSettings
from dtr.data.batches import draw_batch, draw_rows
from dtr.data.latents import LatentDataset
from dtr.support.errors import Refusal
from dtr.support.files import hash_file, hash_json, write_json
from dtr.training.core import REDUCED
from dtr.training.means import GRAPHS, Means
from dtr.training.trainer import Trainer
from dtr.weighting import build_weighting

ADM_64 = AdmSize(
    type="adm",
    model_channels=192,
    channel_mult=[1, 2, 3, 4],
    num_res_blocks=3,
    attention_downsampling=[2, 4, 8],
    num_head_channels=64,
    dropout=0.1,
)
SMALL_ADM = AdmSize(
    type="adm",
    model_channels=16,
    channel_mult=[1, 2],
    num_res_blocks=1,
    attention_downsampling=[2],
    num_head_channels=16,
    dropout=0.1,
    norm_groups=8,
)
DIGITS = {"input_size": 4, "in_channels": 4, "label_dropout": 0.1}
# Batch sizes (device "cuda", CPU): the paper's 256 where it fits, on CPUs what takes some seconds.
STEPS = {
    "DiT-S/2": (256, 16),
    "DiT-B/2": (256, 4),
    "DiT-L/2": (64, 1),
}


def of_paper(name: str, bench: Bench) -> RunSettings:
    """A run of one of the paper's DiT sizes at its bench's batch size."""
    on_gpu, on_cpu = STEPS[name]
    size = 2 if bench.small else on_gpu if bench.device != "cpu" else on_cpu
    settings = paper_settings(name, size)
    if bench.small:
        tiny = DiTSize(type="dit", patch_size=2, width=32, depth=2, heads=2)
        settings = settings.model_copy(update={"backbone": tiny})
    return settings


def with_network(backbone, inputs: Inputs, batch_size: int) -> RunSettings:
    """A run with DTR of any network."""
    settings = paper_settings("DiT-S/2", batch_size)
    return settings.model_copy(update={"backbone": backbone, "inputs": inputs})


def with_precision(settings: RunSettings, precision: str) -> RunSettings:
    """The run in another precision."""
    training = settings.training.model_copy(update={"precision": precision})
    return settings.model_copy(update={"training": training})


def _check_memory(settings: RunSettings, device: str, copies: int) -> None:
    if device != "cpu":
        return
    network = count_network(settings.backbone, settings.inputs)
    needed = copies * BYTES_PER_PARAMETER * network.parameters
    if (free := psutil.virtual_memory().available) < needed:
        raise Refusal(f"needs {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free")


def step_variants(
    bench: Bench, settings: RunSettings, ways: dict[str, tuple[str, Means]]
) -> dict[str, Variant]:
    """Training steps of one run by precision and means, by name.

    Ways of the same means share a trainer. Where a name ends in ", no routing", its masks are out.
    """
    _check_memory(settings, bench.device, len({means for _, means in ways.values()}))
    network = count_network(settings.backbone, settings.inputs)
    flops = 3 * 2 * network.macs * settings.training.batch_size  # forward, and twice that backward
    variants, trainers = {}, {}
    for name, (precision, means) in ways.items():
        if means not in trainers:
            trainers[means] = noise_trainer(settings, bench.device, means)
        step = partial(_step, trainers[means], precision, routed=not name.endswith(WITHOUT))
        variants[name] = Variant(step, flops=flops)
    return variants


def _step(trainer: Trainer, precision: str, *, routed: bool) -> None:
    """A step in a precision (not float16, which has a loss scale), with masks or without."""
    trainer.objective.reduced = REDUCED.get(precision)
    masks = trainer.model.routing
    if not routed:
        trainer.model.routing = None
    try:
        trainer.train_step()
    finally:
        trainer.model.routing = masks


WITHOUT = ", no routing"
EAGER = ("float32", Means())


def _step_of_paper(name: str) -> Callable[[Bench], dict[str, Variant]]:
    def build(bench: Bench) -> dict[str, Variant]:
        on_gpu = bench.device != "cpu"
        ways = {"float32": EAGER, "bfloat16": ("bfloat16", Means())}
        if not bench.small and (on_gpu or name == "DiT-S/2"):
            ways["bfloat16, compiled"] = ("bfloat16", Means(compile="blocks"))
        if not bench.small and on_gpu:
            ways[f"bfloat16, compiled{WITHOUT}"] = ways["bfloat16, compiled"]
            ways["bfloat16, CUDA graphs"] = ("bfloat16", Means(compile=GRAPHS))
        if not bench.small and on_gpu and name == "DiT-L/2":
            del ways["float32"]  # four of them would not fit beside their activations
            del ways["bfloat16, CUDA graphs"]
            ways["bfloat16, compiled, recomputed"] = (
                "bfloat16",
                Means(compile="blocks", recompute="blocks"),
            )
        return step_variants(bench, of_paper(name, bench), ways)

    return build


def _step_of_adm(bench: Bench) -> dict[str, Variant]:
    size = SMALL_ADM if bench.small else ADM_64
    side, batch = (8, 2) if bench.small else (64, 1 if bench.device == "cpu" else 64)
    inputs = Inputs(input_size=side, in_channels=3, num_classes=1000, label_dropout=0.1)
    last = Means(memory_format="channels_last")
    ways = {
        "float32": EAGER,
        "bfloat16": ("bfloat16", Means()),
        "float32, channels last": ("float32", last),
        "bfloat16, channels last": ("bfloat16", last),
    }
    if bench.device != "cpu" and not bench.small:
        for name, layout in (("", "contiguous"), (", channels last", "channels_last")):
            means = Means(compile="blocks", memory_format=layout)
            ways[f"bfloat16, compiled{name}"] = ("bfloat16", means)
    return step_variants(bench, with_network(size, inputs, batch), ways)


def _step_at_digits(bench: Bench) -> dict[str, Variant]:
    size = DiTSize(type="dit", patch_size=2, width=96, depth=2, heads=4)
    settings = with_network(size, Inputs(**DIGITS, num_classes=10), 32)
    ways = {
        "DTR": EAGER,
        f"DTR{WITHOUT}": EAGER,
        "DTR, batches ahead": ("float32", Means(ahead=4)),
        "DTR, noise of the device": ("float32", Means(rng="device")),
    }
    if bench.device != "cpu" and not bench.small:
        ways["DTR, compiled"] = ("float32", Means(compile="blocks"))
        ways["DTR, CUDA graphs"] = ("float32", Means(compile=GRAPHS))
    return step_variants(bench, settings, ways)


def _steps_of_others(bench: Bench) -> dict[str, Variant]:
    text = TextDiTSize(type="dit_text", patch_size=2, width=72, depth=2, heads=4)
    told = Inputs(**DIGITS, num_classes=1, text_tokens=16, text_width=64)
    pixels = Inputs(input_size=8, in_channels=3, num_classes=10, label_dropout=0.1)
    runs = {
        "DiT-B/2 with captions": with_network(text, told, 32),
        "ADM": with_network(SMALL_ADM, pixels, 32),
    }
    return {
        name: Variant(noise_trainer(settings, bench.device).train_step)
        for name, settings in runs.items()
    }


def cached_latents(folder: Path, count: int, shape: tuple[int, int, int]) -> Path:
    """The manifest of made-up latents [C, h, w] and their mirrors, stored as the cache does."""
    folder.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(0)
    moments = draws.standard_normal((count, 2, 2, *shape), dtype=np.float32)
    arrays = {"labels.npy": np.arange(count) % 10, "shard-00000.npy": moments}
    for name, array in arrays.items():
        np.save(folder / name, array)
    files = {name: hash_file(folder / name) for name in arrays}
    manifest = {
        "dataset": "noise", "count": count, "mirrors": 2, "shape": list(shape),
        "scale_factor": 0.18215, "files": files, "content_hash": hash_json(files),
        "sizes": {name: (folder / name).stat().st_size for name in arrays},
    }  # fmt: skip
    write_json(folder / "manifest.json", manifest)
    return folder / "manifest.json"


def _host(bench: Bench) -> dict[str, Variant]:
    size = 8 if bench.small else 256
    manifest = cached_latents(bench.folder / "latents", 8 * size, (4, 32, 32))
    data = LatentDataset.open(manifest)
    settings = paper_settings("DiT-B/2", size)
    rule = build_weighting(settings.weighting, None)
    step = iter(range(10**9))

    def drawing(function: Callable, processes: int) -> Callable[[], object]:
        part = slice(0, size // processes)
        return lambda: function(data, settings, rule, next(step), part)

    # A unit is an image of the global batch, of which a process of eight makes one in eight.
    return {
        "all drawn on the host": Variant(drawing(draw_batch, 1), size),
        "of eight processes": Variant(drawing(draw_batch, 8), size),
        "noise on the device": Variant(drawing(draw_rows, 1), size),
        "of eight, noise on the device": Variant(drawing(draw_rows, 8), size),
    }


def _philox(bench: Bench) -> dict[str, Variant]:
    from dtr.seeding import generator
    from dtr.support.philox import normal

    images = 8 if bench.small else 256
    shape = (4, 32, 32)
    keys = torch.tensor([[1, 2, 3, 4]], device=bench.device).expand(images, 4)
    numbers = torch.arange(images, device=bench.device)

    def host() -> torch.Tensor:
        drawn = generator(0, "step", 0).standard_normal((images, *shape), dtype=np.float32)
        return torch.from_numpy(drawn).to(bench.device)

    return {
        "NumPy, moved": Variant(host, images),
        "Philox on the device": Variant(lambda: normal(keys, numbers, shape), images),
    }


CASES = (
    Case("step-digits", "step", "DiT-L/2 of `digits`, batch 32", _step_at_digits),
    Case(
        "step-others",
        "step",
        "captions and ADM of `digits`, batch 32",
        _steps_of_others,
        alike=False,
    ),
    Case("step-dit-s2", "step", "DiT-S/2 on latents of 4x32x32", _step_of_paper("DiT-S/2")),
    Case("step-dit-b2", "step", "DiT-B/2 on latents of 4x32x32", _step_of_paper("DiT-B/2")),
    Case("step-dit-l2", "step", "DiT-L/2 on latents of 4x32x32", _step_of_paper("DiT-L/2")),
    Case("step-adm-64", "step", "ADM at 64 pixels", _step_of_adm),
    Case("host", "image", "assembling batches of cached latents", _host),
    Case("noise", "image", "noise of 4x32x32 latents on the device", _philox),
)
