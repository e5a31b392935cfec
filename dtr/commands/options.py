"""What verbs share: how one is declared, options that mean the same in several, one line of news.

Each module of `dtr.commands` declares its verbs in `add_verbs`; options of one verb stand there.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Verbs = argparse._SubParsersAction  # what add_subparsers returns has no public name


def add_verb(
    verbs: Verbs, name: str, function: Callable[[argparse.Namespace], None], **parsing: Any
) -> argparse.ArgumentParser:
    """The parser of a new verb that calls `function`, whose docstring's first line is its help.

    parsing: options of argparse's parser.
    """
    summary = function.__doc__.splitlines()[0]
    verb = verbs.add_parser(name, help=summary, description=summary, **parsing)
    verb.set_defaults(verb=function)
    return verb


def say(args: argparse.Namespace, problem: str) -> None:
    """One line on stderr about what was recorded, but did not succeed."""
    print(f"dtr {args.name}: {problem}", file=sys.stderr)


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


def add_path(verb: argparse.ArgumentParser, flag: str, help: str, *, required: bool = True) -> None:
    """A file or folder."""
    verb.add_argument(flag, type=Path, required=required, metavar="PATH", help=help)


def _creatable(text: str) -> Path:
    """The type of an output: a path that can be there, said before anything is computed."""
    path = Path(text)
    above = next(one for one in path.absolute().parents if one.exists())
    if not above.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: {above} is a file; accepted: a path in a folder")
    return path


def add_out(verb: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Where a verb writes."""
    what = "what is written: a folder or a file"
    verb.add_argument("--out", type=_creatable, required=required, metavar="PATH", help=what)


def add_data(verb: argparse.ArgumentParser) -> None:
    """Prepared images, or latents of them."""
    add_path(verb, "--data", "manifest.json of a prepared dataset or of cached latents")


def add_extractor(verb: argparse.ArgumentParser, *, required: bool = True) -> None:
    """The network whose features are compared."""
    add_path(verb, "--extractor", "folder of the trained extractor", required=required)


def add_real(verb: argparse.ArgumentParser) -> None:
    """What samples are compared with."""
    add_path(verb, "--real", "features of the real images")


def add_scale(verb: argparse.ArgumentParser, *, required: bool = True) -> None:
    """A scale by its files; `add_settings` takes its content."""
    help = "YAML files of workflow/config, each laid over the one before"
    verb.add_argument("--scale", type=Path, nargs="+", required=required, metavar="PATH", help=help)


def add_configfile(
    verb: argparse.ArgumentParser, *, default: Path | None = None, help: str | None = None
) -> None:
    """A scale as Snakemake is told it: files laid over each other, and single values.

    Without `default` the verb does without it; then `help` says what it is for.
    """
    verb.add_argument(
        "--configfile",
        type=Path,
        nargs="+",
        default=default and [default],
        metavar="PATH",
        help=help or f"a scale; default: {default}",
    )
    add_changes(verb)


def add_changes(verb: argparse.ArgumentParser) -> None:
    """Single values of a scale."""
    verb.add_argument(
        "--config",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="single values in place of the scale's, as for snakemake",
    )


def add_reference(verb: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Results that are shipped."""
    add_path(verb, "--reference", "folder of reference results", required=required)


def add_settings(verb: argparse.ArgumentParser, *, required: bool = True) -> None:
    """What a stage depends on, as the workflow hands it over."""
    verb.add_argument(
        "--settings", required=required, metavar="JSON", help="settings of this stage"
    )


def add_protocol(verb: argparse.ArgumentParser, *, required: bool = True) -> None:
    """How samples are drawn and measured."""
    verb.add_argument("--protocol", required=required, metavar="JSON", help="evaluation protocol")


def add_text_encoder(verb: argparse.ArgumentParser) -> None:
    """The encoder of captions."""
    verb.add_argument(
        "--text-encoder", metavar="JSON", help="settings of the text encoder, if there is one"
    )


def add_run(verb: argparse.ArgumentParser) -> None:
    """The name that a model is recorded under."""
    verb.add_argument("--run", required=True, help="id of the run, for its record")


def add_step(verb: argparse.ArgumentParser, *, required: bool = True) -> None:
    """The length of a training."""
    verb.add_argument(
        "--step",
        type=at_least(0),
        required=required,
        help="step to train up to; of an import where the file name does not end in it",
    )


def add_seed(verb: argparse.ArgumentParser, *, default: int | None) -> None:
    """The seed; without a default, that of the settings."""
    verb.add_argument(
        "--seed", type=at_least(0), default=default, help="of what is drawn; of an imported run"
    )


def add_model(verb: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Trained models: one, or experts that work together."""
    what = "folders with ema.safetensors and train.json"
    verb.add_argument("--model", type=Path, nargs="+", required=required, help=what)


def add_samples(verb: argparse.ArgumentParser) -> None:
    """Shards of drawn images."""
    verb.add_argument("--samples", type=Path, nargs="*", default=[], help="npz files, in order")


def add_batch_size(verb: argparse.ArgumentParser, *, default: int) -> None:
    """How much is computed at once."""
    verb.add_argument(
        "--batch-size",
        type=at_least(1),
        default=default,
        help="images at once; samples depend on it by rounding at most",
    )


def add_bootstrap(verb: argparse.ArgumentParser) -> None:
    """How finely intervals are known."""
    verb.add_argument(
        "--bootstrap", type=at_least(1), default=200, help="resamples behind an interval"
    )


def add_device(verb: argparse.ArgumentParser) -> None:
    """Where networks are computed; `dtr.support.devices.use_device` refuses what is not there."""
    verb.add_argument("--device", default="cpu", choices=("cpu", "cuda"))


def add_rng(verb: argparse.ArgumentParser) -> None:
    """Where noise is drawn."""
    verb.add_argument(
        "--rng",
        choices=("auto", "host", "device"),
        default="auto",
        help="where noise is drawn; auto: on the device, of a CPU on the host",
    )


def add_threads(verb: argparse.ArgumentParser) -> None:
    """How many threads a job takes."""
    verb.add_argument("--threads", type=at_least(1), default=1, help="CPU threads")
