"""What Snakemake would do with a scale, and how it refuses one: nothing is computed here."""

import re
import shlex
import shutil
from collections import Counter

import pytest

from dtr.config.scale import Scale
from dtr.experiments import RUNS
from dtr.planning.evaluations import evaluations
from dtr.planning.jobs import Job, catalogue, jobs_behind
from dtr.planning.places import Places
from dtr.planning.runs import milestones
from dtr.support.files import read_json

pytestmark = pytest.mark.workflow

TABLE1 = [(model, routing) for model in ("ffhq256-b2", "in256-l2")
          for routing in ("none", "rtr", "dtr-a4")]  # fmt: skip


def test_the_default_scale_trains_every_run_of_the_paper(project, whole):
    jobs = project.planned()
    trained = {tuple(out.split("/")[3:5]) for rule, out in jobs if rule == "train"}
    assert trained == {(run.id, "seed0") for run in RUNS}
    counts = Counter(rule for rule, _ in jobs)
    found = evaluations(whole)
    steps = sum(len(milestones(whole, run)) for run in RUNS)
    assert counts == {
        "prepare_data": 3,
        "train_autoencoder": 2,
        "train_extractor": 3,
        "cache_latents": 2,
        "real_features": 3,
        "train": steps,
        "sample": len(found),
        "measure": len(found),
        "measure_real": 5,
        "cka": 3,
        "throughput": 3,
        "table": 8,
        "figure": 5,
        "verdicts": 1,
        "page": 1,
    }
    own = {(job.stage, job.key) for job in behind([Places("results/digits").page()], whole)}
    assert own == set(jobs)


def behind(wanted: list[str], scale: Scale) -> list[Job]:
    """The jobs behind `wanted` as `python -m dtr plan` counts them."""
    named = scale.model_copy(update={"results": "results/digits"})
    return list(jobs_behind(catalogue(named), wanted).values())


def test_one_table_can_be_asked_for(project, whole):
    jobs = project.planned("table8")
    trained = {out.split("/")[3] for rule, out in jobs if rule == "train"}
    methods = ("none", "maxroaming", "ercdt8", "cdtr8", "dtr-a4")
    assert trained == {f"ffhq256-b2-{method}" for method in methods}
    assert [out for rule, out in jobs if rule == "table"] == ["results/digits/tables/table8.csv"]
    assert not {"page", "verdicts", "figure", "throughput"} & {rule for rule, _ in jobs}
    own = {(job.stage, job.key) for job in behind(["results/digits/tables/table8.csv"], whole)}
    assert own == {(rule, out) for rule, out in jobs if rule != "table8"}


ASKED = ("table5", "figure3", "claims", "samples", "all")


@pytest.fixture(scope="module")
def jobs_of_nothing(project) -> dict[str, list[tuple[str, str]]]:
    """What is planned for each target while there are no results."""
    return {target: sorted(project.planned(target)) for target in ASKED}


def test_a_page_of_what_exists_satisfies_no_target(project, jobs_of_nothing):
    scale = ("--scale", "workflow/config/digits.yaml")
    settings = project.run("python", "-m", "dtr", "settings", *scale).stdout
    for verb in (["report"], ["table", "--only", "table5"], ["figure", "--only", "figure2"]):
        answer = project.run("python", "-m", "dtr", *verb, "--settings", settings)
        assert answer.returncode == 0, answer.stderr
    results = project.folder / "results/digits"
    try:
        assert [path.name for path in results.iterdir()] == ["now"]
        assert {path.name for path in (results / "now").iterdir()} == {
            "claims", "figures", "report", "tables",
        }  # fmt: skip
        planned = {target: sorted(project.planned(target)) for target in ASKED}
    finally:
        shutil.rmtree(results)
    assert planned == jobs_of_nothing


def test_files_that_an_older_version_left_satisfy_no_target(project, jobs_of_nothing):
    results = project.folder / "results/digits"
    named = [f"tables/table{number}" for number in range(1, 9)]
    named += [f"figures/figure{number}" for number in range(2, 7)]
    try:
        for name in (*named, "claims/claims", "report/index"):
            for kind in ["csv", "md", "tex", "json", "svg", "png", "pdf", "html"]:
                (results / name).parent.mkdir(parents=True, exist_ok=True)
                (results / f"{name}.{kind}").write_text("of another time")
        for target in ("table5", "claims", "samples", "all"):
            left = {job for job in jobs_of_nothing[target] if "figure2" not in job[1]}
            assert left <= set(project.planned(target)), target
    finally:
        shutil.rmtree(results)


