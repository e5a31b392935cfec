"""`python -m dtr try` from end to end, at an even smaller size than the smoke scale."""

import pytest
import yaml

from dtr.support.files import hash_file, read_json

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

SAME = """
from dtr.routing import Beta, dtr_masks
from dtr.support.settings import PartSettings, Positive


class Windows(PartSettings):
    beta: Beta
    alpha: Positive = 4.0


def table(settings: Windows, layers, timesteps, channels):
    return dtr_masks(timesteps, channels, beta=settings.beta, alpha=settings.alpha)[None]


def empty(settings: Windows, layers, timesteps, channels):
    return table(settings, layers, timesteps, channels) & False
"""
NAME = "same-table"


def tiny(root) -> dict:
    """The smoke scale cut down to its unconditional slot, with two steps and 24 samples."""
    smoke = yaml.safe_load((root / "workflow/config/smoke.yaml").read_text(encoding="utf-8"))
    smoke |= {"scale": "tiny", "results": "results/tiny", "targets": ["table1"]}
    smoke["slots"] = {"unconditional": smoke["slots"]["unconditional"] | {"steps": 2}}
    smoke["backbones"] = {"DiT-B/2": smoke["backbones"]["DiT-B/2"] | {"width": 16}}
    smoke["datasets"] = {"digits": smoke["datasets"]["digits"] | {"num_test": 4500}}
    smoke["autoencoders"] = {"digits-vae": smoke["autoencoders"]["digits-vae"] | {"steps": 2}}
    smoke["extractors"] = {"digits-cnn": smoke["extractors"]["digits-cnn"] | {"steps": 2}}
    smoke["text_encoders"] = {}
    smoke["evaluation"] |= {"n_samples": 24, "n_samples_reduced": 24, "sampling_steps": 2}
    return smoke


@pytest.fixture(scope="module")
def tried(project, root):
    """The project after DTR was tried under another name; before, a bad method was refused."""
    (project.folder / "methods").mkdir()
    (project.folder / "methods/same.py").write_text(SAME, encoding="utf-8")
    scale = project.write_scale("tiny", tiny(root))
    options = ("--configfile", scale, "--seeds", "0,1", "--cores", "2")

    def attempt(function: str, *more: str):
        method = f"methods/same.py:{function}"
        return project.run("python", "-m", "dtr", "try", "--method", method, *options, *more)

    refused = attempt("empty")
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith(
        "dtr try: routing 'methods/same.py:empty': timestep 0 of layer 0 is left"
    )
    assert not (project.folder / "results").exists()
    answer = attempt("table")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return project, attempt


def folder(project):
    return project.folder / "results/tiny/try" / NAME


def times_of_runs(project):
    runs = project.folder / "results/tiny/runs"
    return {path: path.stat().st_mtime_ns for path in runs.rglob("*")}


def test_dtr_under_another_name_is_identical_to_dtr(tried):
    project, _ = tried
    (result,) = read_json(folder(project) / "try.json")["results"]
    none, dtr = result["differences"]
    assert (dtr["verdict"], dtr["percent"], dtr["low"], dtr["high"]) == ("identical", 0, 0, 0)
    assert none["by_seed"] != dtr["by_seed"]
    assert result["models"]["method"]["fid"] == result["models"]["dtr"]["fid"]
    assert "to the last digit" in (folder(project) / "index.html").read_text(encoding="utf-8")


def test_exactly_the_three_were_trained(tried):
    project, _ = tried
    runs = project.folder / "results/tiny/runs"
    assert {path.name for path in runs.iterdir()} == {
        "ffhq256-b2-none", "ffhq256-b2-dtr-a4", f"ffhq256-b2-try-{NAME}",
    }  # fmt: skip
    assert {path.name for path in runs.glob("*/*")} == {"seed0", "seed1"}


def test_a_second_time_nothing_is_trained(tried):
    project, attempt = tried
    answer = attempt("table", "--dry-run")
    assert answer.returncode == 0
    assert "Nothing to be done" in answer.stdout + answer.stderr
    page = folder(project) / "index.html"
    before = times_of_runs(project)
    seen = hash_file(page)
    answer = attempt("table")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert times_of_runs(project) == before
    assert hash_file(page) == seen
    answer = project.run("python", "-m", "dtr", "try", "--page", str(folder(project)))
    assert answer.returncode == 0, answer.stderr
    assert hash_file(page) == seen


def test_another_method_trains_itself_alone(tried):
    _, attempt = tried
    answer = attempt("table", "--dry-run", "--constants", '{"alpha": 1.0}')
    assert answer.returncode == 0, answer.stderr
    text = answer.stdout + answer.stderr
    assert "/ffhq256-b2-try-same-table-alpha-1.0/seed1/step2/train.json" in text
    outputs = [line for line in text.splitlines() if line.strip().startswith("output:")]
    assert outputs
    assert all("ffhq256-b2-try-same-table-alpha-1.0" in line for line in outputs)
