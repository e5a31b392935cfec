"""Verbs that train networks, and time their training.

They import what they need when they run, so that `--help` and refusals are immediate.
"""

import argparse
import os

from dtr.commands import options
from dtr.commands.options import at_least, say
from dtr.support.devices import use_device
from dtr.support.gpus import LAUNCHER
from dtr.support.processes import end_with
from dtr.support.threads import use_threads


def train(args: argparse.Namespace) -> None:
    """Train one run up to a step; goes on from its last checkpoint."""
    from dtr.config.stages import RunSettings
    from dtr.data.batches import open_training_data
    from dtr.support.settings import parse
    from dtr.training.distributed import world
    from dtr.training.loop import Execution, train_run, write_result
    from dtr.training.means import Means
    from dtr.training.watchdog import ended_after

    sharing = 1  # processes that have the job's threads
    if launcher := os.environ.get(LAUNCHER):
        end_with(int(launcher))
        sharing = int(os.environ["LOCAL_WORLD_SIZE"])
    use_device(args.device)
    use_threads(max(1, args.threads // sharing))
    settings = parse(RunSettings, args.settings, source="--settings")
    data = open_training_data(args.data)
    means = Means(
        rng=args.rng,
        compile=args.compile,
        recompute=args.recompute,
        attention=args.attention,
        memory_format=args.memory_format,
    )
    execution = Execution(args.checkpoint_seconds, args.budget_minutes, args.accumulation, means)
    title = f"train {args.run} seed {settings.seed}"
    with ended_after(args.budget_minutes, title), world(args.device) as processes:
        trainer, folder, diverged = train_run(
            settings,
            data,
            step=args.step,
            work=args.work,
            execution=execution,
            world=processes,
            title=title,
        )
        if processes.first:
            write_result(trainer, folder, args.out, run=args.run, step=args.step, diverged=diverged)
            if diverged is not None:
                say(args, f"{title}: diverged: {diverged}; recorded in {args.out}")


def throughput(args: argparse.Namespace) -> None:
    """Time training steps of one of the paper's DiT sizes with DTR and without, in turn."""
    from dtr.analysis.throughput import measure_throughput

    use_device(args.device)
    use_threads(args.threads)
    failure = measure_throughput(
        args.backbone,
        args.out,
        batch_size=args.batch_size,
        pairs=args.pairs,
        seconds=args.seconds,
        device=args.device,
    )
    if failure is not None:
        say(args, f"{failure}; recorded in {args.out}, without a speed")


def add_verbs(verbs: options.Verbs) -> None:
    """Declare the verbs of this module, with their options."""
    _add_train(verbs)
    _add_throughput(verbs)


def _add_train(verbs: options.Verbs) -> None:
    verb = options.add_verb(verbs, "train", train)
    options.add_run(verb)
    options.add_step(verb)
    options.add_settings(verb)
    options.add_data(verb)
    options.add_path(verb, "--work", "folder of checkpoints and logs, kept between starts")
    options.add_out(verb)
    options.add_device(verb)
    options.add_threads(verb)
    verb.add_argument(
        "--accumulation",
        type=at_least(1),
        default=1,
        help="portions of a batch, one after the other, where memory is short",
    )
    options.add_rng(verb)
    verb.add_argument(
        "--compile",
        choices=("nothing", "blocks", "blocks-reduce-overhead"),
        default="nothing",
        help="compile each block of the network: seconds now, faster steps; the last as CUDA "
        "graphs, for small networks on a GPU",
    )
    verb.add_argument(
        "--recompute",
        choices=("nothing", "blocks"),
        default="nothing",
        help="activations again in the backward pass: less memory, the same numbers",
    )
    verb.add_argument(
        "--memory-format",
        choices=("contiguous", "channels_last"),
        default="contiguous",
        help="of images inside networks of convolutions; what is stored stays as it is",
    )
    verb.add_argument(
        "--attention",
        choices=("fast", "ordered"),
        default="fast",
        help="ordered: a GPU adds up in one order and repeats itself bit for bit, slower",
    )
    verb.add_argument(
        "--checkpoint-seconds", type=at_least(0.0), default=60.0, help="between two checkpoints"
    )
    verb.add_argument(
        "--budget-minutes",
        type=at_least(0.0),
        help="stop, saved, with exit status 75 after this time",
    )


def _add_throughput(verbs: options.Verbs) -> None:
    verb = options.add_verb(verbs, "throughput", throughput)
    verb.add_argument("--backbone", required=True, help="one of the sizes that `complexity` lists")
    options.add_batch_size(verb, default=32)  # the paper's 256 on 8 devices
    verb.add_argument(
        "--pairs", type=at_least(2), default=20, help="steps with DTR, each beside one without"
    )
    verb.add_argument(
        "--seconds", type=at_least(0.0), default=0.0, help="add pairs until so much time is spent"
    )
    options.add_out(verb)
    options.add_device(verb)
    options.add_threads(verb)
