"""How a sweep stands is told by its files: each state of a cell, each training at work."""

import subprocess
import sys
from pathlib import Path

import pytest

from dtr.config.checks import load_scale
from dtr.planning.evaluations import evaluations_for
from dtr.planning.places import Places
from dtr.records.standing import Standing, last_error
from dtr.records.workdir import append_log, exclusive
from dtr.support.files import write_text
from tests.conftest import table1_of
from tests.synthetic_results import write_metrics, write_throughput, write_training

RUN, OTHER = "in256-l2-none", "in256-l2-rtr"


def cells(scale) -> dict[tuple[str, int], tuple[str, str]]:
    found = Standing(scale).cells
    return {(cell.name, cell.step): (cell.state, cell.said) for cell in found}


def work(scale, run: str, *steps: int, rate: float = 2.0) -> Path:
    folder = Path(Places(scale.results).work(run, 0)) / ("c" * 16)
    folder.mkdir(parents=True)
    (folder / "lock").touch()
    for step in steps:
        append_log(folder, {"step": step, "loss": 1.0, "rate": rate})
    return folder


def log(scale, stage: str, name: str, *lines: str) -> Path:
    path = Path(Places(scale.results).log(stage, name))
    write_text(path, "\n".join(lines) + "\n")
    return path


def test_nothing_is_there_yet(scale):
    standing = Standing(scale)
    assert {cell.state for cell in standing.cells} == {"waiting"}
    assert len(standing.trainings) == 6
    assert standing.remaining_seconds == (0.0, 6)


def test_every_cell_of_the_tables_is_told(whole):
    found = Standing(whole).cells
    assert {cell.target for cell in found} == set(whole.targets) - {"figure2"}  # of no records
    wanted = sum(len(evaluations_for(whole, target)) for target in whole.targets)
    analyses = [cell for cell in found if cell.target in ("figure6", "table7")]
    assert len(found) == wanted + len([cell for cell in analyses if not cell.protocol])


def test_a_run_of_ones_own_is_told_once(grid, tmp_path):
    own = {"id": "own", "slot": "class_conditional", "backbone": "DiT-L/2", "routing": "random"}
    own |= {"iterations": 400_000}
    content = table1_of(grid) | {"results": str(tmp_path / "results"), "extra_runs": [own]}
    scale = load_scale(content, source="digits.yaml")
    assert [cell.target for cell in Standing(scale).cells if cell.name == "own"] == ["others"]


def test_a_measured_cell_is_done_and_a_recorded_fault_is_told(scale):
    write_metrics(scale, RUN)
    write_metrics(scale, OTHER, status="failed", reason="3 of 100 images\ndiverged", metrics=[])
    found = cells(scale)
    assert found[RUN, 1000] == ("done", "")
    assert found[OTHER, 1000] == ("failed", "3 of 100 images diverged")


def test_a_trained_cell_says_how_many_samples_there_are(scale):
    small = scale.evaluation.model_copy(update={"shard_size": 400})
    scale = scale.model_copy(update={"evaluation": small})
    write_training(scale, RUN)
    (one,) = [
        one for one in evaluations_for(scale, "table1") if (one.name, one.step) == (RUN, 1000)
    ]
    folder = Path(Places(scale.results).samples(RUN, 0, 1000, one.protocol.id))
    write_text(folder / "shard-1.npz", "images")
    write_text(folder / ".shard-0.npz.unfinished", "images")
    assert cells(scale)[RUN, 1000] == ("trained", "1 of 3 files of samples")
    log(scale, "sample", f"{RUN}-seed0-step1000-{one.protocol.id}-0", "dtr sample: no decoder")
    state, said = cells(scale)[RUN, 1000]
    assert state == "failed" and said.startswith("dtr sample: no decoder (")


def test_a_diverged_training_is_told_with_its_reason(scale):
    write_training(scale, RUN, status="diverged", reason="loss not finite by step 20")
    assert cells(scale)[RUN, 1000] == ("diverged", "loss not finite by step 20")


