"""`python -m dtr <verb>`: one verb per stage; a workflow rule is a thin call of one.

Verbs import what they need when they run, so that `--help` and refusals are immediate.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dtr import __version__
from dtr.errors import Refusal, Suspended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; refused input is one line on stderr and a non-zero exit status."""
    parsed = _parser().parse_args(arguments)
    try:
        parsed.verb(parsed)
    except (Refusal, Suspended) as outcome:
        print(f"dtr {parsed.name}: {outcome}", file=sys.stderr)
        return outcome.exit_status
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dtr", description="Stages of the DTR reproducibility benchmark."
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(title="stages", required=True, dest="name", metavar="VERB")
    for name, function, options in VERBS:
        summary = function.__doc__.splitlines()[0]
        verb = verbs.add_parser(name, help=summary, description=summary)
        for option in options.split():
            verb.add_argument(f"--{option}", **OPTIONS[option])
        verb.set_defaults(verb=function)
    return parser


def _use_threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)


def prepare_data(args: argparse.Namespace) -> None:
    """Write images, index and manifest of a dataset."""
    from dtr.data.datasets import prepare_dataset
    from dtr.settings import DatasetSettings, parse

    settings = parse(DatasetSettings, args.settings, source="--settings")
    prepare_dataset(args.name_of, settings, args.out)


def train_autoencoder(args: argparse.Namespace) -> None:
    """Train the image <-> latent autoencoder."""
    from dtr.data.autoencoder import train_autoencoder
    from dtr.data.datasets import ImageDataset
    from dtr.settings import AutoencoderSettings, parse

    _use_threads(args.threads)
    settings = parse(AutoencoderSettings, args.settings, source="--settings")
    train_autoencoder(settings, ImageDataset.open(args.data), args.out)


def train_extractor(args: argparse.Namespace) -> None:
    """Train the classifier whose features the metrics compare."""
    from dtr.data.datasets import ImageDataset
    from dtr.metrics.extractors import train_extractor
    from dtr.settings import ExtractorSettings, parse

    _use_threads(args.threads)
    settings = parse(ExtractorSettings, args.settings, source="--settings")
    train_extractor(settings, ImageDataset.open(args.data), args.out)


def cache_latents(args: argparse.Namespace) -> None:
    """Encode the training images once: mean and log-variance, in hashed shards."""
    from dtr.data.datasets import ImageDataset
    from dtr.data.latents import cache_latents
    from dtr.settings import TextEncoderSettings, parse

    _use_threads(args.threads)
    text_encoder = None
    if args.text_encoder:
        text_encoder = parse(TextEncoderSettings, args.text_encoder, source="--text-encoder")
    cache_latents(ImageDataset.open(args.data), args.autoencoder, args.out, text_encoder)


def train(args: argparse.Namespace) -> None:
    """Train one run up to a step; goes on from its last checkpoint."""
    from dtr.data.training_data import open_training_data
    from dtr.distributed import world
    from dtr.settings import TrainSettings, parse
    from dtr.training import Execution, train_run, write_result

    _use_threads(args.threads)
    settings = parse(TrainSettings, args.settings, source="--settings")
    data = open_training_data(args.data)
    execution = Execution(args.checkpoint_seconds, args.budget_minutes)
    title = f"train {args.run} seed {settings.seed}"
    with world(args.device) as processes:
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


def sample(args: argparse.Namespace) -> None:
    """Draw one shard of images from a trained model, or from several experts together."""
    from dtr.generate import write_samples
    from dtr.settings import Protocol, TextEncoderSettings, parse

    _use_threads(args.threads)
    text_encoder = None
    if args.text_encoder:
        text_encoder = parse(TextEncoderSettings, args.text_encoder, source="--text-encoder")
    write_samples(
        args.model,
        parse(Protocol, args.protocol, source="--protocol"),
        args.out,
        shard=args.shard,
        shard_size=args.shard_size,
        batch_size=args.batch_size,
        device=args.device,
        autoencoder_folder=args.decoder,
        data=args.prompts,
        text_encoder=text_encoder,
    )


def features(args: argparse.Namespace) -> None:
    """Extract the features of one shard of samples."""
    from dtr.metrics.features import write_sample_features

    _use_threads(args.threads)
    write_sample_features(args.samples, args.extractor, args.out, device=args.device)


def reference(args: argparse.Namespace) -> None:
    """Extract the features of the real training images."""
    from dtr.data.datasets import ImageDataset
    from dtr.metrics.features import write_reference_features

    _use_threads(args.threads)
    write_reference_features(ImageDataset.open(args.data), args.extractor, args.out)


