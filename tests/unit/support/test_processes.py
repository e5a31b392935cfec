"""Whether a process that was written down still runs, as far as that can be told."""

import json
import os
import subprocess
import sys

import pytest

from dtr.support import processes
from dtr.support.processes import alive, this_process

DESCRIBE = "import json; from dtr.support.processes import *; print(json.dumps(this_process()))"


def test_a_process_knows_itself():
    me = this_process()
    assert me["pid"] == os.getpid()
    assert alive(me) is True


def test_a_process_that_has_ended_is_known_to_have():
    answer = subprocess.run([sys.executable, "-c", DESCRIBE], capture_output=True, check=True)
    assert alive(json.loads(answer.stdout)) is False


def test_a_number_that_was_given_again_is_another_process():
    assert alive(this_process() | {"began": 1}) is False


def test_a_zombie_has_ended():
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    process.stdout.read()  # its end of the pipe closes when it ends
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    state, began = processes._state(process.pid)
    assert state == "Z"
    assert alive(this_process() | {"pid": process.pid, "began": began}) is False
    process.communicate()


@pytest.mark.parametrize("key", ["host", "machine", "namespace"])
def test_elsewhere_nothing_can_be_told(key):
    assert alive(this_process() | {key: "another"}) is None


@pytest.mark.parametrize(
    ("namespace", "machine", "answer"),
    [
        (processes.WHOLE_MACHINE, "its id", False),
        (processes.WHOLE_MACHINE, None, None),
        ("pid:[17]", "its id", None),
    ],
)
def test_a_restart_ends_all_processes_but_of_containers(namespace, machine, answer, monkeypatch):
    here = this_process() | {"namespace": namespace, "machine": machine, "boot": "now"}
    monkeypatch.setattr(processes, "this_process", lambda: here)
    assert alive(here | {"boot": "before"}) is answer


def test_a_damaged_description_tells_nothing():
    assert alive({}) is None


def test_a_system_without_proc_goes_by_the_number(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "PROC", tmp_path / "absent")
    monkeypatch.setattr(processes, "MACHINE_ID", tmp_path / "absent")
    assert alive(this_process()) is True
    assert alive(this_process() | {"pid": 2**22 + 1}) is False
