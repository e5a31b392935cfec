"""A small rehearsal of the paper's scale: from files of noise in the real formats to the page."""

import re

import pytest
import yaml

from dtr.config.checks import load_scale
from dtr.config.reading import merged, read_mapping
from dtr.interop.rehearsed import make_material
from dtr.records.schema import MetricsRecord, read_record

pytestmark = pytest.mark.workflow

MEASURED = "results/rehearsal/runs/ffhq64-adm-dtr-a4/seed0/step4/metrics"


@pytest.fixture(scope="module")
def small(root) -> dict:
    """The rehearsal's overlay cut down to Table 1 on FFHQ at 64 pixels: three runs, no captions."""
    overlay = yaml.safe_load((root / "workflow/config/rehearsal.yaml").read_text(encoding="utf-8"))
    paper = read_mapping(root / "workflow/config/paper.yaml")
    whole = merged(paper, overlay)
    slots = {"pixel_unconditional": whole["slots"]["pixel_unconditional"] | {
        "extractor": "inception"}}  # fmt: skip
    return whole | {
        "targets": ["table1"],
        "slots": slots,
        "datasets": {"ffhq64": whole["datasets"]["ffhq64"]},
        "extractors": {"inception": whole["extractors"]["inception"] | {"dims": 64}},
        "autoencoders": {},
        "text_encoders": {},
        "references": {"ffhq64": whole["references"]["ffhq64"]},
        "backbones": {"ADM-64": whole["backbones"]["ADM-64"]},
    }


def test_only_counts_places_and_sizes_differ_from_the_paper(root):
    paper = read_mapping(root / "workflow/config/paper.yaml")
    overlay = read_mapping(root / "workflow/config/rehearsal.yaml")
    scale = load_scale(merged(paper, overlay), source="rehearsal")
    original = load_scale(paper, source="paper")
    assert scale.rehearsal and not original.rehearsal
    same = ("seeds", "targets", "routing", "weighting", "diffusion", "cache")
    assert all(getattr(scale, name) == getattr(original, name) for name in same)
    assert scale.training == original.training.model_copy(update={"batch_size": 8})
    assert set(scale.slots) == set(original.slots)
    for name, slot in scale.slots.items():
        theirs = original.slots[name].model_copy(update={"steps": slot.steps})
        changes = {"extractor": theirs.extractor, "num_classes": theirs.num_classes}
        assert slot.model_copy(update=changes) == theirs
    for name, size in scale.backbones.items():
        assert size.type == original.backbones[name].type
    kept = ("guidance", "guidance_channels", "labels", "seed", "neighbours", "inception_split")
    assert all(
        getattr(scale.evaluation, name) == getattr(original.evaluation, name) for name in kept
    )


@pytest.mark.slow
def test_from_files_of_noise_to_a_page_that_says_so(project, small, monkeypatch):
    monkeypatch.setattr("dtr.interop.rehearsed._clip", lambda *_: None)
    assert make_material(project.folder / "results/rehearsal/material")
    assert not make_material(project.folder / "results/rehearsal/material")
    file = project.write_scale("small", small)
    answer = project.run(
        "python", "-m", "dtr", "warm", "--", "snakemake", "--cores", "2", "--configfile", file
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (record,) = (project.folder / MEASURED).glob("*.json")
    found = read_record(MetricsRecord, record)
    assert found.status == "ok" and found.reference["computed"] == "ffhq64"
    assert {metric.name for metric in found.metrics} >= {"fid@inception", "precision@inception"}
    page = (project.folder / "results/rehearsal/report/index.html").read_text(encoding="utf-8")
    headings = re.findall(r"<(?:h[1-6]|title)\b[^>]*>(.*?)</", page, re.DOTALL)
    assert len(headings) > 5
    assert all(heading.startswith("Rehearsal: ") for heading in headings)
