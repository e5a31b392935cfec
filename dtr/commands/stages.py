"""The stages of the workflow as verbs: each reads its options, and calls what does the work.

They import what they need when they run, so that `--help` and refusals are immediate.
"""

import argparse
import sys

from dtr.support.devices import check_device
from dtr.support.errors import Refusal
from dtr.support.threads import use_threads


def say(args: argparse.Namespace, problem: str) -> None:
    """One line on stderr about what was recorded, but did not succeed."""
    print(f"dtr {args.name}: {problem}", file=sys.stderr)


def prepare_data(args: argparse.Namespace) -> None:
    """Write images, index and manifest of a dataset."""
    from dtr.data.datasets import prepare_dataset
    from dtr.registry import settings_of
    from dtr.support.settings import parse

    settings = parse(settings_of("source"), args.settings, source="--settings")
    prepare_dataset(args.name_of, settings, args.out)


def train_autoencoder(args: argparse.Namespace) -> None:
    """Train the image <-> latent autoencoder."""
    from dtr.assets.autoencoder import train_autoencoder
    from dtr.data.datasets import ImageDataset
    from dtr.registry import settings_of
    from dtr.support.settings import parse

    use_threads(args.threads)
    settings = parse(settings_of("autoencoder"), args.settings, source="--settings")
    dataset = ImageDataset.open(args.data)
    (train, _), (test, _) = dataset.split("train"), dataset.split("test")
    content = dataset.manifest["content_hash"]
    train_autoencoder(settings, train, test, args.out, dataset_hash=content)


def train_extractor(args: argparse.Namespace) -> None:
    """Train the classifier whose features the metrics compare."""
    from dtr.assets.extractor import train_extractor
    from dtr.data.datasets import ImageDataset
    from dtr.registry import settings_of
    from dtr.support.settings import parse

    use_threads(args.threads)
    settings = parse(settings_of("extractor"), args.settings, source="--settings")
    dataset = ImageDataset.open(args.data)
    content = dataset.manifest["content_hash"]
    train_extractor(
        settings, dataset.split("train"), dataset.split("test"), args.out, dataset_hash=content
    )


def cache_latents(args: argparse.Namespace) -> None:
    """Encode the training images once: mean and log-variance, in hashed shards."""
    from dtr.data.datasets import ImageDataset
    from dtr.data.latents import cache_latents
    from dtr.registry import settings_of
    from dtr.support.settings import parse

    use_threads(args.threads)
    text_encoder = None
    if args.text_encoder:
        text_encoder = parse(
            settings_of("text_encoder"), args.text_encoder, source="--text-encoder"
        )
    cache_latents(ImageDataset.open(args.data), args.autoencoder, args.out, text_encoder)


def train(args: argparse.Namespace) -> None:
    """Train one run up to a step; goes on from its last checkpoint."""
    from dtr.config.stages import RunSettings
    from dtr.data.batches import open_training_data
    from dtr.support.settings import parse
    from dtr.training.distributed import world
    from dtr.training.loop import Execution, train_run, write_result

    check_device(args.device)
    use_threads(args.threads)
    settings = parse(RunSettings, args.settings, source="--settings")
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
    from dtr.config.stages import Protocol
    from dtr.registry import settings_of
    from dtr.sampling.shards import write_samples
    from dtr.support.settings import parse

    check_device(args.device)
    use_threads(args.threads)
    text_encoder = None
    if args.text_encoder:
        known = settings_of("text_encoder")
        text_encoder = parse(known, args.text_encoder, source="--text-encoder")
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


def real_features(args: argparse.Namespace) -> None:
    """Extract the features of the real training images."""
    from dtr.data.datasets import ImageDataset
    from dtr.metrics.features import write_real_features

    use_threads(args.threads)
    write_real_features(ImageDataset.open(args.data), args.extractor, args.out)


def measure(args: argparse.Namespace) -> None:
    """Measure the samples of a trained model, or real images as a control (no --model)."""
    from dtr.config.stages import Protocol
    from dtr.metrics.measure import measure_model
    from dtr.support.settings import parse

    check_device(args.device)
    use_threads(args.threads)
    protocol = parse(Protocol, args.protocol, source="--protocol")
    _check_measured(args, protocol.extractor)
    failure = measure_model(
        args.out,
        protocol,
        slot=args.slot,
        real=args.real,
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
    check_device(args.device)
    use_threads(args.threads)
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

    check_device(args.device)
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
