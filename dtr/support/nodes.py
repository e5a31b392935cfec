"""Where the processes of a job on several machines meet, as the scheduler's variables say it."""

import os
import re
from typing import NamedTuple

from dtr.support.errors import Refusal

# Below the ports that Linux gives to whoever asks for any.
PORTS = range(12_000, 32_000)


class Meeting(NamedTuple):
    """The first machine and a port of it, the name of the job there, this machine's own name."""

    endpoint: str
    name: str
    here: str | None


def meeting(nodes: int) -> Meeting:
    """The meeting of one launcher on each of `nodes` machines; it is SLURM's step that tells.

    Refused outside of such a step.
    """
    step = {name: os.environ.get(f"SLURM_{name}", "") for name in ("JOB_ID", "STEP_ID")}
    tasks, found = (os.environ.get(f"SLURM_STEP_NUM_{what}", "none") for what in ("TASKS", "NODES"))
    if not all(value.isdecimal() for value in step.values()):
        raise Refusal(
            f"--nnodes {nodes}: no SLURM step around this process; start it by srun, or say where "
            "all meet: --rdzv-backend c10d --rdzv-endpoint HOST:PORT --rdzv-id NAME"
        )
    if (tasks, found) != (str(nodes), str(nodes)):
        raise Refusal(
            f"--nnodes {nodes}: this SLURM step has {tasks} tasks on {found} nodes; accepted: one "
            f"on each, srun --nodes {nodes} --ntasks-per-node 1 --kill-on-bad-exit=1 ..."
        )
    hosts = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST", "")
    # Steps of one job differ, and so do most jobs that share a machine: where two do not, the name
    # still keeps them apart.
    job = int(step["JOB_ID"])
    port = PORTS[(job * 61 + int(step["STEP_ID"])) % len(PORTS)]
    name = f"dtr-{job}.{step['STEP_ID']}-{os.environ.get('SLURM_RESTART_COUNT', '0')}"
    return Meeting(f"{first_host(hosts)}:{port}", name, os.environ.get("SLURMD_NODENAME"))


def first_host(hosts: str) -> str:
    """The first machine of a list in SLURM's form: `gpu[003-007,9]-ib,login` is gpu003-ib."""
    match = re.match(r"(?:[^\[,]|\[[^\]]*\])+", hosts)
    if match is None:
        raise Refusal(f"SLURM_JOB_NODELIST = {hosts!r}: names no machine")
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", match[0])