def measure(args: argparse.Namespace) -> None:
    """Measure the samples of a trained model, or real images as a control (no --model)."""
    from dtr.metrics.records import write_record
    from dtr.settings import Protocol, parse

    _use_threads(args.threads)
    write_record(
        args.out,
        parse(Protocol, args.protocol, source="--protocol"),
        slot=args.slot,
        reference=args.reference,
        bootstrap=args.bootstrap,
        models=args.model,
        shards=args.features,
    )


def report(args: argparse.Namespace) -> None:
    """Build tables, figures and the page from the records that exist now."""
    from dtr.config import Scale
    from dtr.reporting.html import build_report
    from dtr.settings import parse

    page = build_report(parse(Scale, args.settings, source="--settings"))
    print(f"report: {page}")


def settings(args: argparse.Namespace) -> None:
    """Check a scale file and print it as one line of JSON, for --settings of the report."""
    import yaml

    from dtr.config import load_scale
    from dtr.files import canonical_json

    try:
        value = yaml.safe_load(args.scale.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise Refusal(f"{args.scale}: not readable as YAML ({error})") from None
    if not isinstance(value, dict):
        raise Refusal(f"{args.scale}: not a mapping of settings")
    print(canonical_json(load_scale(value, source=str(args.scale)).plain()))


def schema(_args: argparse.Namespace) -> None:
    """Print the JSON schema of a scale file."""
    from dtr.config import Scale

    print(json.dumps(Scale.model_json_schema(), indent=2))


_REQUIRED_PATH = {"type": Path, "required": True, "metavar": "PATH"}
OPTIONS: dict[str, dict[str, Any]] = {
    "autoencoder": {**_REQUIRED_PATH, "help": "folder of the trained autoencoder"},
    "batch-size": {"type": int, "default": 250, "help": "images at once; does not change them"},
    "bootstrap": {"type": int, "default": 200, "help": "resamples behind an interval"},
    "budget-minutes": {"type": float, "help": "stop, saved, with exit status 75 after this time"},
    "checkpoint-seconds": {"type": float, "default": 60.0, "help": "between two checkpoints"},
    "data": {**_REQUIRED_PATH, "help": "manifest.json of a prepared dataset or of cached latents"},
    "device": {"default": "cpu", "choices": ("cpu", "cuda")},
    "extractor": {**_REQUIRED_PATH, "help": "folder of the trained extractor"},
    "features": {"type": Path, "nargs": "*", "default": [], "help": "feature files, in order"},
    "decoder": {"type": Path, "help": "folder of the autoencoder; none for a model of pixels"},
    "model": {"type": Path, "nargs": "+", "help": "folders with ema.safetensors and train.json"},
    "prompts": {"type": Path, "help": "manifest.json of the dataset whose captions are drawn"},
    "text-encoder": {"metavar": "JSON", "help": "settings of the text encoder, if there is one"},
    "dataset": {"required": True, "help": "name of the dataset", "dest": "name_of"},
    "out": {**_REQUIRED_PATH, "help": "what is written: a folder or a file"},
    "protocol": {"required": True, "metavar": "JSON", "help": "evaluation protocol"},
    "reference": {**_REQUIRED_PATH, "help": "features of the real images"},
    "run": {"required": True, "help": "id of the run, for its record"},
    "samples": {**_REQUIRED_PATH, "help": "one npz of samples"},
    "scale": {**_REQUIRED_PATH, "help": "a YAML file of workflow/config"},
    "settings": {"required": True, "metavar": "JSON", "help": "settings of this stage"},
    "shard": {"type": int, "required": True, "help": "number of the shard, from 0"},
    "shard-size": {"type": int, "required": True, "help": "images per shard"},
    "slot": {"required": True, "help": "dataset slot, for the record"},
    "step": {"type": int, "required": True, "help": "step to train up to"},
    "threads": {"type": int, "default": 1, "help": "CPU threads"},
    "work": {**_REQUIRED_PATH, "help": "folder of checkpoints and logs, kept between starts"},
}

VERBS: tuple[tuple[str, Callable[[argparse.Namespace], None], str], ...] = (
    ("prepare-data", prepare_data, "dataset settings out"),
    ("train-autoencoder", train_autoencoder, "settings data out threads"),
    ("train-extractor", train_extractor, "settings data out threads"),
    ("cache-latents", cache_latents, "data autoencoder text-encoder out threads"),
    (
        "train",
        train,
        "run step settings data work out device threads checkpoint-seconds budget-minutes",
    ),
    (
        "sample",
        sample,
        "model decoder prompts text-encoder protocol shard shard-size batch-size out device"
        " threads",
    ),
    ("features", features, "samples extractor out device threads"),
    ("reference", reference, "data extractor out threads"),
    ("measure", measure, "model slot features reference protocol bootstrap out threads"),
    ("report", report, "settings"),
    ("settings", settings, "scale"),
    ("schema", schema, ""),
)
