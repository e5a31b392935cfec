"""The check of a GPU, in small on a CPU: what it finds, what it leaves out, how it ends."""

import pytest
import torch

from dtr.cli import main
from dtr.gpucheck import parity, training
from dtr.gpucheck.results import guarded, judged, left_out
from dtr.gpucheck.run import GpuRecord, page, read_checks, write_checks
from dtr.support.errors import Refusal


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_released_code_and_random_numbers_agree():
    released = parity.released_outputs("cpu")
    assert released.status == "ok" and released.values["float32"] < 1e-4
    assert 1e-6 < released.values["bfloat16"] < parity.TOLERANCES["bfloat16"]
    numbers = parity.random_numbers("cpu")
    assert (numbers.status, numbers.values) == ("ok", {"words": True, "error": 0.0})


def test_other_outputs_than_the_released_ones_are_noticed(monkeypatch):
    def wrong(name, *_):
        model, tensors, metadata = released_dit(name)
        return model, tensors | {"out": 1.01 * tensors["out"]}, metadata

    released_dit = parity.released_dit
    monkeypatch.setattr(parity, "released_dit", wrong)
    check = parity.released_outputs("cpu")
    assert check.status == "failed" and "float32 9.9e-03 (accepted 0.0001)" in check.says


def test_curves_and_parts_of_a_batch(tmp_path, one_thread):
    check = training.curves("cpu", 20)
    assert check.status == "ok" and check.values["float32"] == 0 < check.values["bfloat16"]
    assert training.parts("cpu", tmp_path).status == "ok"
    assert training.memory("cpu", small=True).status == "left out"
    assert training.processes("cpu", tmp_path, 10, 1).status == "left out"


def test_other_ways_agree_and_a_wrong_one_is_noticed(one_thread, monkeypatch):
    check = training.ways("cpu", 10)
    assert check.status == "ok" and "ADM, channels last" in check.says
    assert check.values["ADM, channels last"] < 1e-4
    losses_of = training.losses_of
    wrong = lambda *given: losses_of(*given) * (1 + 0.02 * (given[-1] != training.Means()))  # noqa: E731
    monkeypatch.setattr(training, "losses_of", wrong)
    assert training.ways("cpu", 10).status == "failed"


@pytest.mark.slow
def test_a_killed_training_ends_in_the_same_weights(tmp_path):
    check = training.resume("cpu", tmp_path, 40)
    assert check.status == "ok" and check.values["exact"] is True


def test_trouble_is_a_result_and_the_rest_is_looked_at():
    def broken():
        raise RuntimeError("CUDA error:\n device-side assert")

    def absent():
        raise Refusal("tests/parity/fixtures: not there")

    assert guarded("one", broken).says == "RuntimeError: CUDA error: device-side assert"
    assert guarded("one", broken).status == "failed"
    assert guarded("two", absent) == left_out("two", "tests/parity/fixtures: not there")


def record(*checks) -> GpuRecord:
    return GpuRecord(
        device="cpu", small=True, torch="2.11.0", memory_bytes=None, checks=list(checks),
        provenance={"device": "cpu", "python": "3.12", "commit": None, "created": "today"},
        wall_seconds=3.0,
    )  # fmt: skip


def test_the_page_and_the_record_say_the_same(tmp_path):
    made = record(judged("memory", False, "too | much", share=0.7), left_out("two", "one GPU"))
    write_checks(tmp_path, made)
    assert read_checks(tmp_path / "gpucheck.json") == made
    text = (tmp_path / "gpucheck.md").read_text(encoding="utf-8")
    assert text.splitlines() == list(page(made))
    assert "| memory | failed | too / much |" in text
    assert "torch 2.11.0" in text and "in small" in text


@pytest.mark.parametrize(
    ("check", "status", "said"),
    [
        (judged("curve", True, "equal"), 0, []),
        (left_out("curve", "one GPU"), 0, []),
        (judged("curve", False, "differs"), 2, ["not as it should be: curve"]),
    ],
)
def test_the_verb_ends_as_its_checks_do(check, status, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("dtr.gpucheck.run.run_checks", lambda *_, **__: record(check))
    assert main(["gpucheck", "--device", "cpu", "--out", str(tmp_path)]) == status
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("dtr gpucheck: ")[2].partition(";")[0] for line in lines] == said


def test_without_cuda_it_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    assert main(["gpucheck", "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dtr gpucheck: device = cuda: ") and line.endswith("here: cpu")
    assert not list(tmp_path.iterdir())
