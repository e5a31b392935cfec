"""The verb that makes a rehearsal of the paper's scale ready: its files, a step of its networks.

It imports what it needs when it runs, so that `--help` and refusals are immediate.
"""

import argparse
import sys
from pathlib import Path

from dtr.commands import options
from dtr.support.threads import use_threads

PAPER = Path("workflow/config/paper.yaml")
# A run of each network that no job of the rehearsal builds in its real size, unlike Table 7's.
STEPS = ("coco256-b2-dtr-a4", "in64-adm-dtr-a4")


def rehearse(args: argparse.Namespace) -> None:
    """Write files of noise in the paper's formats; with --step train its networks for one step."""
    from dtr.interop.rehearsed import make_material

    use_threads(args.threads)
    made = make_material(args.out)
    print(f"{args.out}: {'made' if made else 'there already'}", file=sys.stderr)
    for run in STEPS if args.step else ():
        _one_step(run, args.configfile)


def _one_step(run_id: str, file: Path) -> None:
    """One step of a run of the paper's size, of one image of noise."""
    import time

    from dtr.analysis.throughput import noise_trainer
    from dtr.config.reading import load_scale_file
    from dtr.config.resolve import run_settings
    from dtr.planning.runs import find_run

    scale = load_scale_file(file)
    settings = run_settings(scale, find_run(scale, run_id), scale.seeds[0])
    alone = settings.training.model_copy(update={"batch_size": 1})
    started = time.perf_counter()
    trainer = noise_trainer(settings.model_copy(update={"training": alone}))
    trainer.train_step()
    seconds = time.perf_counter() - started
    count = sum(parameter.numel() for parameter in trainer.model.parameters())
    print(
        f"{run_id}: one step of {count / 1e6:.0f}M parameters in {seconds:.0f} s", file=sys.stderr
    )


def add_verbs(verbs: options.Verbs) -> None:
    """Declare the verb of this module, with its options."""
    verb = options.add_verb(verbs, "rehearse", rehearse)
    options.add_out(verb)
    verb.add_argument("--step", action="store_true", help="train the paper's networks for a step")
    verb.add_argument(
        "--configfile", type=Path, default=PAPER, metavar="PATH", help="scale of their sizes"
    )
    options.add_threads(verb)
