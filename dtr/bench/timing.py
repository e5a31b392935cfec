"""Cases of the bench, and how one is timed: variants in turn, medians, ratios to the first.

Machines are shared and noisy: a ratio is taken within a round, in which every variant runs once.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from pydantic import BaseModel, ConfigDict

from dtr.support.errors import Refusal

LEAST_ROUNDS = 3
TOO_LARGE = "does not fit into the device's memory"


@dataclass(frozen=True)
class Bench:
    """What a case is built for: where networks are computed, a folder for files, its sizes."""

    device: str
    folder: Path
    small: bool = False  # a few seconds in all: shows that it runs, and nothing about speed
    threads: int = 1  # of the CPU
    processes: int = 1  # of the case of several; each takes a device
    stack: ExitStack = field(default_factory=ExitStack)  # what is closed when a case is done


@dataclass(frozen=True)
class Variant:
    """One way to do the work of a case; `run` does `units` of it, of `flops` operations in all."""

    run: Callable[[], object]
    units: int = 1
    flops: float | None = None  # of matrix products: a multiply-add counts twice


@dataclass(frozen=True)
class Case:
    """Work that is timed; `build` gives its variants by name, the baseline first."""

    name: str
    unit: str
    says: str
    build: Callable[[Bench], dict[str, Variant]]
    once: bool = False  # one round without a warm-up: work of many seconds
    alike: bool = True  # whether its variants do the same work, so that their ratio says something


class Timing(BaseModel):
    """How long a variant took: medians over the rounds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    variant: str
    rounds: int
    seconds: float  # of one unit
    fastest: float
    ratio: float | None  # to the baseline of the same round; None where that does other work
    flops_per_second: float | None = None
    utilisation: float | None = None  # of the measured bf16 matmul rate; GPUs only
    peak_bytes: int | None = None  # of the device's memory


class CaseTimes(BaseModel):
    """A case of the bench with its variants, or why it was left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    unit: str
    timings: list[Timing] = []
    reason: str | None = None


def time_case(case: Case, bench: Bench, *, seconds: float, rate: float | None = None) -> CaseTimes:
    """The times of a case's variants in rounds of one each, for `seconds` or three rounds.

    rate: measured matrix products per second of the device, for the utilisation.
    """
    try:
        variants = case.build(bench)
    except Refusal as refusal:
        return CaseTimes(name=case.name, unit=case.unit, reason=str(refusal))
    except torch.OutOfMemoryError:
        return CaseTimes(name=case.name, unit=case.unit, reason=TOO_LARGE)
    peaks: dict[str, int | None] = {}
    if not case.once:
        for name, variant in list(variants.items()):
            try:
                peaks[name] = _peak(variant, bench.device)
            except torch.OutOfMemoryError:
                del variants[name], variant
                torch.cuda.empty_cache()
        if not variants:
            return CaseTimes(name=case.name, unit=case.unit, reason=TOO_LARGE)
    rounds: list[dict[str, float]] = []
    begun = time.perf_counter()
    least = 1 if case.once or bench.small else LEAST_ROUNDS
    while len(rounds) < least or (not case.once and time.perf_counter() - begun < seconds):
        names = list(variants)
        order = names if len(rounds) % 2 == 0 else names[::-1]
        taken = {name: seconds_of(variants[name], bench.device) for name in order}
        rounds.append(taken)
    first = next(iter(variants))
    timings = []
    for name, variant in variants.items():
        own = [one[name] for one in rounds]
        speed = variant.flops and variant.flops / (median(own) * variant.units)
        timings.append(
            Timing(
                variant=name,
                rounds=len(rounds),
                seconds=median(own),
                fastest=min(own),
                ratio=median(one[name] / one[first] for one in rounds) if case.alike else None,
                flops_per_second=speed,
                utilisation=speed / rate if speed and rate else None,
                peak_bytes=peaks.get(name),
            )
        )
    return CaseTimes(name=case.name, unit=case.unit, timings=timings)


def seconds_of(variant: Variant, device: str) -> float:
    """Seconds of one unit of one run."""
    wait(device)
    begun = time.perf_counter()
    variant.run()
    wait(device)
    return (time.perf_counter() - begun) / variant.units


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _peak(variant: Variant, device: str) -> int | None:
    """Run once to warm up; the largest memory of the device meanwhile."""
    if not device.startswith("cuda"):
        variant.run()
        return None
    torch.cuda.reset_peak_memory_stats(device)
    variant.run()
    wait(device)
    return torch.cuda.max_memory_allocated(device)


def matmul_rate(device: str, *, size: int = 8192, repeats: int = 10) -> float:
    """Operations per second of bf16 products of [size, size] random matrices: what can be had."""
    first, second = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    variant = Variant(lambda: first @ second)
    for _ in range(3):
        variant.run()
    return 2 * size**3 / median(seconds_of(variant, device) for _ in range(repeats))
