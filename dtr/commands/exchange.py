"""Verbs for other people's files, and for the numbers of the paper's networks."""

import argparse

from dtr.commands import options
from dtr.commands.scale import read_scale
from dtr.support.errors import Refusal


def complexity(_args: argparse.Namespace) -> None:
    """Print parameters and multiply-adds of the paper's DiT sizes beside the printed values."""
    from dtr.analysis.complexity import PRESETS, paper_gflops, parameter_count

    row = "{:<10}{:>12}{:>10}{:>9}{:>11}{:>9}".format
    print(row("backbone", "parameters", "GMACs", "printed", "with DTR", "printed"))
    for name, size in PRESETS.items():
        printed = [
            "-" if value is None else f"{value:.2f}"
            for value in (size.printed_gflops, size.printed_gflops_dtr)
        ]
        plain, routed = (f"{paper_gflops(name, routed=flag):.4f}" for flag in (False, True))
        parameters = f"{parameter_count(name) / 1e6:.1f}M"
        print(row(name, parameters, plain, printed[0], routed, printed[1]))


def import_checkpoint(args: argparse.Namespace) -> None:
    """Turn a released checkpoint of DiT, DTR or ADM into a trained model of ours."""
    from dtr.config.resolve import run_settings
    from dtr.config.stages import RunSettings
    from dtr.interop.checkpoints import import_checkpoint
    from dtr.planning.runs import find_run
    from dtr.support.settings import parse

    if (args.scale is None) == (args.settings is None):
        raise Refusal("--scale, --settings: one of them, and one only, has to describe the network")
    if args.scale is not None:
        scale = read_scale(args.scale)
        seed = scale.seeds[0] if args.seed is None else args.seed
        settings = run_settings(scale, find_run(scale, args.run), seed)
    else:
        settings = parse(RunSettings, args.settings, source="--settings")
        if args.seed not in (None, settings.seed):
            raise Refusal(f"--seed {args.seed}: --settings have seed {settings.seed}")
    skipped = import_checkpoint(
        args.source,
        settings,
        args.out,
        run=args.run,
        step=args.step,
        attention_order=args.attention_order,
    )
    if skipped:
        print(f"{args.source}: not read: {', '.join(skipped)}")


def export_samples(args: argparse.Namespace) -> None:
    """Join sample files into the one npz that ADM's evaluator reads."""
    from dtr.interop.samples import export_samples

    export_samples(args.samples, args.out)


def add_verbs(verbs: options.Verbs) -> None:
    """Declare the verbs of this module, with their options."""
    options.add_verb(verbs, "complexity", complexity)

    verb = options.add_verb(verbs, "import-checkpoint", import_checkpoint)
    options.add_path(verb, "--source", "a released .pt file, e.g. 0400000.pt")
    options.add_run(verb)
    options.add_scale(verb, required=False)
    options.add_settings(verb, required=False)
    options.add_seed(verb, default=None)
    options.add_step(verb, required=False)
    verb.add_argument(
        "--attention-order",
        choices=("new", "legacy"),
        help="of an ADM network: made with use_new_attention_order=True, or with False",
    )
    options.add_out(verb)

    verb = options.add_verb(verbs, "export-samples", export_samples)
    options.add_samples(verb)
    options.add_out(verb)
