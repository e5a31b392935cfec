"""`python -m dtr <verb>`: one verb per stage; a workflow rule is a thin call of one."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from dtr import __version__
from dtr.commands import cluster, exchange, report, scale, stages
from dtr.commands.warm import VARIABLE, run_in_warm_process, run_warm
from dtr.support.errors import Refusal, Suspended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb, in a warm process if there is one; returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["warm"]:
        command = arguments[2:] if arguments[1:2] == ["--"] else arguments[1:]
        return run_warm(command, run_verb)
    if address := os.environ.get(VARIABLE):
        status = run_in_warm_process(address, arguments)
        if status is not None:
            return status
    return run_verb(arguments)


def run_verb(arguments: Sequence[str]) -> int:
    """Run one verb; refused input is one line on stderr and a non-zero exit status."""
    parsed = _parser().parse_args(arguments)
    try:
        parsed.verb(parsed)
    except (Refusal, Suspended) as outcome:
        print(f"dtr {parsed.name}: {outcome}", file=sys.stderr)
        return outcome.exit_status
    return 0


class _Parser(argparse.ArgumentParser):
    """Refuses options in one line, as verbs refuse their input; the usage is in --help."""

    def error(self, message: str) -> NoReturn:
        name = self.prog.removeprefix("python -m ")
        self.exit(Refusal.exit_status, f"{name}: {message.removeprefix('argument ')}\n")


def at_least(least: int | float) -> Callable[[str], int | float]:
    """The type of an option: a number of the kind of `least`, finite and not below it."""

    def number(text: str) -> int | float:
        try:
            value = type(least)(text)
        except ValueError:
            value = None
        if value is None or not least <= value < float("inf"):
            kind = "an integer" if isinstance(least, int) else "a number"
            raise argparse.ArgumentTypeError(f"{text}; accepted: {kind} of {least} or more")
        return value

    return number


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m dtr",
        description="Stages of the DTR reproducibility benchmark.",
        epilog="`warm -- COMMAND` runs a command, such as snakemake, whose verbs start at once.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(title="stages", required=True, dest="name", metavar="VERB")
    for name, function, options in VERBS:
        summary = function.__doc__.splitlines()[0]
        verb = verbs.add_parser(name, help=summary, description=summary)
        for option in options.split():
            flag, _, default = option.removesuffix("?").partition("=")
            own = {"default": default} if default else {}
            if option.endswith("?"):
                own = {"required": False, "default": None}
            told = OPTIONS.get(f"{name} {flag}", OPTIONS.get(flag))
            verb.add_argument(f"--{flag}", **told | own)
        verb.set_defaults(verb=function)
    return parser


_REQUIRED_PATH = {"type": Path, "required": True, "metavar": "PATH"}
OPTIONS: dict[str, dict[str, Any]] = {
    "accumulation": {
        "type": at_least(1),
        "default": 1,
        "help": "portions of a batch, one after the other, where memory is short",
    },
    "attention-order": {
        "choices": ("new", "legacy"),
        "help": "of an ADM network: made with use_new_attention_order=True, or with False",
    },
    "autoencoder": {**_REQUIRED_PATH, "help": "folder of the trained autoencoder"},
    "batch-size": {
        "type": at_least(1),
        "default": 250,
        "help": "images at once; samples depend on it by rounding at most",
    },
    "backbone": {"required": True, "help": "one of the sizes that `complexity` lists"},
    "bootstrap": {"type": at_least(1), "default": 200, "help": "resamples behind an interval"},
    "budget-minutes": {
        "type": at_least(0.0),
        "help": "stop, saved, with exit status 75 after this time",
    },
    "checkpoint-seconds": {
        "type": at_least(0.0),
        "default": 60.0,
        "help": "between two checkpoints",
    },
    "data": {**_REQUIRED_PATH, "help": "manifest.json of a prepared dataset or of cached latents"},
    "device": {"default": "cpu", "choices": ("cpu", "cuda")},
    "extractor": {**_REQUIRED_PATH, "help": "folder of the trained extractor"},
    "force": {"action": "store_true", "help": "also where nobody can tell whether it is gone"},
    "features": {"type": Path, "help": "folder in which features of the samples are kept"},
    "measure-images images": {**_REQUIRED_PATH, "help": "an npz with arr_0, or a folder of images"},
    "n": {"type": at_least(1), "help": "how many of the images, the first ones; otherwise all"},
    "images": {
        "type": at_least(1),
        "default": 2048,
        "help": "how many; a multiple of --batch-size",
    },
    "pairs": {
        "type": at_least(2),
        "default": 20,
        "help": "steps with DTR, each beside one without",
    },
    "seconds": {
        "type": at_least(0.0),
        "default": 0.0,
        "help": "add pairs until so much time is spent",
    },
    "seed": {"type": at_least(0), "default": 0, "help": "of what is drawn; of an imported run"},
    "decoder": {"type": Path, "help": "folder of the autoencoder; none for a model of pixels"},
    "model": {"type": Path, "nargs": "+", "help": "folders with ema.safetensors and train.json"},
    "prompts": {"type": Path, "help": "manifest.json of the dataset whose captions are drawn"},
    "text-encoder": {"metavar": "JSON", "help": "settings of the text encoder, if there is one"},
    "dataset": {"required": True, "help": "name of the dataset", "dest": "name_of"},
    "only": {"required": True, "help": "name of a table or figure: table4, figure3"},
    "out": {**_REQUIRED_PATH, "help": "what is written: a folder or a file"},
    "protocol": {"required": True, "metavar": "JSON", "help": "evaluation protocol"},
    "real": {**_REQUIRED_PATH, "help": "features of the real images"},
    "reference": {**_REQUIRED_PATH, "help": "folder of reference results"},
    "run": {"required": True, "help": "id of the run, for its record"},
    "samples": {"type": Path, "nargs": "*", "default": [], "help": "npz files, in order"},
    "scale": {**_REQUIRED_PATH, "help": "a YAML file of workflow/config"},
    "settings": {"required": True, "metavar": "JSON", "help": "settings of this stage"},
    "shard": {"type": at_least(0), "required": True, "help": "number of the shard, from 0"},
    "shard-size": {"type": at_least(1), "required": True, "help": "images per shard"},
    "slot": {"required": True, "help": "dataset slot, for the record"},
    "source": {**_REQUIRED_PATH, "help": "a released .pt file, e.g. 0400000.pt"},
    "step": {
        "type": at_least(0),
        "required": True,
        "help": "step to train up to; of an import where the file name does not end in it",
    },
    "threads": {"type": at_least(1), "default": 1, "help": "CPU threads"},
    "work": {**_REQUIRED_PATH, "help": "folder of checkpoints and logs, kept between starts"},
}

VERBS: tuple[tuple[str, Callable[[argparse.Namespace], None], str], ...] = (
    ("prepare-data", stages.prepare_data, "dataset settings out"),
    ("train-autoencoder", stages.train_autoencoder, "settings data out threads"),
    ("train-extractor", stages.train_extractor, "settings data out threads"),
    ("cache-latents", stages.cache_latents, "data autoencoder text-encoder out threads"),
    (
        "train",
        stages.train,
        "run step settings data work out device threads accumulation checkpoint-seconds"
        " budget-minutes",
    ),
    (
        "sample",
        stages.sample,
        "model decoder prompts text-encoder protocol shard shard-size batch-size out device"
        " threads",
    ),
    ("real-features", stages.real_features, "data extractor out threads"),
    (
        "measure",
        stages.measure,
        "model slot samples extractor? features real protocol bootstrap out device threads",
    ),
    (
        "measure-images",
        exchange.measure_images,
        "images extractor real n protocol? bootstrap out device threads",
    ),
    ("cka", stages.cka, "model data images batch-size=256 seed out device threads"),
    # 32: the paper's 256 on 8 devices
    ("throughput", stages.throughput, "backbone batch-size=32 pairs seconds out device threads"),
    ("complexity", exchange.complexity, ""),
    (
        "import-checkpoint",
        exchange.import_checkpoint,
        "source run scale? settings? seed? step? attention-order out",
    ),
    ("export-samples", exchange.export_samples, "samples out"),
    ("report", report.report, "settings? reference?"),
    ("page", report.page, "settings"),
    ("collect", report.collect, "settings out"),
    ("compare", report.compare, "settings reference"),
    ("table", report.table, "settings only out?"),
    ("figure", report.figure, "settings only out?"),
    ("claims", report.claims, "settings out?"),
    ("settings", scale.settings, "scale"),
    ("schema", scale.schema, ""),
    ("unlock", cluster.unlock, "force"),
)
