"""Verbs of what runs share: data, networks beside them, latents, features of real images.

They import what they need when they run, so that `--help` and refusals are immediate.
"""

import argparse
import os

from dtr.commands import options
from dtr.support.devices import use_device
from dtr.support.gpus import LAUNCHER
from dtr.support.processes import end_with
from dtr.support.threads import use_threads


def prepare_data(args: argparse.Namespace) -> None:
    """Write images, index and manifest of a dataset."""
    from dtr.data.datasets import prepare_dataset
    from dtr.registry import settings_of
    from dtr.support.settings import parse

    settings = parse(settings_of("source"), args.settings, source="--settings")
    prepare_dataset(args.name_of, settings, args.out, classes=args.classes or None)


def fetch(args: argparse.Namespace) -> None:
    """Take over a network of others, from files at hand or downloaded if that is allowed."""
    from dtr.assets.pretrained import fetch
    from dtr.config.pretrained import is_pretrained
    from dtr.registry import settings_of
    from dtr.support.errors import Refusal
    from dtr.support.settings import parse

    settings = parse(settings_of(args.kind), args.settings, source="--settings")
    if not is_pretrained(settings):
        raise Refusal(f"--settings: type = {settings.type!r} is made here; nothing is fetched")
    fetch(args.name_of, settings, args.out)


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
    from dtr.data.caching import Caching, cache_latents
    from dtr.data.datasets import ImageDataset
    from dtr.registry import settings_of
    from dtr.support.settings import parse

    share, threads = args.share, args.threads
    finish = False
    if launcher := os.environ.get(LAUNCHER):
        end_with(int(launcher))
        rank, size, local = (int(os.environ[n]) for n in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        share, finish, threads = (rank + 1, size), rank == 0, max(1, threads // size)
    use_device(args.device)
    use_threads(threads)
    if launcher and args.device == "cuda":
        import torch

        torch.cuda.set_device(local)
    text_encoder = None
    if args.text_encoder:
        text_encoder = parse(
            settings_of("text_encoder"), args.text_encoder, source="--text-encoder"
        )
    stored = (args.dtype, args.tokens_dtype)
    how = Caching(*stored, args.device, args.encode_batch or None, share, finish)
    cache_latents(ImageDataset.open(args.data), args.autoencoder, args.out, text_encoder, how)


def check_data(args: argparse.Namespace) -> None:
    """Read a prepared dataset or cached latents whole and compare the hashes of its files."""
    from dtr.data.shards import check_content

    print(f"{args.data}: {check_content(args.data)} files are as recorded")


def prompts(args: argparse.Namespace) -> None:
    """Write the fixed list of captions that prompt the samples, with the rule that made it."""
    from dtr.data.prompts import write_prompts

    facts = write_prompts(args.captions, args.out, count=args.count, seed=args.seed)
    print(f"{args.out}: {facts['count']} prompts, sha256 {facts['sha256']}")


def real_features(args: argparse.Namespace) -> None:
    """Extract the features of the real training images."""
    from dtr.data.datasets import ImageDataset
    from dtr.metrics.features import write_real_features

    use_device(args.device)
    use_threads(args.threads)
    data = ImageDataset.open(args.data)
    write_real_features(data, args.extractor, args.out, device=args.device)


def reference(args: argparse.Namespace) -> None:
    """Write the statistics that samples are compared with: published, or of the training images."""
    from dtr.config.references import ReferenceSettings
    from dtr.metrics.reference import write_reference
    from dtr.support.settings import parse

    use_device(args.device)
    use_threads(args.threads)
    settings = parse(ReferenceSettings, args.settings, source="--settings")
    write_reference(
        args.name_of, settings, args.extractor, args.out, data=args.data, device=args.device
    )


def _share(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text}; accepted: I/N with I from 1 to N")
    return int(number), int(count)


def add_verbs(verbs: options.Verbs) -> None:
    """Declare the verbs of this module, with their options."""
    verb = options.add_verb(verbs, "prepare-data", prepare_data)
    verb.add_argument("--dataset", required=True, help="name of the dataset", dest="name_of")
    verb.add_argument(
        "--classes",
        type=options.at_least(0),
        help="how many classes there have to be; default, and 0: whatever there are",
    )
    options.add_settings(verb)
    options.add_out(verb)

    verb = options.add_verb(verbs, "fetch", fetch)
    kinds = ("autoencoder", "extractor", "text_encoder")
    verb.add_argument("--kind", required=True, choices=kinds, help="what the network is for")
    verb.add_argument("--asset", required=True, help="its name in the scale", dest="name_of")
    options.add_settings(verb)
    options.add_out(verb)

    for name, function in (
        ("train-autoencoder", train_autoencoder),
        ("train-extractor", train_extractor),
    ):
        verb = options.add_verb(verbs, name, function)
        options.add_settings(verb)
        options.add_data(verb)
        options.add_out(verb)
        options.add_threads(verb)

    _add_cache_latents(verbs)

    verb = options.add_verb(verbs, "prompts", prompts)
    what = "captions_val2014.json, or manifest.json of a prepared dataset"
    options.add_path(verb, "--captions", what)
    verb.add_argument("--count", type=options.at_least(1), default=50_000, help="of prompts")
    options.add_seed(verb, default=0)
    options.add_out(verb)

    verb = options.add_verb(verbs, "check-data", check_data)
    options.add_data(verb)

    verb = options.add_verb(verbs, "real-features", real_features)
    options.add_data(verb)
    options.add_extractor(verb)
    options.add_out(verb)
    options.add_device(verb)
    options.add_threads(verb)

    verb = options.add_verb(verbs, "reference", reference)
    verb.add_argument("--reference", required=True, help="its name in the scale", dest="name_of")
    options.add_settings(verb)
    options.add_path(verb, "--data", "manifest.json of the dataset to compute from", required=False)
    options.add_extractor(verb)
    options.add_out(verb)
    options.add_device(verb)
    options.add_threads(verb)


def _add_cache_latents(verbs: options.Verbs) -> None:
    verb = options.add_verb(verbs, "cache-latents", cache_latents)
    options.add_data(verb)
    options.add_path(verb, "--autoencoder", "folder of the trained autoencoder")
    options.add_text_encoder(verb)
    options.add_out(verb)
    options.add_device(verb)
    options.add_threads(verb)
    for flag, what in (("--dtype", "latents"), ("--tokens-dtype", "encoded captions")):
        kinds = ("float32", "float16")
        verb.add_argument(flag, choices=kinds, default=kinds[0], help=f"how {what} are stored")
    verb.add_argument(
        "--encode-batch",
        type=options.at_least(0),
        help="images encoded at once; default, and 0: 500 of 32 x 32 pixels, fewer of larger ones",
    )
    verb.add_argument(
        "--share",
        type=_share,
        metavar="I/N",
        help="make only part I of N, with other processes; afterwards once without it",
    )
