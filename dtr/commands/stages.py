"""The stages of the workflow as verbs: each reads its options, and calls what does the work.

They import what they need when they run, so that `--help` and refusals are immediate.
"""

import argparse
import sys

from dtr.support.errors import Refusal
from dtr.support.threads import use_threads


def say(args: argparse.Namespace, problem: str) -> None:
    """One line on stderr about what was recorded, but did not succeed."""
    print(f"dtr {args.name}: {problem}", file=sys.stderr)


def check_device(name: str) -> None:
    """Refuse a device that this machine does not have."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise Refusal("--device cuda: torch sees no CUDA device here; accepted: cpu")


def prepare_data(args: argparse.Namespace) -> None:
    """Write images, index and manifest of a dataset."""
    from dtr.config.stages import DatasetSettings
    from dtr.data.datasets import prepare_dataset
    from dtr.support.settings import parse

    settings = parse(DatasetSettings, args.settings, source="--settings")
    prepare_dataset(args.name_of, settings, args.out)


def train_autoencoder(args: argparse.Namespace) -> None:
    """Train the image <-> latent autoencoder."""
    from dtr.assets.autoencoder import train_autoencoder
    from dtr.config.stages import AutoencoderSettings
    from dtr.data.datasets import ImageDataset
    from dtr.support.settings import parse

    use_threads(args.threads)
    settings = parse(AutoencoderSettings, args.settings, source="--settings")
    train_autoencoder(settings, ImageDataset.open(args.data), args.out)


def train_extractor(args: argparse.Namespace) -> None:
    """Train the classifier whose features the metrics compare."""
    from dtr.assets.extractor import train_extractor
    from dtr.config.stages import ExtractorSettings
    from dtr.data.datasets import ImageDataset
    from dtr.support.settings import parse

    use_threads(args.threads)
    settings = parse(ExtractorSettings, args.settings, source="--settings")
    train_extractor(settings, ImageDataset.open(args.data), args.out)


def cache_latents(args: argparse.Namespace) -> None:
    """Encode the training images once: mean and log-variance, in hashed shards."""
    from dtr.config.stages import TextEncoderSettings
    from dtr.data.datasets import ImageDataset
    from dtr.data.latents import cache_latents
    from dtr.support.settings import parse

    use_threads(args.threads)
    text_encoder = None
    if args.text_encoder:
        text_encoder = parse(TextEncoderSettings, args.text_encoder, source="--text-encoder")
    cache_latents(ImageDataset.open(args.data), args.autoencoder, args.out, text_encoder)


def train(args: argparse.Namespace) -> None:
    """Train one run up to a step; goes on from its last checkpoint."""
    from dtr.config.stages import TrainSettings
    from dtr.data.batches import open_training_data
    from dtr.support.settings import parse
    from dtr.training.distributed import world
    from dtr.training.loop import Execution, train_run, write_result

    use_threads(args.threads)
    check_device(args.device)
    settings = parse(TrainSettings, args.settings, source="--settings")
    data = open_training_data(args.data)
    execution = Execution(args.checkpoint_seconds, args.budget_minutes, args.accumulation)
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
            if diverged is not None:
                say(args, f"{title}: diverged: {diverged}; recorded in {args.out}")


def sample(args: argparse.Namespace) -> None:
    """Draw one shard of images from a trained model, or from several experts together."""
    from dtr.config.stages import Protocol, TextEncoderSettings
    from dtr.sampling.shards import write_samples
    from dtr.support.settings import parse

    use_threads(args.threads)
    check_device(args.device)
    text_encoder = None
    if args.text_encoder:
        text_encoder = parse(TextEncoderSettings, args.text_encoder, source="--text-encoder")
    lost = write_samples(
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
    if lost:
        say(args, f"{args.out}: images that diverged: {lost}; the file cannot be measured")


def reference(args: argparse.Namespace) -> None:
    """Extract the features of the real training images."""
    from dtr.data.datasets import ImageDataset
    from dtr.metrics.features import write_reference_features

    use_threads(args.threads)
    write_reference_features(ImageDataset.open(args.data), args.extractor, args.out)


def measure(args: argparse.Namespace) -> None:
    """Measure the samples of a trained model, or real images as a control (no --model)."""
    from dtr.config.stages import Protocol
    from dtr.metrics.measure import write_record
    from dtr.support.settings import parse

    use_threads(args.threads)
    check_device(args.device)
    protocol = parse(Protocol, args.protocol, source="--protocol")
    _check_measured(args, protocol.extractor)
    failure = write_record(
        args.out,
        protocol,
        slot=args.slot,
        reference=args.real,
        bootstrap=args.bootstrap,
        models=args.model,
        samples=args.samples,
        extractor=args.extractor,
        features=args.features,
        device=args.device,
    )
    if failure is not None:
        say(args, f"{failure}; recorded in {args.out}, without metrics")


def _check_measured(args: argparse.Namespace, extractor: str) -> None:
    """Refuse options that contradict each other, and files that are not there."""
    needed = {"--samples": args.samples, "--extractor": args.extractor, "--features": args.features}
    for option, value in needed.items():
        if args.model and not value:
            raise Refusal(f"{option}: missing; needed to measure the samples of a --model")
        if value and not args.model:
            raise Refusal(f"{option}: given without --model, which measures real images alone")
    if args.extractor and args.extractor.resolve().name != extractor:
        raise Refusal(
            f"--extractor {args.extractor}: the protocol names {extractor!r}; accepted: a folder "
            "called so"
        )
    records = [] if args.extractor is None else [args.extractor / "record.json"]
    for path in (*args.samples, args.real, *records):
        if not path.is_file():
            raise Refusal(f"{path}: no such file")


def cka(args: argparse.Namespace) -> None:
    """Measure the CKA between a trained DiT's representations at different timesteps."""
    from dtr.analysis.cka import measure_cka

    if len(args.model or ()) != 1:
        raise Refusal(f"--model: {len(args.model or ())} folders; one is measured")
    use_threads(args.threads)
    check_device(args.device)
    failure = measure_cka(
        args.model[0],
        args.data,
        args.out,
        n=args.images,
        batch_size=args.batch_size,
        seed=args.seed,
        device=args.device,
    )
    if failure is not None:
        say(args, f"{failure}; recorded in {args.out}, without blocks")


def throughput(args: argparse.Namespace) -> None:
    """Time training steps of one of the paper's DiT sizes with DTR and without, in turn."""
    from dtr.analysis.throughput import measure_throughput

    use_threads(args.threads)
    check_device(args.device)
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
