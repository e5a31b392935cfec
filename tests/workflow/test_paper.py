"""The paper's scale is planned without any of its data, and says in one line what is missing."""

from collections import Counter

import pytest

from dtr.config.checks import load_scale
from dtr.config.reading import load_scale_file, merged, read_mapping
from dtr.planning.jobs import catalogue, jobs_behind
from dtr.planning.places import Places

pytestmark = pytest.mark.workflow


@pytest.mark.parametrize("name", ["workstation", "paper"])
def test_the_jobs_are_those_that_plan_counts(project, root, name):
    file = f"workflow/config/{name}.yaml"
    planned = Counter(rule for rule, _ in project.planned("--configfile", file))
    scale = load_scale_file(root / file)
    jobs = jobs_behind(catalogue(scale), [Places(scale.results).page()])
    assert planned == Counter(job.stage for job in jobs.values())


def test_ones_own_folder_is_tried_by_two_files_and_a_path(project, root):
    files = [f"workflow/config/{name}.yaml" for name in ("workstation", "quick")]
    path = {"datasets": {"photos": {"path": "/my/images"}}}
    contents = [read_mapping(root / file) for file in files]
    scale = load_scale(merged(merged(*contents), path), source="quick")
    planned = Counter(
        rule
        for rule, _ in project.planned(
            "--configfile", *files, "--config", "datasets={photos: {path: /my/images}}"
        )
    )
    jobs = jobs_behind(catalogue(scale), [Places(scale.results).page()])
    assert planned == Counter(job.stage for job in jobs.values())
    assert scale.rehearsal and scale.execution.device == "cpu"
    assert scale.results != load_scale_file(root / files[0]).results


def test_a_missing_network_and_a_missing_dataset_are_one_line_each(project):
    file = ("--configfile", "workflow/config/workstation.yaml")
    offline = "extractors={inception: {download: false}}"
    made = "results/workstation/extractors/inception/record.json"
    answer = project.snakemake("--cores", "1", *file, "--config", offline, "--", made)
    assert answer.returncode != 0
    said = [line for line in answer.stderr.splitlines() if line.startswith("dtr fetch: ")]
    assert any("put weights-inception-2015-12-05-6726825d.pth" in line for line in said)
    made = "results/workstation/data/photos/manifest.json"
    answer = project.snakemake("--cores", "1", *file, "--", made)
    assert answer.returncode != 0
    said = [line for line in answer.stderr.splitlines() if line.startswith("dtr prepare-data: ")]
    assert any("data/photos" in line for line in said)
    assert "Traceback" not in answer.stderr
