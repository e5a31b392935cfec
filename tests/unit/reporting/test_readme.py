"""What README.md says came out is what the reference results in the repository say."""

import re
from pathlib import Path

from dtr.records.reference import reference_scale
from dtr.records.table import Records
from dtr.reporting.claims.judged import build_claims

PLACES = {  # in README's words, with the claim that stands behind each
    "FFHQ 256": "dtr-ffhq256",
    "ImageNet 256": "dtr-in256",
    "COCO 256": "dtr-coco256",
    "FFHQ 64 (ADM)": "dtr-ffhq64",
    "ImageNet 64 (ADM)": "dtr-in64",
    "all five together": "dtr",
}


def test_readme_tells_the_reference_results(root: Path) -> None:
    scale = reference_scale(root / "results/reference/digits")
    claims = {one.claim.id: one for one in build_claims(scale, Records(scale))}
    rows = {}
    for place, name in PLACES.items():
        (one,) = claims[name].comparisons
        here = f"{one.effect_text} {one.interval_text}"
        rows[place] = (here, one.change(one.expected), claims[name].verdict)
    text = (root / "README.md").read_text(encoding="utf-8")
    first, _, table = text.partition("## What came out")
    cells = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)
    told = {place: tuple(rest) for place, *rest in cells if place in PLACES}
    said = {place: tuple(cell.replace("−", "-") for cell in row) for place, row in rows.items()}
    assert told == said
    here, paper, _ = said["all five together"]
    assert f"FID changes by {here}, in the paper by {paper}" in " ".join(first.split())
