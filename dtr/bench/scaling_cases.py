"""A case of several processes: the training step of one global batch, cut over more and more.

Processes wait for the word to take a step, so that each way is timed in turn like any other.
"""

import multiprocessing
import os
import socket
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection, wait

from dtr.analysis.throughput import noise_trainer, paper_settings
from dtr.bench.timing import Bench, Case, Variant
from dtr.bench.timing import wait as wait_for_device
from dtr.bench.training_cases import of_paper, with_precision
from dtr.config.stages import RunSettings
from dtr.support.errors import Refusal
from dtr.support.processes import end_with
from dtr.training.distributed import world

IMAGES = 4  # of a batch on a CPU: a step of some seconds
PATIENCE = 300  # seconds for one step, or until all processes are there


def _scaling(bench: Bench) -> dict[str, Variant]:
    if bench.processes < 2:
        raise Refusal("one process; --processes 2 compares two with one, on a GPU each")
    on_gpu = bench.device != "cpu"
    settings = of_paper("DiT-B/2" if on_gpu else "DiT-S/2", bench)
    if on_gpu:
        settings = with_precision(settings, "bfloat16")
    elif not bench.small:
        settings = paper_settings("DiT-S/2", IMAGES)
    # As many threads in each of them as there are for one of the most, so that only they count.
    threads = max(1, bench.threads // bench.processes)
    counts = [2**power for power in range(bench.processes.bit_length())]
    variants = {}
    for count in [count for count in counts if count <= bench.processes]:
        step = bench.stack.enter_context(Processes(settings, count, bench.device, threads))
        variants[step.name] = Variant(step)
    return variants


class Processes(ExitStack):
    """Processes that train one run together, a step at each call; they end with the block."""

    def __init__(self, settings: RunSettings, count: int, device: str, threads: int) -> None:
        super().__init__()
        self.given = [(settings, rank, count, device, threads) for rank in range(count)]
        self.name = f"{count} process{'es' * (count > 1)}"
        self.pipes: list[Connection] = []

    def __enter__(self) -> "Processes":
        context = multiprocessing.get_context("spawn")
        with socket.create_server(("localhost", 0)) as free:
            port = free.getsockname()[1]
        for given in self.given:
            here, there = context.Pipe()
            process = context.Process(
                target=_train, args=(*given, port, os.getpid(), there), daemon=True
            )
            process.start()
            there.close()
            self.callback(_end, process)
            self.pipes.append(here)
        try:
            self._answers()
        except BaseException:
            self.close()
            raise
        return self

    def __call__(self) -> None:
        """One step of all of them."""
        for pipe in self.pipes:
            pipe.send("step")
        self._answers()

    def _answers(self) -> None:
        missing = set(self.pipes)
        while missing:
            if not (ready := wait(missing, PATIENCE)):
                raise Refusal(f"{self.name}: no answer in {PATIENCE} s")
            for pipe in ready:
                try:
                    said = pipe.recv()
                except EOFError:
                    said = "a process ended without a word"
                if said is not None:
                    raise Refusal(f"{self.name}: {said}")
                missing.discard(pipe)


def _end(process: multiprocessing.Process) -> None:
    process.kill()
    process.join()


def _train(
    settings: RunSettings,
    rank: int,
    count: int,
    device: str,
    threads: int,
    port: int,
    parent: int,
    pipe: Connection,
) -> None:
    """One process: tells when it is ready, and when each step that it is asked for is done."""
    import torch

    end_with(parent)
    torch.set_num_threads(threads)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    os.environ["MASTER_ADDR"] = "localhost"
    try:
        with world(device) as processes:
            trainer = noise_trainer(settings, world=processes)
            done = partial(wait_for_device, processes.device)
            pipe.send(None)
            while pipe.recv():
                trainer.train_step()
                done()
                pipe.send(None)
    except EOFError:
        return  # the other end is gone
    except Exception as error:  # of whatever library; the case says it and is left out
        pipe.send(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


CASES = (
    Case("scaling", "step", "one batch of S/2 (GPU: B/2) over processes, equal threads", _scaling),
)