def test_every_shard_and_seed_is_a_job_of_its_own(project, digits):
    digits["seeds"] = [3, 5]
    digits["evaluation"] |= {"n_samples": 1001, "n_samples_reduced": 1001, "shard_size": 500}
    jobs = project.planned("--configfile", project.write_scale("more", digits))
    measured = [tuple(out.split("/")[3:5]) for rule, out in jobs if rule == "measure"]
    expected = [(f"{model}-{routing}", seed) for model, routing in TABLE1
                for seed in ("seed3", "seed5")]  # fmt: skip
    controls = [("ffhq256-b2-none", "seed3"), ("in256-l2-none", "seed3")]
    assert sorted(measured) == sorted(expected + controls)
    drawn = Counter(re.sub(r"\d+\.npz$", "", out) for rule, out in jobs if rule == "sample")
    assert set(drawn.values()) == {3}
    assert len(drawn) == 14


@pytest.mark.parametrize("seeds", [[], [0, 2]])
def test_make_passes_seeds_on(project, root, seeds):
    """What `make reproduce` would run, planned; without SEEDS the scale's own."""
    chosen = [f"SEEDS={','.join(map(str, seeds))}"] if seeds else []
    said = project.run("make", "--dry-run", "--directory", str(root), "reproduce", *chosen)
    (options,) = re.findall(r"snakemake (--cores all.*)", said.stdout)
    jobs = project.planned("table8", *shlex.split(options))
    trained = {out.split("/")[4] for rule, out in jobs if rule == "train"}
    assert trained == {f"seed{seed}" for seed in seeds or [0]}


@pytest.mark.slow
def test_all_59_runs_of_the_paper_train(project):
    """A token number of steps on tiny networks, in one call of Snakemake with warm jobs."""
    scale = ("--configfile", "workflow/config/smoke.yaml")
    command = ("snakemake", "trained", "--cores", "2", *scale)
    answer = project.run("python", "-m", "dtr", "warm", "--", *command)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    records = [
        read_json(path)
        for path in (project.folder / "results/smoke").glob("runs/*/seed0/step*/train.json")
    ]
    assert {record["run"] for record in records} == {run.id for run in RUNS}
    assert {record["status"] for record in records} == {"ok"}


def test_lint_has_nothing_to_say(project):
    answer = project.snakemake("--lint")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "Congratulations" in answer.stdout + answer.stderr


def test_the_workflow_is_read_without_torch(project, tmp_path):
    """Snakemake parses it again in every job; a stand-in that cannot be imported shows torch."""
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')\n")
    answer = project.snakemake("-n", PYTHONPATH=f"{project.folder}:{tmp_path}")
    assert answer.returncode == 0, answer.stderr
    assert project.run("python", "-c", "import torch", PYTHONPATH=str(tmp_path)).returncode == 1


def new_run(**changes) -> dict:
    run = {"id": "own", "slot": "unconditional", "backbone": "DiT-B/2", "routing": "none"}
    return run | {"iterations": 100_000} | changes


TEXT_SIZE = {"type": "dit_text", "patch_size": 2, "width": 72, "depth": 4, "heads": 4}
MISTAKES = {
    "unknown key": (
        lambda scale: scale["training"].update(colour="red"),
        "training.colour: unknown key",
    ),
    "wrong type": (
        lambda scale: scale["training"].update(batch_size="many"),
        'training.batch_size = "many"',
    ),
    "beta out of range": (
        lambda scale: scale["routing"].update(beta=1.5),
        "routing.beta = 1.5",
    ),
    "impossible pair": (
        lambda scale: scale.update(
            backbones=scale["backbones"] | {"DiT-B/2-t2i": TEXT_SIZE},
            extra_runs=[new_run(backbone="DiT-B/2-t2i")],
        ),
        "extra_runs.0.backbone = 'DiT-B/2-t2i': impossible on slot 'unconditional'",
    ),
    "duplicate run id": (
        lambda scale: scale.update(extra_runs=[new_run(id="ffhq256-b2-none")]),
        "extra_runs.0.id = 'ffhq256-b2-none'",
    ),
    "number that YAML reads as text": (
        lambda scale: scale["training"].update(learning_rate="1e-4"),
        'training.learning_rate = "1e-4": input should be a valid number, write 1.0e-4',
    ),
    "results with a variable": (
        lambda scale: scale.update(results="$HOME/results"),
        "results = '$HOME/results': neither ~ nor variables are expanded",
    ),
    "results is a file": (
        lambda scale: scale.update(results="README.md/results"),
        "results = 'README.md/results'",
    ),
}


