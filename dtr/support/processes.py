"""Who a process is, written down so that another one can tell later whether it still runs.

A process number says nothing by itself: other hosts, containers and restarts use it again.
"""

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROC = Path("/proc")
MACHINE_ID = Path("/etc/machine-id")
PR_SET_PDEATHSIG = 1  # of Linux's prctl
WHOLE_MACHINE = "pid:[4026531836]"  # Linux's name for the namespace that is no container


def this_process() -> dict[str, Any]:
    """Host, start of the machine, process namespace and number of this process, as plain values.

    A value that the system does not give is None; the start of a process is in clock ticks.
    """
    try:
        namespace = os.readlink(PROC / "self/ns/pid")
    except OSError:
        namespace = None
    _, began = _state(os.getpid())
    return {
        "host": socket.gethostname(),
        "machine": _line(MACHINE_ID),
        "boot": _line(PROC / "sys/kernel/random/boot_id"),
        "namespace": namespace,
        "pid": os.getpid(),
        "began": began,
    }


def alive(process: Mapping[str, Any]) -> bool | None:
    """Whether a process described by `this_process` still runs; None if that cannot be told here.

    It can be told in its own namespace, and once its machine has started anew.
    """
    here = this_process()
    if any(process.get(key) != here[key] for key in ("host", "machine", "namespace")):
        return None
    if process.get("boot") != here["boot"]:
        # Containers of one name may run on several machines.
        return False if here["machine"] and here["namespace"] == WHOLE_MACHINE else None
    if not isinstance(pid := process.get("pid"), int):
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it runs, as another user
    state, began = _state(pid)
    # A killed process stays a zombie until its parent asks for it.
    same = None in (began, process.get("began")) or began == process["began"]
    return same and state not in ("Z", "X")


def end_with(parent: int) -> None:
    """Have this process killed when `parent` is, where that is its parent and the system is Linux.

    Otherwise the processes of a launcher that was killed would go on without it, on GPUs that the
    next job takes for free.
    """
    if os.getppid() == parent and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was killed a moment before
            os.kill(os.getpid(), signal.SIGKILL)


def _state(pid: int) -> tuple[str | None, int | None]:
    """State letter and start of a process; Nones where the system does not say."""
    try:
        # The name in parentheses may hold anything, also spaces and parentheses.
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None, None
    return fields[0], int(fields[19])


def _line(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None
