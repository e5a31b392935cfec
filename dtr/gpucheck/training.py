"""Trainings here: beside those of a CPU, killed and resumed, cut over processes; their memory."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from dtr.analysis.throughput import noise_trainer
from dtr.bench.timing import Bench
from dtr.bench.training_cases import (
    DIGITS,
    SMALL_ADM,
    cached_latents,
    of_paper,
    with_network,
    with_precision,
)
from dtr.config.backbones import DiTSize, Inputs
from dtr.config.stages import RunSettings
from dtr.data.latents import LatentDataset
from dtr.gpucheck.results import Check, judged, left_out
from dtr.support.files import canonical_json
from dtr.support.gpus import LAUNCHER
from dtr.training.distributed import World
from dtr.training.feed import build_feed
from dtr.training.means import GRAPHS, Means
from dtr.weighting import build_weighting

CURVE = {"float32": 1e-2, "bfloat16": 5e-2}  # of the loss, in means over a tenth of the steps
WAYS = 1e-2  # of the same, with other kernels in the same precision
HOST = Means(rng="host")  # noise as on a CPU
PATIENCE = 300  # seconds for one training of a check
BLOCKS = (4, 8)  # depths whose memory is compared
PART = 0.5  # of one block's output: what routing may keep of a block more than no routing does


def digits_run(precision: str = "float32", batch_size: int = 32) -> RunSettings:
    """The class-conditional DiT-L/2 of `digits` with DTR."""
    size = DiTSize(type="dit", patch_size=2, width=96, depth=2, heads=4)
    settings = with_network(size, Inputs(**DIGITS, num_classes=10), batch_size)
    training = settings.training.model_copy(update={"learning_rate": 1e-3})
    return with_precision(settings.model_copy(update={"training": training}), precision)


def curves(device: str, steps: int) -> Check:
    """Losses of the same training on the CPU and here, noise drawn on the host for both."""
    losses = {"CPU": losses_of(digits_run(), "cpu", steps)}
    differences = {}
    for precision in CURVE:
        losses[precision] = losses_of(digits_run(precision), device, steps)
        differences[precision] = float((losses[precision] / losses["CPU"] - 1).abs().max())
    good = all(differences[name] <= limit for name, limit in CURVE.items())
    shown = ", ".join(
        f"{name} {value:.1e} ({CURVE[name]:g})" for name, value in differences.items()
    )
    says = f"{steps} steps, largest relative difference of the loss (accepted): {shown}"
    return judged("training curve", good, says, steps=steps, **differences)


def losses_of(settings: RunSettings, device: str, steps: int, means: Means = HOST) -> Tensor:
    """Losses of a training on noise, in means over a tenth of the steps: [10] float32."""
    trainer = noise_trainer(settings, device, means)
    losses = torch.stack([trainer.train_step()[0] for _ in range(steps)])
    return losses.view(10, -1).mean(dim=1).cpu()


def resume(device: str, folder: Path, steps: int) -> Check:
    """A training killed by SIGKILL and started again ends in the same weights, bit for bit.

    With kernels of a fixed order (`execution.attention: ordered`): the fast attention adds up
    gradients in whatever order its blocks end.
    """
    data = cached_latents(folder / "latents", 256, (4, 4, 4))
    whole = _train(folder / "whole", data, device, steps)
    killed = _train(folder / "killed", data, device, steps, kill=True)
    exact, error = _same(whole, killed)
    says = "bit for bit the weights of an undisturbed one" if exact else f"differs by {error:.1e}"
    values: dict[str, float | bool] = {"exact": exact, "error": error}
    if device != "cpu":
        fast = [
            _train(folder / f"fast{kill}", data, device, steps, kill=kill, attention="fast")
            for kill in (False, True)
        ]
        values["fast_exact"], values["fast_error"] = _same(*fast)
        says += f"; with the fast attention it differs by {values['fast_error']:.1e}"
    return judged("kill and resume", exact, says, steps=steps, **values)


def processes(device: str, folder: Path, steps: int, count: int) -> Check:
    """Two processes train the weights of one, up to the order of sums."""
    if count < 2:
        return left_out("processes", "one GPU; --processes 2 compares two with one")
    data = cached_latents(folder / "data", 256, (4, 4, 4))
    one = _train(folder / "one", data, device, steps)
    several = _train(folder / "several", data, device, steps, processes=count)
    _, error = _same(one, several)
    says = f"{count} processes end within {error:.1e} of one after {steps} steps (accepted 1e-4)"
    return judged("processes", error <= 1e-4, says, processes=count, error=error)


def _same(first: Path, second: Path) -> tuple[bool, float]:
    tensors = [load_file(folder / "ema.safetensors") for folder in (first, second)]
    pairs = [(tensor.float(), tensors[1][name].float()) for name, tensor in tensors[0].items()]
    error = max(float((a - b).abs().max()) for a, b in pairs)
    return all(torch.equal(a, b) for a, b in pairs), error


def _train(
    folder: Path,
    data: Path,
    device: str,
    steps: int,
    *,
    kill: bool = False,
    attention: str = "ordered",
    processes: int = 1,
) -> Path:
    """Train by the command line, in processes of its own; returns the folder of the result."""
    start = [sys.executable, "-m", "dtr"]
    if processes > 1:
        launcher = ("--standalone", f"--nproc-per-node={processes}", "-m", "--", "dtr")
        start = [sys.executable, "-m", "torch.distributed.run", *launcher]
    command = [
        *start, "train", "--run", "gpucheck", "--step", str(steps),
        "--settings", canonical_json(digits_run().plain()), "--data", str(data),
        "--work", str(folder / "work"), "--out", str(folder / "out"), "--device", device,
        "--checkpoint-seconds", "0", "--attention", attention,
    ]  # fmt: skip
    # The GPU is this process's, which the trainings end with.
    own = {LAUNCHER: str(os.getpid()), "LOCAL_WORLD_SIZE": "1"}
    environment = {k: v for k, v in os.environ.items() if k != "DTR_WARM"} | own
    with open(folder.parent / f"{folder.name}.log", "a+b") as log:
        if kill:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            _kill_amid(process, folder / "work")
        answer = subprocess.run(
            command, stdout=log, stderr=log, env=environment, timeout=PATIENCE, check=False
        )
        if answer.returncode:
            log.seek(0)
            said = log.read().decode(errors="replace").strip().splitlines()
            raise RuntimeError(f"the training ended with {answer.returncode}: {said[-1:]}")
    return folder / "out"


def _kill_amid(process: subprocess.Popen, work: Path) -> None:
    """Kill a training as soon as it has written two checkpoints."""
    until = time.monotonic() + PATIENCE
    while process.poll() is None and len(list(work.glob("*/step-*.json"))) < 2:
        if time.monotonic() > until:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()


def ways(device: str, steps: int) -> Check:
    """Losses of trainings that are compiled or laid out otherwise, beside plain ones."""
    pixels = Inputs(input_size=8, in_channels=3, num_classes=10, label_dropout=0.1)
    networks = {"DiT": digits_run(), "ADM": with_network(SMALL_ADM, pixels, 32)}
    chosen = {("ADM", "channels last"): Means(memory_format="channels_last")}
    if device != "cpu":  # where compiling takes longer than all else that is checked
        chosen |= {
            ("DiT", "compiled"): Means(compile="blocks"),
            ("DiT", "CUDA graphs"): Means(compile=GRAPHS),
            ("ADM", "compiled"): Means(compile="blocks", memory_format="channels_last"),
        }
    plain = {name: losses_of(settings, device, steps, Means()) for name, settings in
             networks.items()}  # fmt: skip
    errors = {
        f"{name}, {way}": float(
            (losses_of(networks[name], device, steps, means) / plain[name] - 1).abs().max()
        )
        for (name, way), means in chosen.items()
    }
    shown = ", ".join(f"{name} {error:.1e}" for name, error in errors.items())
    says = f"{steps} steps, largest relative difference of the loss: {shown} (accepted {WAYS:g})"
    return judged("other ways", max(errors.values()) <= WAYS, says, steps=steps, **errors)


def parts(device: str, folder: Path) -> Check:
    """Batches of two processes are those of one, noise drawn on the device."""
    data = LatentDataset.open(cached_latents(folder, 64, (4, 4, 4)))
    settings = digits_run(batch_size=16)
    rule = build_weighting(settings.weighting, np.ones(1000))
    whole, *halves = (
        build_feed(data, settings, rule, World(rank, size, device), rng="device").batch(3)
        for rank, size in ((0, 1), (0, 2), (1, 2))
    )
    equal = all(
        torch.equal(torch.cat(cut), value) for *cut, value in zip(*halves, whole, strict=True)
    )
    says = f"parts of two processes are {'exactly' if equal else 'not'} the batch of one"
    return judged("parts of a batch", equal, says)


def memory(device: str, *, small: bool) -> Check:
    """What routing keeps of a block for the backward pass, beyond what no routing keeps."""
    if device == "cpu":
        return left_out("memory of routing", "a CPU does not say how much a step has held")
    settings = of_paper("DiT-S/2", Bench(device, Path(), small))
    batch, size = settings.training.batch_size, settings.backbone
    peaks = {}
    for routed in (True, False):
        for depth in BLOCKS:
            deep = settings.model_copy(
                update={"backbone": size.model_copy(update={"depth": depth})}
            )
            trainer = noise_trainer(with_precision(deep, "bfloat16"), device)
            if not routed:
                trainer.model.routing = None
            trainer.train_step()
            torch.cuda.reset_peak_memory_stats(device)
            trainer.train_step()
            peaks[routed, depth] = torch.cuda.max_memory_allocated(device)
            del trainer
            torch.cuda.empty_cache()
    grown = {routed: peaks[routed, 8] - peaks[routed, 4] for routed in (True, False)}
    extra = (grown[True] - grown[False]) / (BLOCKS[1] - BLOCKS[0])
    tokens = (settings.inputs.input_size // size.patch_size) ** 2
    share = extra / (4 * batch * tokens * size.width)
    says = f"{extra / 1e6:.1f} MB more per block: {share:.2f} of its output (accepted {PART})"
    return judged("memory of routing", share <= PART, says, bytes_per_block=extra, share=share)
