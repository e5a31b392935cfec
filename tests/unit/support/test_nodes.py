"""Where the launchers of several machines meet: what SLURM's step says, or one line."""

import pytest

from dtr.support.errors import Refusal
from dtr.support.nodes import PORTS, Meeting, first_host, meeting

STEP = {
    "JOB_ID": "4711",
    "STEP_ID": "0",
    "STEP_NUM_TASKS": "2",
    "STEP_NUM_NODES": "2",
    "STEP_NODELIST": "gpu[03-04]",
    "JOB_NODELIST": "gpu[01-04]",
}


@pytest.fixture
def slurm(monkeypatch):
    """Set the variables of a step, and no others of SLURM."""

    def set_all(**changes: str | None) -> None:
        for name in (*STEP, "RESTART_COUNT"):
            monkeypatch.delenv(f"SLURM_{name}", raising=False)
        monkeypatch.delenv("SLURMD_NODENAME", raising=False)
        for name, value in (STEP | changes).items():
            if value is not None:
                monkeypatch.setenv(f"SLURM_{name}", value)

    return set_all


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("n1", "n1"),
        ("n1,n2", "n1"),
        ("gpu[003-007,9]", "gpu003"),
        ("gpu[7,9],login", "gpu7"),
        ("r[1-2]n[05-08]-ib,x", "r1n05-ib"),
        ("node-a.cluster[1-2].org", "node-a.cluster1.org"),
    ],
)
def test_the_first_of_a_list_of_machines(hosts, first):
    assert first_host(hosts) == first


def test_all_launchers_of_a_step_meet_at_one_place(slurm, monkeypatch):
    slurm()
    one = meeting(2)
    monkeypatch.setenv("SLURMD_NODENAME", "gpu04")
    assert meeting(2) == one._replace(here="gpu04")
    host, port = one.endpoint.split(":")
    assert (host, one.name) == ("gpu03", "dtr-4711.0-0") and int(port) in PORTS


def test_steps_and_new_starts_of_a_job_do_not_meet(slurm):
    found: list[Meeting] = []
    for changes in ({}, {"STEP_ID": "1"}, {"JOB_ID": "4712"}, {"RESTART_COUNT": "1"}):
        slurm(**changes)
        found.append(meeting(2))
    assert len({place.name for place in found}) == 4
    assert len({place.endpoint for place in found}) == 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"STEP_ID": None}, "--nnodes 2: no SLURM step around this process"),
        ({"JOB_ID": "x"}, "--nnodes 2: no SLURM step around this process"),
        ({"STEP_NUM_NODES": "1"}, "--nnodes 2: this SLURM step has 2 tasks on 1 nodes"),
        ({"STEP_NUM_TASKS": "8"}, "--nnodes 2: this SLURM step has 8 tasks on 2 nodes"),
        ({"STEP_NODELIST": "", "JOB_NODELIST": ""}, "SLURM_JOB_NODELIST = '': names no machine"),
    ],
)
def test_what_is_no_step_of_that_many_machines_is_refused(changes, says, slurm):
    slurm(**changes)
    with pytest.raises(Refusal, match=f"^{says}"):
        meeting(2)
