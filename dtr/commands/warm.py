"""Jobs without the seconds that importing torch takes: one process imports, and forks for each job.

`python -m dtr warm -- snakemake --cores 2` runs a command in which every `python -m dtr <verb>`
is handed, with its arguments, environment, folder and open files, to a child forked from this
process. The results are the same; at the digits scale about 300 jobs save two to four seconds each.
Nothing is computed before a fork, so no thread pool exists that a child could miss.
"""

import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path

from dtr.training.budget import scheduler_job

VARIABLE = "DTR_WARM"  # path of the socket, for the jobs
WITHIN = "DTR_WARM_JOB"  # cluster job that the warm process is part of, empty if none
PRELOADED = (
    "cleanfid.fid",
    "diffusers.models.autoencoders.autoencoder_kl",
    "dtr.analysis.cka",
    "dtr.assets.autoencoder",
    "dtr.sampling.shards",
    "dtr.metrics.measure",
    "dtr.metrics.registration",
    "dtr.reporting.html",
    "dtr.training.loop",
    "torch._dynamo",
)
POLL_SECONDS = 0.2  # between looks at whether the command has ended
LOST = 1  # exit status of a job whose process was killed
LONGEST = 103  # bytes of a socket's path; Linux takes 107, macOS less

Main = Callable[[Sequence[str]], int]


def run_warm(command: Sequence[str], main: Main) -> int:
    """Run `command` and serve its jobs by `main`; returns the command's exit status."""
    if not command or shutil.which(command[0]) is None:
        print(f"dtr warm: {' '.join(command[:1]) or 'no command'}: not found", file=sys.stderr)
        return 127
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        address = str(Path(folder).absolute() / "socket")
        try:
            with _within_reach(address) as short:
                listener.bind(short)
        except OSError as error:
            print(f"dtr warm: {folder}: no socket can be made ({error})", file=sys.stderr)
            return LOST
        listener.listen(64)
        listener.settimeout(POLL_SECONDS)
        # A Ctrl-C reaches the command and the jobs by themselves; this process ends after them.
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        process = subprocess.Popen(
            command,
            env=os.environ | {VARIABLE: address, WITHIN: scheduler_job() or ""},
            preexec_fn=lambda: signal.signal(signal.SIGINT, interrupt),
        )
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        for name in PRELOADED:
            importlib.import_module(name)
        children: set[int] = set()
        while process.poll() is None:
            children -= {pid for pid in children if os.waitpid(pid, os.WNOHANG)[0]}
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            children.add(_start_job(listener, connection, interrupt, main))
        # A command that was killed leaves jobs: as nobody waits for them any more, they stop.
        for child in children:
            os.kill(child, signal.SIGTERM)
        for child in children:
            os.waitpid(child, 0)
        return process.returncode


@contextmanager
def _within_reach(address: str) -> Iterator[str]:
    """A path of the socket that the system takes; a long one is reached from its folder."""
    if len(os.fsencode(address)) <= LONGEST:
        yield address
        return
    folder, name = os.path.split(address)
    with chdir(folder):
        yield name


def _start_job(listener: socket.socket, connection: socket.socket, interrupt, main: Main) -> int:
    """Fork a child that does what the client asks, and answers with its process id and status."""
    with connection:
        _, files, _, _ = socket.recv_fds(connection, 1, 3)
        request = json.loads(connection.makefile("rb").readline())
        child = os.fork()
        if child == 0:
            listener.close()
            signal.signal(signal.SIGINT, interrupt)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            _be_the_job(connection, files, request, main)
    for file in files:
        os.close(file)
    return child


def _be_the_job(connection: socket.socket, files: list[int], request: dict, main: Main) -> None:
    status = LOST
    try:
        for target, file in enumerate(files):
            os.dup2(file, target)
            os.close(file)
        connection.sendall(f"{os.getpid()}\n".encode())
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        status = main(request["arguments"])
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(f"{status}\n".encode())
        os._exit(status)


def run_in_warm_process(address: str, arguments: Sequence[str]) -> int | None:
    """Have a job done by the process that listens at `address`; None if there is none.

    None also in another cluster job than that process's: schedulers hand the environment on, and
    the work would be done outside the allocation, in the time and on the devices of another one.
    """
    if (scheduler_job() or "") != os.environ.get(WITHIN, ""):
        return None
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            with _within_reach(address) as short:
                connection.connect(short)
        except OSError:
            return None
        own = (VARIABLE, WITHIN)
        environment = {name: value for name, value in os.environ.items() if name not in own}
        request = {
            "arguments": list(arguments),
            "folder": os.getcwd(),
            "environment": environment,
        }
        socket.send_fds(connection, [b"\n"], [0, 1, 2])
        connection.sendall(json.dumps(request).encode() + b"\n")
        answers = connection.makefile("r")
        process = answers.readline()
        if process:
            signal.signal(signal.SIGTERM, lambda *_: os.kill(int(process), signal.SIGTERM))
            # Ctrl-C reaches the job, which is of the same process group, by itself.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        status = answers.readline()
        if not status:
            print("dtr: the process of this job was killed", file=sys.stderr)
        return int(status) if status else LOST
