"""Which ends of a job are final, by its line and by its log."""

import os

import pytest

from dtr.commands.refused import FINAL, REPEATED, ending, is_final
from dtr.support.errors import Busy, Refusal, Suspended, Unwritable


def test_only_a_refusal_of_a_job_that_would_be_repeated_is_final(monkeypatch):
    monkeypatch.delenv(REPEATED, raising=False)
    assert ending(Refusal("no")) == ""
    monkeypatch.setenv(REPEATED, "1")
    assert ending(Refusal("no")) == FINAL
    for passing in (Busy("no"), Unwritable("no"), Suspended("no")):
        assert ending(passing) == ""


@pytest.mark.parametrize(
    ("text", "final"),
    [
        (f"loading\ndtr train: data: no such file{FINAL}\n", True),
        (f"train: 10%|#   |\rdtr train: data: no such file{FINAL}\n", True),
        (f"dtr real-features: no{FINAL}\ntorchrun: of 2 processes one failed\n", True),
        ("dtr train: saved at step 10 of 20\n", False),
        (f"a file named dtr train: no{FINAL}\n", False),
        (f"dtr train: no{FINAL} because\n", False),
        ("", False),
    ],
)
def test_a_log_tells(tmp_path, text, final):
    log = tmp_path / "train.log"
    assert not is_final(log)
    log.write_bytes(b"\xff step\n" * 10_000 + text.encode())
    assert is_final(log) == final


def test_the_log_of_an_earlier_start_says_nothing(tmp_path):
    log, since = tmp_path / "train.log", tmp_path / "at-work.json"
    log.write_text(f"dtr train: no{FINAL}\n")
    since.write_text("{}")
    os.utime(log, (1000, 1000))
    assert is_final(log) and not is_final(log, since)
    os.utime(since, (999, 999))
    assert is_final(log, since)
