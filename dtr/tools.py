"""Verbs that start no stage: the report and its parts, scale files, and other people's files."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from dtr.errors import Refusal

if TYPE_CHECKING:
    from dtr.config import Scale

FROM_REFERENCE = "results/from-reference"  # where the report of reference results is built


def report(args: argparse.Namespace) -> None:
    """Build tables, figures, claims and the page from records that exist; starts nothing."""
    from dtr.reporting.html import build_report
    from dtr.reporting.reference import restore

    if (args.settings is None) == (args.reference is None):
        raise Refusal("--settings, --reference: one of them, and one only, names the records")
    if args.reference is not None:
        scale = restore(args.reference, Path(FROM_REFERENCE))
    else:
        scale = _scale_of(args)
    print(f"report: {build_report(scale)}")


def collect(args: argparse.Namespace) -> None:
    """Copy the records of a scale, without images and weights, as reference results."""
    from dtr.reporting.reference import collect

    print(f"{collect(_scale_of(args), args.out)} records in {args.out}")


def compare(args: argparse.Namespace) -> None:
    """Say value by value whether the results that exist agree with the reference results."""
    from collections import Counter

    from dtr.files import write_text
    from dtr.reporting.reference import compare, comparison_csv

    scale = _scale_of(args)
    compared = compare(scale, args.reference)
    out = Path(scale.results) / "compared.csv"
    write_text(out, comparison_csv(compared))
    for one in compared:
        if one.agreement == "differs":
            print(
                f"differs: {one.run} step {one.step} {one.metric} ({one.protocol_id}): "
                f"{one.value:.4g} [{one.low:.4g}, {one.high:.4g}], reference "
                f"{one.reference:.4g} [{one.reference_low:.4g}, {one.reference_high:.4g}]"
            )
    counts = Counter(one.agreement for one in compared)
    print(", ".join(f"{count} {name}" for name, count in counts.most_common()) + f"; see {out}")


def table(args: argparse.Namespace) -> None:
    """Write one table as CSV, Markdown and LaTeX, and print it."""
    from dtr.reporting.formats import to_markdown, write_tables
    from dtr.reporting.records import Records
    from dtr.reporting.tables import build_table

    scale = _scale_of(args)
    built = build_table(args.only, Records(scale))
    write_tables([built], Path(scale.results) / "tables")
    print(to_markdown(built), end="")


def figure(args: argparse.Namespace) -> None:
    """Draw one figure as SVG, PNG and PDF."""
    from dtr.reporting.figures import draw_figure
    from dtr.reporting.records import Records

    scale = _scale_of(args)
    folder = Path(scale.results) / "figures"
    if draw_figure(args.only, Records(scale), folder) is None:
        raise Refusal(f"--only {args.only}: there are no records to draw it from yet")
    print(f"figure: {folder / args.only}.svg")


def claims(args: argparse.Namespace) -> None:
    """Judge the paper's claims by the records that exist now; write CSV, Markdown and JSON."""
    from dtr.reporting.claims import build_claims, write_claims
    from dtr.reporting.records import Records

    scale = _scale_of(args)
    folder = Path(scale.results) / "claims"
    write_claims(build_claims(scale, Records(scale)), folder)
    print(f"claims: {folder / 'claims.md'}")


def settings(args: argparse.Namespace) -> None:
    """Check a scale file and print it as one line of JSON, for --settings of the report."""
    from dtr.files import canonical_json

    print(canonical_json(_read_scale(args.scale).plain()))


def schema(_args: argparse.Namespace) -> None:
    """Print the JSON schema of a scale file."""
    from dtr.config import Scale

    print(json.dumps(Scale.model_json_schema(), indent=2))


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
    from dtr.interop import import_checkpoint
    from dtr.planning import find_run, train_settings
    from dtr.settings import TrainSettings
    from dtr.strict import parse

    if (args.scale is None) == (args.settings is None):
        raise Refusal("--scale, --settings: one of them, and one only, has to describe the network")
    if args.scale is not None:
        scale = _read_scale(args.scale)
        seed = scale.seeds[0] if args.seed is None else args.seed
        settings = train_settings(scale, find_run(scale, args.run), seed)
    else:
        settings = parse(TrainSettings, args.settings, source="--settings")
        if args.seed not in (None, settings.seed):
            raise Refusal(f"--seed {args.seed}: --settings have seed {settings.seed}")
    import_checkpoint(args.source, settings, args.out, run=args.run, step=args.step)


def export_samples(args: argparse.Namespace) -> None:
    """Join sample files into the one npz that ADM's evaluator reads."""
    from dtr.interop_adm import export_samples

    export_samples(args.samples, args.out)


def unlock(_args: argparse.Namespace) -> None:
    """Remove the lock of a Snakemake that was killed here, unless another is at work here."""
    import psutil

    locks = list(Path(".snakemake/locks").glob("*.lock"))
    here = str(Path.cwd())
    for process in psutil.process_iter(["cmdline", "cwd"]) if locks else ():
        started = [Path(word).name for word in (process.info["cmdline"] or [])[:3]]
        if "snakemake" in started and process.info["cwd"] == here:
            raise Refusal(f"Snakemake is at work in {here} (process {process.pid}); its lock stays")
    for lock in locks:
        lock.unlink(missing_ok=True)
        print(f"unlock: {lock} was left by a Snakemake that is gone")


def _scale_of(args: argparse.Namespace) -> "Scale":
    from dtr.config import Scale
    from dtr.strict import parse

    return parse(Scale, args.settings, source="--settings")


def _read_scale(path: Path) -> "Scale":
    """The content of a scale file, checked."""
    import yaml

    from dtr.config import load_scale

    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise Refusal(f"{path}: not readable as YAML ({reason})") from None
    if not isinstance(value, dict):
        raise Refusal(f"{path}: not a mapping of settings")
    return load_scale(value, source=str(path))
