"""Verbs of the report and its parts; they start nothing."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dtr.commands import options
from dtr.commands.scale import scale_of
from dtr.support.errors import Refusal

if TYPE_CHECKING:
    from dtr.config.scale import Scale

FROM_REFERENCE = "results/from-reference"  # where the report of reference results is built


def report(args: argparse.Namespace) -> None:
    """Build tables, figures, claims and the page of what exists now, below now/; starts nothing."""
    from dtr.records.reference import restore
    from dtr.reporting.html import build_report

    if (args.settings is None) == (args.reference is None):
        raise Refusal("--settings, --reference: one of them, and one only, names the records")
    if args.reference is not None:
        scale = restore(args.reference, Path(FROM_REFERENCE))
        page = build_report(scale, Path(scale.results))  # no rule declares anything there
    else:
        page = build_report(scale_of(args))
    print(f"report: {page}")


def page(args: argparse.Namespace) -> None:
    """Build the page of a finished scale beside tables, figures and claims; for the workflow."""
    from dtr.reporting.html import build_page

    print(f"page: {build_page(scale_of(args))}")


def collect(args: argparse.Namespace) -> None:
    """Copy the records of a scale, and the few images of its page, as reference results."""
    from dtr.records.reference import collect

    print(f"{collect(scale_of(args), args.out)} records in {args.out}")


def compare(args: argparse.Namespace) -> None:
    """Say value by value whether the results that exist agree with the reference results."""
    from collections import Counter

    from dtr.records.reference import compare, comparison_csv
    from dtr.support.files import write_text

    scale = scale_of(args)
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
    from dtr.records.table import Records
    from dtr.reporting.tables.build import build_table
    from dtr.reporting.tables.formats import to_markdown, write_tables

    scale = scale_of(args)
    built = build_table(args.only, Records(scale))
    write_tables([built], _folder(scale, args.out, "tables"))
    print(to_markdown(built), end="")


def figure(args: argparse.Namespace) -> None:
    """Draw one figure as SVG, PNG and PDF."""
    from dtr.planning.targets import target_records
    from dtr.records.table import Records
    from dtr.reporting.figures.draw import draw_blank, draw_figure

    scale = scale_of(args)
    folder = _folder(scale, args.out, "figures")
    if draw_figure(args.only, Records(scale), folder) is None:
        wanted = target_records(scale, args.only)
        if not wanted or not all(Path(record).is_file() for record in wanted):
            raise Refusal(f"--only {args.only}: there are no records to draw it from yet")
        draw_blank(args.only, folder)  # the page of a finished scale waits for its files
    print(f"figure: {folder / args.only}.svg")


def claims(args: argparse.Namespace) -> None:
    """Judge the paper's claims by the records that exist now; write CSV, Markdown and JSON."""
    from dtr.records.table import Records
    from dtr.reporting.claims.judged import build_claims, write_claims

    scale = scale_of(args)
    folder = _folder(scale, args.out, "claims")
    write_claims(build_claims(scale, Records(scale)), folder)
    print(f"claims: {folder / 'claims.md'}")


def power(args: argparse.Namespace) -> None:
    """Say which effects the seeds of some results can show, and what it takes to show more."""
    from dtr.records.reference import reference_scale
    from dtr.records.table import Records
    from dtr.reporting.claims.power import power_table

    if (args.settings is None) == (args.reference is None):
        raise Refusal("--settings, --reference: one of them, and one only, names the records")
    scale = scale_of(args) if args.reference is None else reference_scale(args.reference)
    print("DTR against no routing, FID:")
    print(power_table(Records(scale)).to_string(index=False))


def noise(args: argparse.Namespace) -> None:
    """Say how much of the noise of a difference comes from training, how much from sampling."""
    from dtr.records.reference import reference_scale
    from dtr.records.table import Records
    from dtr.reporting.claims.components import noise_table
    from dtr.reporting.figures.draw import draw_figure

    if (args.settings is None) == (args.reference is None):
        raise Refusal("--settings, --reference: one of them, and one only, names the records")
    scale = scale_of(args) if args.reference is None else reference_scale(args.reference)
    records = Records(scale)
    table = noise_table(records)
    if table.empty:
        raise Refusal(
            f"{scale.results}: no two trainings with all draws of samples; they are drawn by "
            "`snakemake noise`, for two seeds or more"
        )
    print("DTR against no routing, FID: standard deviations of one difference, in per cent")
    print(table.to_string(index=False))
    if args.reference is None:
        folder = _folder(scale, args.out, "figures")
        draw_figure("noise", records, folder)
        print(f"figure: {folder / 'noise'}.svg")


def _folder(scale: "Scale", out: Path | None, name: str) -> Path:
    """Where a verb writes: what is made by hand never stands where a rule declares its output."""
    from dtr.planning.places import Places

    return Path(Places(scale.results).now()) / name if out is None else out


def add_verbs(verbs: options.Verbs) -> None:
    """Declare the verbs of this module, with their options."""
    verb = options.add_verb(verbs, "report", report)
    options.add_settings(verb, required=False)
    options.add_reference(verb, required=False)

    verb = options.add_verb(verbs, "page", page)
    options.add_settings(verb)

    verb = options.add_verb(verbs, "collect", collect)
    options.add_settings(verb)
    options.add_out(verb)

    verb = options.add_verb(verbs, "compare", compare)
    options.add_settings(verb)
    options.add_reference(verb)

    for name, function in (("table", table), ("figure", figure)):
        verb = options.add_verb(verbs, name, function)
        options.add_settings(verb)
        verb.add_argument(
            "--only", required=True, help="name of a table or figure: table4, figure3"
        )
        options.add_out(verb, required=False)

    verb = options.add_verb(verbs, "claims", claims)
    options.add_settings(verb)
    options.add_out(verb, required=False)

    verb = options.add_verb(verbs, "power", power)
    options.add_settings(verb, required=False)
    options.add_reference(verb, required=False)

    verb = options.add_verb(verbs, "noise", noise)
    options.add_settings(verb, required=False)
    options.add_reference(verb, required=False)
    options.add_out(verb, required=False)
