"""Verbs that draw samples of trained models and measure them, or images from elsewhere.

They import what they need when they run, so that `--help` and refusals are immediate.
"""

import argparse
from pathlib import Path

from dtr.commands import options
from dtr.commands.options import at_least, say
from dtr.support.devices import use_device
from dtr.support.errors import Refusal
from dtr.support.threads import use_threads


def sample(args: argparse.Namespace) -> None:
    """Draw one shard of images from a trained model, or from several experts together."""
    from dtr.config.stages import Protocol
    from dtr.registry import settings_of
    from dtr.sampling.shards import write_samples
    from dtr.support.settings import parse

    if args.keep is not None and None in (args.extractor, args.features):
        raise Refusal("--keep: needs --extractor and --features, which stay instead of the images")
    use_device(args.device)
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
        rng=args.rng,
        autoencoder_folder=args.decoder,
        decode_batch=args.decode_batch or None,
        data=args.prompts,
        text_encoder=text_encoder,
    )
    if lost:
        say(args, f"{args.out}: images that diverged: {lost}; the file cannot be measured")
    elif args.keep is not None:
        from dtr.metrics.features import keep_features

        keep_features(args.out, args.extractor, args.features, keep=args.keep, device=args.device)


def measure(args: argparse.Namespace) -> None:
    """Measure the samples of a trained model, or real images as a control (no --model)."""
    from dtr.config.stages import Protocol
    from dtr.metrics.measure import measure_model
    from dtr.support.settings import parse

    use_device(args.device)
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

    if len(args.model) != 1:
        raise Refusal(f"--model: {len(args.model)} folders; one is measured")
    use_device(args.device)
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


def measure_images(args: argparse.Namespace) -> None:
    """Measure images from elsewhere, in an npz or a folder, against features of real ones."""
    from dtr.config.stages import Protocol
    from dtr.metrics.images import measure_images
    from dtr.support.settings import parse

    use_device(args.device)
    use_threads(args.threads)
    protocol = None
    if args.protocol is not None:
        protocol = parse(Protocol, args.protocol, source="--protocol")
    record = measure_images(
        args.images,
        args.extractor,
        args.real,
        args.out,
        bootstrap=args.bootstrap,
        n=args.n,
        protocol=protocol,
        device=args.device,
    )
    row = "{:<28}{:>8}{:>12}{:>12}{:>12}  {}".format
    print(row("metric", "n", "value", "low", "high", "better"))
    for metric in record.metrics:
        values = (f"{value:.5g}" for value in (metric.value, metric.low, metric.high))
        print(row(metric.name, metric.n, *values, metric.direction))
    drawn = record.settings["kid_subset"]
    print(f"{record.real_n} real images" + (f"; KID draws {drawn} at once" if drawn else ""))
    if protocol is not None and protocol.n_samples != record.n:
        print(f"the protocol's n_samples is {protocol.n_samples}: FID of other n is no comparison")


def add_verbs(verbs: options.Verbs) -> None:
    """Declare the verbs of this module, with their options."""
    _add_sample(verbs)
    _add_measure(verbs)
    _add_cka(verbs)
    _add_measure_images(verbs)


def _add_sample(verbs: options.Verbs) -> None:
    verb = options.add_verb(verbs, "sample", sample)
    options.add_model(verb)
    verb.add_argument(
        "--decoder", type=Path, help="folder of the autoencoder; none for a model of pixels"
    )
    verb.add_argument(
        "--prompts", type=Path, help="manifest.json of the dataset whose captions are drawn"
    )
    options.add_text_encoder(verb)
    options.add_protocol(verb)
    verb.add_argument(
        "--shard", type=at_least(0), required=True, help="number of the shard, from 0"
    )
    verb.add_argument("--shard-size", type=at_least(1), required=True, help="images per shard")
    options.add_batch_size(verb, default=250)
    verb.add_argument(
        "--decode-batch", type=at_least(0), help="latents decoded at once; 0: by their size"
    )
    verb.add_argument(
        "--keep", type=at_least(1), help="images that stay once features are taken; default: all"
    )
    options.add_extractor(verb, required=False)
    options.add_path(verb, "--features", "folder in which they are kept", required=False)
    options.add_out(verb)
    options.add_device(verb)
    options.add_rng(verb)
    options.add_threads(verb)


def _add_measure(verbs: options.Verbs) -> None:
    verb = options.add_verb(verbs, "measure", measure)
    options.add_model(verb, required=False)
    verb.add_argument("--slot", required=True, help="dataset slot, for the record")
    options.add_samples(verb)
    options.add_extractor(verb, required=False)
    verb.add_argument(
        "--features", type=Path, help="folder in which features of the samples are kept"
    )
    options.add_real(verb)
    options.add_protocol(verb)
    options.add_bootstrap(verb)
    options.add_out(verb)
    options.add_device(verb)
    options.add_threads(verb)


def _add_cka(verbs: options.Verbs) -> None:
    verb = options.add_verb(verbs, "cka", cka)
    options.add_model(verb)
    options.add_data(verb)
    verb.add_argument(
        "--images", type=at_least(1), default=2048, help="how many; a multiple of --batch-size"
    )
    options.add_batch_size(verb, default=256)
    options.add_seed(verb, default=0)
    options.add_out(verb)
    options.add_device(verb)
    options.add_threads(verb)


def _add_measure_images(verbs: options.Verbs) -> None:
    verb = options.add_verb(verbs, "measure-images", measure_images)
    options.add_path(verb, "--images", "an npz with arr_0, or a folder of images")
    options.add_extractor(verb)
    options.add_real(verb)
    verb.add_argument(
        "--n", type=at_least(1), help="how many of the images, the first ones; otherwise all"
    )
    options.add_protocol(verb, required=False)
    options.add_bootstrap(verb)
    options.add_out(verb)
    options.add_device(verb)
    options.add_threads(verb)
