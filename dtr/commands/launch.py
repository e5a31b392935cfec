"""The verb that starts one job in several processes, on one machine or several."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from dtr.commands import options
from dtr.support.devices import use_device
from dtr.support.errors import Refusal, Suspended
from dtr.support.gpus import LAUNCHER
from dtr.support.nodes import meeting

PATIENCE = "120"  # seconds for a checkpoint, after which torchrun kills a process that was stopped


def torchrun(args: argparse.Namespace) -> None:
    """Run torchrun, with its options, on free GPUs; ends as the first of its processes did.

    Beside torchrun itself: GPUs are locked as for jobs of one process, and the exit status is that
    of the processes, so that a training that was suspended (75) is not taken for one that failed.
    On several machines it is started once on each, where SLURM says where they meet.
    """
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.run import run

    launched, count = _launched(args.options)
    if _device(launched.training_script_args) == "cuda":
        use_device("cuda", count)
    os.environ[LAUNCHER] = str(os.getpid())
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # what torchrun warns that it does
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", PATIENCE)
    try:
        run(launched)
    except ChildFailedError as failed:
        raise SystemExit(_status(failed)) from None
    except SignalException as stopped:
        raise Suspended(f"stopped by {stopped.sigval.name}, with all processes") from None
    except (RendezvousError, DistError) as lost:
        reason = " ".join(str(lost).split())[:300] or type(lost).__name__
        where = launched.rdzv_endpoint
        print(f"dtr torchrun: {where}: machines did not stay together ({reason})", file=sys.stderr)
        raise SystemExit(1) from None


def _launched(words: Sequence[str]) -> tuple[argparse.Namespace, int]:
    """What torchrun makes of its options, and how many processes that is on this machine."""
    from torch.distributed.run import determine_local_world_size, get_args_parser

    if not words:
        _refuse("no options")
    parser = get_args_parser()
    parser.prog, parser.error = "python -m dtr torchrun", _refuse
    launched = parser.parse_args(words)
    try:
        count = determine_local_world_size(launched.nproc_per_node)
    except ValueError:
        count = 0
    if count < 1:
        told = launched.nproc_per_node
        raise Refusal(f"--nproc-per-node {told}: accepted: 1 or more, auto, cpu, or gpu with CUDA")
    _meet(launched)
    return launched, count


def _meet(launched: argparse.Namespace) -> None:
    """Have the launchers of several machines meet where the scheduler says, unless it is said."""
    if not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", launched.nnodes):
        raise Refusal(f"--nnodes {launched.nnodes}: accepted: a number of machines, or MIN:MAX")
    nodes = int(launched.nnodes.split(":")[-1])
    if nodes == 1 or launched.standalone or launched.rdzv_endpoint or launched.master_port:
        return
    place = meeting(nodes)
    launched.rdzv_backend, launched.rdzv_endpoint = "c10d", place.endpoint
    launched.rdzv_id, launched.local_addr = place.name, launched.local_addr or place.here


def _refuse(message: str) -> NoReturn:
    """In one line, where torchrun would print all of its options."""
    raise Refusal(f"{message}; example: --standalone --nproc-per-node 2 -m -- dtr train ...")


def _device(arguments: Sequence[str]) -> str:
    """What --device among the arguments of the processes says."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_device(parser)
    return parser.parse_known_args(list(arguments))[0].device


def _status(failed) -> int:
    """Exit status of the process that ended first; killed by a signal, as a shell has it."""
    _, failure = failed.get_first_failure()
    return 128 - failure.exitcode if failure.exitcode < 0 else failure.exitcode


def add_verbs(verbs: options.Verbs) -> None:
    """Declare the verb of this module, whose words all belong to torchrun."""
    verb = options.add_verb(verbs, "torchrun", torchrun, prefix_chars="\0", add_help=False)
    verb.add_argument("options", nargs=argparse.REMAINDER, help="of torchrun, and its command")
