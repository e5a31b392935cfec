"""The work directory: one writer at a time with locks and without, and its log."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import pytest

from dtr.records import lease, workdir
from dtr.records.workdir import append_log, exclusive, in_use, read_log, running_steps
from dtr.support.errors import Busy
from dtr.support.processes import this_process

HOST = socket.gethostname()

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


# The same on a host of another name, whose locks the other hosts do not see.
NODE = """
import fcntl, socket, sys, time
from pathlib import Path

socket.gethostname = lambda: sys.argv[2]
fcntl.flock = lambda *_: None

from dtr.records import lease
from dtr.records.workdir import exclusive
from dtr.support.errors import Busy

lease.INTERVAL = float(sys.argv[3])
try:
    with exclusive(Path(sys.argv[1]), job="17"):
        print("held", flush=True)
        time.sleep(600)
except Busy as busy:
    print(busy, file=sys.stderr)
    sys.exit(busy.exit_status)
"""
GONE = 2**22 + 1  # more than any process number


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
    (folder / "lock").touch()
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


def test_beside_the_lock_there_is_a_lease_that_says_who_and_when(tmp_path, capsys):
    with exclusive(tmp_path, job="17"):
        assert sorted(os.listdir(tmp_path)) == ["lease-1", "lock"]
        named = lease.holder(tmp_path, locked=True)
        assert (named["host"], named["pid"], named["job"]) == (HOST, os.getpid(), "17")
        assert datetime.fromisoformat(named["time"]) <= datetime.now(UTC)
        with pytest.raises(Busy, match=f"process {os.getpid()} on {HOST}"), exclusive(tmp_path):
            pass
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


@pytest.fixture(params=["locks", "no locks"])
def own_locks(request, monkeypatch):
    """Locks that other hosts do not see, as of many file servers, or none at all."""

    def lock(*_):
        if request.param == "no locks":
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", lock)


def beating(path, *, at: float | None = None):
    """The heart of another host's process, whose clock says `at` and goes on from there."""
    offset = 0.0 if at is None else at - time.time()

    def beat() -> bool:
        os.utime(path, (time.time() + offset,) * 2)
        return True

    return lease.regularly(0.05, beat)


ELSEWHERE = [{"host": "elsewhere"}, {"namespace": "pid:[1]", "boot": "another"}]


@pytest.mark.parametrize("changes", ELSEWHERE)
def test_the_process_of_another_host_holds_while_its_heart_beats(
    tmp_path, own_locks, changes, monkeypatch, capsys
):
    owner(tmp_path, pid=GONE, job="17", **changes)
    assert in_use(tmp_path)
    monkeypatch.setattr(lease, "INTERVAL", 3.0)  # 30 s for a heartbeat, on a machine that stalls
    busy = pytest.raises(Busy, match=rf"another process .*\(process {GONE} on \S+, job 17\)")
    with beating(tmp_path / "lease-1"), busy, exclusive(tmp_path):
        pass
    assert "cannot be seen from here; waiting up to" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["lease-1", "lock"]


@pytest.mark.parametrize("changes", ELSEWHERE)
def test_a_process_of_another_host_that_died_is_followed_and_named(
    tmp_path, own_locks, changes, monkeypatch, capsys
):
    owner(tmp_path, pid=GONE, **changes)
    grow_old(tmp_path / "lease-1")
    assert not in_use(tmp_path)
    monkeypatch.setattr(lease, "INTERVAL", 0.02)
    with exclusive(tmp_path):
        assert sorted(os.listdir(tmp_path)) == ["lease-2", "lock"]
    said = capsys.readouterr().err
    assert f"taken over from process {GONE} on" in said and "its heart has stopped" in said


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_clock_that_is_set_ends_no_lease_and_prolongs_none(
    tmp_path, own_locks, hours, monkeypatch
):
    """Seen from here, the other clock is hours behind or ahead: ours was set, or the server's."""
    owner(tmp_path, host="elsewhere")
    path, then = tmp_path / "lease-1", time.time() + 3600 * hours
    os.utime(path, (then, then))
    monkeypatch.setattr(lease, "INTERVAL", 3.0)
    with beating(path, at=then), pytest.raises(Busy), exclusive(tmp_path):
        pass
    monkeypatch.setattr(lease, "INTERVAL", 0.02)
    with exclusive(tmp_path):
        assert sorted(os.listdir(tmp_path)) == ["lease-2", "lock"]


def test_of_two_hosts_one_works_and_follows_the_other(tmp_path, root):
    """Two processes with names of hosts and locks of their own, as on nodes that share a folder."""

    def start(host: str, interval: float) -> subprocess.Popen:
        command = [sys.executable, "-c", NODE, str(tmp_path), host, str(interval)]
        own = os.environ | {"PYTHONPATH": str(root)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=own, **pipes)

    first = start("node1", 0.05)
    assert first.stdout.readline() == "held\n"
    second = start("node2", 3.0)
    _, errors = second.communicate(timeout=120)
    assert second.returncode == 76
    assert f"another process is working here (process {first.pid} on node1, job 17)" in errors
    first.kill()
    first.communicate()
    third = start("node2", 0.1)
    assert third.stdout.readline() == "held\n"
    third.kill()
    _, errors = third.communicate()
    assert f"taken over from process {first.pid} on node1, job 17: its heart has stopped" in errors


def test_another_container_of_this_machine_has_left_its_lock(tmp_path, capsys):
    owner(tmp_path, pid=GONE, namespace="pid:[1]")
    assert not in_use(tmp_path)
    with exclusive(tmp_path):
        pass
    assert f"taken over from process {GONE}" in capsys.readouterr().err


@pytest.mark.parametrize("no_flock", ["ENOSYS"], indirect=True)
def test_a_lease_that_was_never_written_is_followed_too(tmp_path, no_flock, monkeypatch):
    (tmp_path / "lock").touch()
    (tmp_path / "lease-1").touch()
    assert in_use(tmp_path)
    monkeypatch.setattr(lease, "INTERVAL", 0.02)
    with exclusive(tmp_path):
        assert sorted(os.listdir(tmp_path)) == ["lease-2", "lock"]


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
def test_one_of_many_takes_over_an_old_lease(tmp_path, no_flock, monkeypatch):
    """All see the same old lease; two that held it together would be counted."""
    owner(tmp_path, host="elsewhere")
    grow_old(tmp_path / "lease-1")
    monkeypatch.setattr(lease, "INTERVAL", 0.02)
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
