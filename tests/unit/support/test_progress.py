"""What is said of work where there is no terminal: lines now and then, and the last one."""

import pytest

from dtr.support import progress
from dtr.support.progress import PLAIN_SECONDS, Progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def lines_of(clock, capsys, seconds: float, **options) -> list[str]:
    with Progress("images", 4, unit="image", **options) as shown:
        for _ in range(4):
            clock(seconds)
            shown.advance()
    return capsys.readouterr().err.splitlines()


def test_long_work_is_told_now_and_then_and_at_its_end(clock, capsys):
    said = lines_of(clock, capsys, PLAIN_SECONDS * 0.6)
    assert [line.partition(",")[0] for line in said] == ["images: 2/4", "images: 4/4"]
    assert "0.167 images/s, 12 s left" in said[0]


def test_short_work_is_told_if_it_takes_long(clock, capsys):
    assert len(lines_of(clock, capsys, 0.1)) == 1
    assert lines_of(clock, capsys, 0.1, short=True) == []
    assert len(lines_of(clock, capsys, PLAIN_SECONDS * 0.6, short=True)) == 2
    assert lines_of(clock, capsys, PLAIN_SECONDS, shown=False) == []