def refusal(answer, culprit: str) -> str:
    """The one line that names the culprit; Snakemake adds nothing that looks like a failure."""
    assert answer.returncode != 0
    output = answer.stdout + answer.stderr
    named = [line for line in output.splitlines() if culprit in line]
    assert len(named) == 1, output
    assert "Traceback" not in output
    assert "Error in" not in output
    return named[0]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_scale_is_refused_in_one_line(project, digits, mistake):
    change, culprit = MISTAKES[mistake]
    (project.folder / "README.md").touch()
    change(digits)
    path = project.write_scale("mistaken", digits)
    answer = project.snakemake("-n", "--configfile", path)
    assert f"{path}: " in refusal(answer, culprit)


def test_a_key_given_twice_is_refused_by_its_line(project, digits):
    path = project.write_scale("twice", digits)
    with (project.folder / path).open("a") as stream:
        stream.write("seeds: [1]\n")
    answer = project.snakemake("-n", "--configfile", path)
    assert f"{path}: line " in refusal(answer, "key 'seeds' is given twice in one mapping")


def test_the_command_line_changes_the_default_scale(project):
    """Snakemake hands the numbers of a list or mapping over as text."""
    given = ("seeds=[3, 5]", "training={learning_rate: 0.002}", "scale=mine", "results=../a b/")
    answer = project.snakemake("-n", "table8", "--config", *given)
    text = answer.stdout + answer.stderr
    assert answer.returncode == 0, text
    assert {"3", "5"} == set(re.findall(r"output: \.\./a b/runs/ffhq256-b2-none/seed(\d)/", text))


def test_the_command_line_is_blamed_for_its_mistake(project):
    answer = project.snakemake("-n", "--config", "seeds=0")
    line = refusal(answer, "seeds = 0: input should be a valid array, write [0]")
    assert line.startswith("--config: ")


def test_every_path_of_a_shell_command_is_quoted(root):
    """Words that are no paths stay as they are; options are quoted where they are made."""
    words = "images batch_size backbone pairs seconds slot bootstrap shard_size"
    options = "options data decoder prompts keep"
    plain = {f"params.{name}" for name in f"{words} {options}".split()}
    field = re.compile(r"\{((?:input|output|log|params)\b[^}:]*)\}")
    for file in (root / "workflow" / "rules").glob("*.smk"):
        shell = re.findall(r"^    shell:\n(?: {8}.*\n)+", file.read_text(encoding="utf-8"), re.M)
        unquoted = {name for command in shell for name in field.findall(command)}
        assert unquoted <= plain, file.name


@pytest.mark.slow
def test_results_may_lie_anywhere(project, digits, tmp_path):
    """Blanks, quotes and what else a shell would take apart, in the path of every file."""
    results = tmp_path / 'it\'s a (long) way; "far" & off' / "results"
    digits["results"] = f"{results}/"
    digits["extractors"]["digits-cnn"] |= {"width": 4, "features": 8, "steps": 10}
    path = project.write_scale("elsewhere", digits)
    before = set(project.folder.iterdir())
    wanted = str(results / "real" / "digits--digits-cnn.npz")
    answer = project.snakemake("--cores", "2", "--configfile", path, "--", wanted)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    made = {file.relative_to(results).as_posix() for file in results.rglob("*") if file.is_file()}
    assert {
        "data/digits/manifest.json",
        "extractors/digits-cnn/record.json",
        "real/digits--digits-cnn.npz",
        "logs/data/digits.log",
        "logs/extractors/digits-cnn.log",
        "logs/real/digits--digits-cnn.log",
    } <= made
    assert {file.name for file in set(project.folder.iterdir()) - before} <= {".snakemake"}
    assert [file.name for file in tmp_path.iterdir()] == [results.parent.name]
