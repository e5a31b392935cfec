"""The work directory: one writer at a time with locks and without, and its log."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from dtr.records import lease, workdir
from dtr.records.workdir import append_log, exclusive, in_use, read_log, running_steps
from dtr.support.errors import Busy
from dtr.support.processes import this_process

# Another process that holds the folder of its argument, without flock, until it is killed.
HOLDER = """
import errno, fcntl, sys, time
from pathlib import Path
from dtr.records.workdir import exclusive

def missing(*_):
    raise OSError(errno.ENOSYS, "Function not implemented")

fcntl.flock = missing
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["ENOSYS", "EOPNOTSUPP", "ENOLCK"])
def no_flock(request, monkeypatch):
    """A file system without locks; its error in each of the spellings."""
    code = getattr(errno, request.param)

    def missing(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", missing)
    workdir._say_no_locks.cache_clear()
    return os.strerror(code)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds `tmp_path` by a lease."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def owner(folder, **changes) -> None:
    """Write the lease of some other process into `folder`."""
    text = json.dumps(this_process() | {"job": None, "time": "then"} | changes)
    (folder / "lease-1").write_text(text)


def grow_old(path) -> None:
    old = time.time() - lease.MISSED * lease.INTERVAL - 5
    os.utime(path, (old, old))


def test_a_look_at_the_lock_does_not_stop_a_start(tmp_path, monkeypatch):
    """Somebody else's look takes a moment; the trainer waits for it."""
    monkeypatch.setattr("dtr.records.workdir.PATIENCE", 5.0)  # for a machine that stalls the timer
    with open(tmp_path / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        threading.Timer(0.1, lambda: fcntl.flock(lock, fcntl.LOCK_UN)).start()
        with exclusive(tmp_path):
            pass


def test_with_locks_there_is_no_lease(tmp_path, capsys):
    with exclusive(tmp_path):
        assert os.listdir(tmp_path) == ["lock"]
    assert capsys.readouterr().err == ""


def test_without_locks_a_lease_keeps_a_second_writer_out(tmp_path, no_flock, capsys):
    folder = tmp_path / "toy" / "seed0" / "f"
    with exclusive(folder, job="17"):
        second = pytest.raises(Busy, match=rf"another process .*{os.getpid()} on .*, job 17")
        with second, exclusive(folder):
            pass
        assert in_use(folder)
        assert running_steps(tmp_path) == {("toy", 0): 0}
    assert not in_use(folder) and running_steps(tmp_path) == {}
    assert os.listdir(folder) == ["lock"]
    with exclusive(folder):
        pass
    (line,) = capsys.readouterr().err.splitlines()
    assert no_flock in line


def test_another_error_of_the_lock_is_not_taken_for_a_missing_lock(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="Input/output"), exclusive(tmp_path):
        pass


@pytest.mark.parametrize("no_flock", ["ENOSYS"], indirect=True)
def test_the_lease_of_a_killed_process_is_taken_over_at_once(tmp_path, no_flock, holder, capsys):
    with pytest.raises(Busy, match=f"process {holder.pid} on"), exclusive(tmp_path):
        pass
    holder.send_signal(signal.SIGKILL)
    # Also before its parent asks for it, when the system still knows its number.
    deadline = time.monotonic() + 20
    while in_use(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with exclusive(tmp_path):
        assert in_use(tmp_path)
    assert f"taken over from process {holder.pid}" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["lock"]


def test_a_lease_counts_also_where_there_are_locks(tmp_path, holder):
    """Of two hosts that share the folder, one may mount it with locks and the other without."""
    assert in_use(tmp_path)
    with pytest.raises(Busy, match=f"process {holder.pid} on"), exclusive(tmp_path):
        pass


@pytest.mark.parametrize("no_flock", ["ENOSYS"], indirect=True)
@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"namespace": "pid:[1]"}])
def test_a_process_that_cannot_be_seen_holds_until_its_heart_stops(
    tmp_path, no_flock, changes, capsys
):
    gone = 2**22 + 1  # more than any process number
    owner(tmp_path, pid=gone, **changes)
    with pytest.raises(Busy, match=f"process {gone}"), exclusive(tmp_path):
        pass
    grow_old(tmp_path / "lease-1")
    assert not in_use(tmp_path)
    with exclusive(tmp_path):
        assert sorted(os.listdir(tmp_path)) == ["lease-2", "lock"]
    assert f"taken over from process {gone}" in capsys.readouterr().err


@pytest.mark.parametrize("no_flock", ["ENOSYS"], indirect=True)
def test_a_lease_that_is_being_written_holds(tmp_path, no_flock):
    (tmp_path / "lease-1").touch()
    with pytest.raises(Busy), exclusive(tmp_path):
        pass
    grow_old(tmp_path / "lease-1")
    with exclusive(tmp_path):
        pass


@pytest.mark.parametrize("no_flock", ["ENOSYS"], indirect=True)
def test_the_heart_beats_while_the_folder_is_held(tmp_path, no_flock, monkeypatch):
    monkeypatch.setattr(lease, "INTERVAL", 0.02)
    with exclusive(tmp_path):
        grow_old(tmp_path / "lease-1")
        deadline = time.monotonic() + 20
        while time.time() - (tmp_path / "lease-1").stat().st_mtime > 60:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("no_flock", ["ENOSYS"], indirect=True)
def test_who_has_lost_the_lease_stops_and_leaves_it_to_the_other(tmp_path, no_flock, monkeypatch):
    """As after a suspension longer than the others wait."""
    monkeypatch.setattr(lease, "INTERVAL", 0.02)
    told = threading.Event()
    monkeypatch.setattr(signal, "SIGTERM", signal.SIGUSR1)  # pytest itself goes on
    previous = signal.signal(signal.SIGUSR1, lambda *_: told.set())
    try:
        with exclusive(tmp_path):
            owner(tmp_path, host="elsewhere")
            deadline = time.monotonic() + 20
            while not told.is_set():
                assert time.monotonic() < deadline
                time.sleep(0.01)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert json.loads((tmp_path / "lease-1").read_text())["host"] == "elsewhere"


@pytest.mark.parametrize("no_flock", ["ENOSYS"], indirect=True)
def test_one_of_many_takes_over_an_old_lease(tmp_path, no_flock):
    """All see the same old lease; two that held it together would be counted."""
    owner(tmp_path, host="elsewhere")
    grow_old(tmp_path / "lease-1")
    inside, most, entered = [], [], []
    start, end = threading.Barrier(8), threading.Barrier(8)

    def contend(number: int) -> None:
        start.wait()
        try:
            with exclusive(tmp_path):
                inside.append(number)
                most.append(len(inside))
                entered.append(number)
                end.wait()
                inside.remove(number)
        except Busy:
            end.wait()

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(entered) == 1 and most == [1]


def test_log_survives_cut_lines_and_repeated_steps(tmp_path):
    append_log(tmp_path, {"step": 10, "loss": 1.0})
    append_log(tmp_path, {"step": 20, "loss": 9.0})
    with open(tmp_path / "train.jsonl", "a") as stream:
        stream.write('{"step": 30, "lo\n')
    append_log(tmp_path, {"step": 20, "loss": 2.0})
    assert read_log(tmp_path, until=25) == [{"step": 10, "loss": 1.0}, {"step": 20, "loss": 2.0}]
