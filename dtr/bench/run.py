"""The bench as a whole: chosen cases one after the other, a table, a record, a comparison."""

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from dtr.bench import (
    drawing_cases,
    measuring_cases,
    scaling_cases,
    training_cases,
    workflow_cases,
)
from dtr.bench.timing import Bench, Case, CaseTimes, matmul_rate, time_case
from dtr.records.provenance import provenance
from dtr.records.schema import Record, write_record
from dtr.support.errors import Refusal
from dtr.support.progress import Progress

MODULES = (training_cases, scaling_cases, drawing_cases, measuring_cases, workflow_cases)
CASES = {case.name: case for module in MODULES for case in module.CASES}
BUSY = 0.3  # load by the number of cores above which another's work is in the times
LONG = ("step-dit-l2", "step-adm-64", "distances-50k")  # on two cores; run when they are named


class BenchRecord(Record):
    """What a machine took for each case; the machine is told by `provenance`."""

    device: str
    threads: int
    small: bool = False
    load: float | None = None  # processes that wanted a core when it began, mean of a minute
    matmul_rate: float | None = None  # bf16 operations per second, measured; GPUs only
    cases: list[CaseTimes]


def chosen_cases(names: Sequence[str], device: str) -> list[Case]:
    """The named cases, or all but those that take long on a CPU; unknown names are refused."""
    if unknown := [name for name in names if name not in CASES]:
        raise Refusal(f"--cases {unknown[0]}: unknown; known: {', '.join(CASES)}")
    if names:
        return [CASES[name] for name in dict.fromkeys(names)]
    return [case for case in CASES.values() if device != "cpu" or case.name not in LONG]


def run_bench(
    names: Sequence[str],
    out: Path,
    *,
    device: str = "cpu",
    seconds: float = 10,
    small: bool = False,
    processes: int = 1,
) -> BenchRecord:
    """Time the cases and write their record; what is done is printed and kept case by case.

    seconds: of each case, in rounds of all of its variants; three rounds at least.  processes: at
    most, of the case of several.
    """
    started, load = time.perf_counter(), os.getloadavg()[0]
    if load > BUSY * (cores := os.cpu_count() or 1):
        print(f"this machine is busy (load {load:.1f} of {cores} cores): believe ratios only")
    cases = chosen_cases(names, device)
    rate = matmul_rate(device) if device != "cpu" else None
    times: list[CaseTimes] = []

    def record() -> BenchRecord:
        return BenchRecord(
            device=device,
            threads=torch.get_num_threads(),
            small=small,
            load=load,
            matmul_rate=rate,
            cases=times,
            provenance=provenance(device),
            wall_seconds=time.perf_counter() - started,
        )

    with Progress("bench", len(cases), unit="case") as progress:
        for case in cases:
            with tempfile.TemporaryDirectory(prefix="dtr-bench-") as folder, ExitStack() as stack:
                threads = torch.get_num_threads()
                bench = Bench(device, Path(folder), small, threads, processes, stack)
                times.append(time_case(case, bench, seconds=seconds, rate=rate))
            if device != "cpu":
                torch.cuda.empty_cache()
            print("\n".join(lines(times[-1])), flush=True)
            write_record(out, record())
            progress.advance()
    return record()


def lines(times: CaseTimes) -> Iterator[str]:
    """The rows of a case in the printed table."""
    yield f"{times.name} (per {times.unit}): {CASES[times.name].says}"
    if times.reason is not None:
        yield f"  left out: {times.reason}"
    for timing in times.timings:
        seconds = timing.seconds
        shown = f"{seconds:9.3f} s " if seconds >= 1 else f"{1000 * seconds:9.3f} ms"
        row = f"  {timing.variant:<32}{shown}{1 / seconds:12.4g}/s"
        row += "" if timing.ratio is None else f"{timing.ratio:8.3f}x"
        if timing.utilisation is not None:
            row += f"{timing.utilisation:7.0%} of bf16"
        elif timing.flops_per_second is not None:
            row += f"{timing.flops_per_second / 1e9:9.4g} GFLOP/s"
        if timing.peak_bytes is not None:
            row += f"{timing.peak_bytes / 1e9:8.2f} GB"
        yield row
