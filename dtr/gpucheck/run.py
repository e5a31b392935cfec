"""All checks one after the other, a record and a page of them."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from dtr.bench.run import BenchRecord, lines, run_bench
from dtr.gpucheck import parity, training
from dtr.gpucheck.results import Check, guarded
from dtr.records.provenance import provenance
from dtr.records.schema import Record, read_record, write_record
from dtr.support.files import write_text
from dtr.support.progress import Progress

STEPS = 200
TIMED = ("step-digits", "step-dit-s2", "step-dit-b2", "step-dit-l2", "noise", "sampling-dit",
         "scaling")  # fmt: skip


class GpuRecord(Record):
    """What was checked on a machine, and how fast it is."""

    device: str
    small: bool
    torch: str
    memory_bytes: int | None
    checks: list[Check]
    bench: BenchRecord | None = None

    @property
    def good(self) -> bool:
        return all(check.status != "failed" for check in self.checks)


def run_checks(
    out: Path, *, device: str, small: bool = False, timed: bool = True, processes: int = 1
) -> GpuRecord:
    """Check, time, and write `out`/gpucheck.json and `out`/gpucheck.md after every check.

    small: fewer steps and tiny sizes.  timed: whether the cases of the bench are run as well.
    processes: of the comparison of several with one.
    """
    started, steps = time.perf_counter(), 20 if small else STEPS
    done: list[Check] = []
    bench: BenchRecord | None = None

    def record() -> GpuRecord:
        on_gpu = device != "cpu"
        return GpuRecord(
            device=device,
            small=small,
            torch=torch.__version__,
            memory_bytes=torch.cuda.get_device_properties(0).total_memory if on_gpu else None,
            checks=done,
            bench=bench,
            provenance=provenance(device),
            wall_seconds=time.perf_counter() - started,
        )

    with tempfile.TemporaryDirectory(prefix="dtr-gpucheck-") as name:
        folder = Path(name)
        checks = {
            "released code": lambda: parity.released_outputs(device),
            "random numbers": lambda: parity.random_numbers(device),
            "parts of a batch": lambda: training.parts(device, folder / "parts"),
            "training curve": lambda: training.curves(device, steps),
            "other ways": lambda: training.ways(device, min(steps, 50)),
            "memory of routing": lambda: training.memory(device, small=small),
            "kill and resume": lambda: training.resume(device, folder, steps),
            "processes": lambda: training.processes(device, folder, steps, processes),
        }
        with Progress("gpucheck", len(checks), unit="check") as progress:
            for what, check in checks.items():
                done.append(guarded(what, check))
                print(f"{done[-1].status:<9}{what}: {done[-1].says}", flush=True)
                write_checks(out, record())
                progress.advance()
    if timed:
        file = out / "bench.json"
        bench = run_bench(
            TIMED,
            file,
            device=device,
            seconds=0 if small else 3,
            small=small,
            processes=processes,
        )
    write_checks(out, record())
    return record()


def write_checks(out: Path, record: GpuRecord) -> None:
    """Write the record and its page into the folder `out`."""
    write_record(out / "gpucheck.json", record)
    write_text(out / "gpucheck.md", "\n".join(page(record)) + "\n")


def read_checks(path: Path) -> GpuRecord:
    """The record of a machine."""
    return read_record(GpuRecord, path)


def page(record: GpuRecord) -> Iterator[str]:
    """The record as Markdown."""
    made = record.provenance
    yield f"# GPU check: {made['device']}"
    yield ""
    yield f"torch {record.torch}, Python {made['python']}, commit {made['commit'] or 'unknown'}, "
    yield f"{made['created']}, {record.wall_seconds:.0f} s{', in small' * record.small}."
    yield ""
    yield "| check | result | found |"
    yield "|---|---|---|"
    for check in record.checks:
        yield f"| {check.name} | {check.status} | {check.says.replace('|', '/')} |"
    if record.bench is not None:
        yield ""
        if record.bench.matmul_rate:
            yield f"bf16 matrix products: {record.bench.matmul_rate / 1e12:.0f} TFLOP/s measured."
            yield ""
        yield "```"
        for case in record.bench.cases:
            yield from lines(case)
        yield "```"
