"""Where a result came from: commit, versions and machine, written into every record."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]
PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "diffusers",
    "torch-fidelity",
    "clean-fid",
    "snakemake",
    "pandas",
    "seaborn",
)


def provenance(device: str = "cpu") -> dict[str, Any]:
    """Commit, package versions, machine and time of now; `device` is "cpu" or "cuda"."""
    import torch

    on_gpu = device.startswith("cuda")
    commit, dirty = source_tree(PACKAGE)
    return {
        "commit": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "threads": torch.get_num_threads(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@cache
def source_tree(package: Path) -> tuple[str | None, bool | None]:
    """Commit of the tree that `package` is developed in, and whether files differ from it.

    (None, None) where git knows nothing, or knows another tree only: the package is installed, or
    copied into somebody else's repository.
    """
    top = package.parent
    found = _git(top, "rev-parse", "--show-toplevel")
    if found is None or Path(found).resolve() != top:
        return None, None
    initial = f"{package.name}/__init__.py"
    commit = _git(top, "rev-parse", "--verify", "HEAD")
    if commit is None or _git(top, "ls-files", "--error-unmatch", initial) is None:
        return None, None
    changes = _git(top, "status", "--porcelain", "--untracked-files=no")
    return commit, None if changes is None else bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    # GIT_DIR and its like, which hooks of any repository set, would name that one.
    environment = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, check=True, env=environment
        )
    except (OSError, subprocess.CalledProcessError):
        return None  # installed from an archive: there is no commit to name
    return answer.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
