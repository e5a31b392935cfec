"""A copy of the project, so that the real Snakemake runs without touching anybody's results."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

COPIED = ("Snakefile", "README.md", "dtr", "workflow", "profiles", "report", "envs")


class Project:
    """A copy of the project in a folder of its own, and the commands one gives there."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            if (source / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source / name, folder / name, ignore=ignored)
            elif (source / name).is_file():
                shutil.copy2(source / name, folder / name)

    @property
    def environment(self) -> dict[str, str]:
        """As in an activated environment, with the copy in the place of the installed package."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return os.environ | {"PATH": path, "PYTHONPATH": str(self.folder)}

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the copy; its output is captured, its exit status not checked."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def snakemake(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake in the copy."""
        return self.run("snakemake", *options, **environment)

    def planned(self, *options: str) -> list[tuple[str, str]]:
        """(rule, first output) of every job that `snakemake -n` would start, `all` left out."""
        answer = self.snakemake("-n", *options)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        text = answer.stdout + answer.stderr
        return re.findall(r"^rule (\w+):\n(?:    input: .*\n)?    output: ([^,\s]+)", text, re.M)

    def write_scale(self, name: str, scale: dict) -> str:
        """Write a scale file into the copy; its path, for --configfile."""
        path = self.folder / "workflow" / "config" / f"{name}.yaml"
        path.write_text(yaml.safe_dump(scale, sort_keys=False), encoding="utf-8")
        return str(path.relative_to(self.folder))


@pytest.fixture(scope="module")
def project(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the project without results."""
    return Project(root, tmp_path_factory.mktemp("project"))