def test_a_training_at_work_says_how_far_and_how_fast(scale):
    folder = work(scale, RUN, 200, 400, rate=2.0)
    with exclusive(folder):
        standing = Standing(scale)
    (one,) = standing.at_work
    assert (one.run, one.reached, one.step, one.rate, one.left) == (RUN, 400, 1000, 2.0, 300.0)
    states = {(cell.name, cell.step): cell.state for cell in standing.cells}
    assert states[RUN, 1000] == "running"
    # The other runs of that network are as fast; those of the other slot are not known.
    assert standing.remaining_seconds == (300.0 + 2 * 500.0, 3)


def test_a_training_that_was_stopped_waits(scale):
    work(scale, RUN, 400)
    log(
        scale,
        "train",
        f"{RUN}-seed0-step1000",
        f"dtr train: {RUN}: ended; saved at step 400 of 1000",
    )
    assert cells(scale)[RUN, 1000] == ("waiting", "stopped at step 400 of 1,000")


@pytest.mark.parametrize(
    ("line", "failed"),
    [
        ("dtr train: batch_size = 41: more than the 40 training images", True),
        ("torch.OutOfMemoryError: CUDA out of memory", True),
        ("RuntimeError: no kernel image", True),
        ("slurmstepd: error: Detected 1 oom_kill event", True),
        ("train in256 seed 0: 40/100, 2 steps/s, 30 s left", False),
        ("train in256 seed 0: resumed at step 40", False),
        ("dtr train: a/b: another process is working here; wait for it or stop it", False),
        ("", False),
    ],
)
def test_the_last_line_of_a_log_tells_a_failure(scale, line, failed):
    path = log(scale, "train", f"{RUN}-seed0-step1000", "something before", line)
    state, said = cells(scale)[RUN, 1000]
    assert state == ("failed" if failed else "waiting")
    assert said == (f"{line} ({path})" if failed else "")
    assert last_error(str(path)) == (line if failed else None)


def test_experts_are_one_model_and_the_worst_speaks_for_it(whole):
    for number in range(3):
        write_training(whole, f"in256-b2-expert{number}")
    name = "+".join(f"in256-b2-expert{number}" for number in range(4))
    assert {state for (run, _), (state, _) in cells(whole).items() if run == name} == {"waiting"}
    write_training(whole, "in256-b2-expert3", status="diverged", reason="loss not finite")
    assert {state for (run, _), (state, _) in cells(whole).items() if run == name} == {"diverged"}


def test_of_several_milestones_the_next_is_at_work(whole):
    """Figure 5 measures at quarters of the training; only one of them is being reached."""
    folder = work(whole, RUN, 300)
    with exclusive(folder):
        found = cells(whole)
    states = {step: found[RUN, step][0] for step in (250, 500, 750, 1000)}
    assert states == {250: "waiting", 500: "running", 750: "waiting", 1000: "waiting"}


def test_speeds_and_similarities_are_cells_too(whole):
    write_throughput(whole, "DiT-S/2")
    write_training(whole, "ffhq256-b2-none")
    found = {(c.target, c.name): c.state for c in Standing(whole).cells}
    assert found["table7", "DiT-S/2"] == "done"
    assert found["table7", "DiT-L/2"] == "waiting"
    assert found["figure6", "ffhq256-b2-none"] == "trained"


def test_damage_is_a_state_and_no_crash(scale):
    write_metrics(scale, RUN).write_text("{")
    folder = work(scale, OTHER)
    (folder / "train.jsonl").write_bytes(b'{"step": 100, "rate": 1}\n\xff{"ste')
    found = cells(scale)
    assert found[RUN, 1000][0] == "failed"
    assert found[OTHER, 1000] == ("waiting", "stopped at step 100 of 1,000")


def test_neither_torch_nor_pandas_is_read(grid, tmp_path):
    """The largest scale has to be told in two seconds, of which these would take more."""
    load_scale(grid | {"results": str(tmp_path)}, source="digits.yaml")
    code = (
        "import sys; from dtr.cli import main; main(['status']); "
        "sys.exit(not {'torch', 'pandas', 'snakemake'}.isdisjoint(sys.modules))"
    )
    root = Path(__file__).resolve().parents[3]
    answer = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
