"""The commit in a record is that of this project's own tree, or unknown."""

import subprocess
from pathlib import Path

import pytest

from dtr.records import provenance as module
from dtr.records.provenance import provenance, source_tree


def git(folder: Path, *arguments: str) -> str:
    names = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
    command = ["git", *names, *arguments]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return answer.stdout.strip()


def repository(folder: Path, *files: str) -> str:
    """A repository with one commit of `files`; the name of that commit."""
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n")
    git(folder, "init", "--quiet")
    git(folder, "add", *files)
    git(folder, "commit", "--quiet", "--message", "Begin")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def _forgetting():
    source_tree.cache_clear()
    yield
    source_tree.cache_clear()


def test_the_own_tree_is_named_with_its_changes(tmp_path):
    commit = repository(tmp_path, "dtr/__init__.py", "Snakefile")
    package = tmp_path / "dtr"
    assert source_tree(package) == (commit, False)
    (tmp_path / "results").touch()  # nobody's source
    source_tree.cache_clear()
    assert source_tree(package) == (commit, False)
    (tmp_path / "Snakefile").write_text("another\n")
    source_tree.cache_clear()
    assert source_tree(package) == (commit, True)


def test_a_linked_worktree_is_a_tree_of_its_own(tmp_path):
    commit = repository(tmp_path / "main", "dtr/__init__.py")
    git(tmp_path / "main", "worktree", "add", "--quiet", "../other")
    assert source_tree(tmp_path / "other" / "dtr") == (commit, False)


@pytest.mark.parametrize(
    "place",
    ["dtr", "copied/dtr", ".venv/lib/python3.11/site-packages/dtr"],
)
def test_somebody_elses_repository_is_not_named(place, tmp_path):
    repository(tmp_path, "thesis.tex")
    package = tmp_path / place
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    assert source_tree(package) == (None, None)


def test_a_copy_that_somebody_else_tracks_is_not_named(tmp_path):
    repository(tmp_path, "vendored/dtr/__init__.py")
    assert source_tree(tmp_path / "vendored" / "dtr") == (None, None)


@pytest.mark.parametrize("begun", [False, True])
def test_without_a_commit_both_are_unknown(begun, tmp_path):
    (tmp_path / "dtr").mkdir()
    if begun:
        git(tmp_path, "init", "--quiet")
    assert source_tree(tmp_path / "dtr") == (None, None)


def test_without_git_both_are_unknown(tmp_path, monkeypatch):
    repository(tmp_path, "dtr/__init__.py")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source_tree(tmp_path / "dtr") == (None, None)


def test_the_hook_of_another_repository_is_not_believed(tmp_path, monkeypatch):
    commit = repository(tmp_path / "own", "dtr/__init__.py")
    repository(tmp_path / "other", "dtr/__init__.py", "thesis.tex")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "own"))
    assert source_tree(tmp_path / "own" / "dtr") == (commit, False)


def test_git_is_asked_once_per_process(monkeypatch):
    calls = []
    run = subprocess.run

    def counted(command, **options):
        calls.append(command)
        return run(command, **options)

    monkeypatch.setattr(module.subprocess, "run", counted)
    first = provenance()
    asked = [command for command in calls if command[0] == "git"]
    assert asked
    assert provenance()["commit"] == first["commit"]
    assert [command for command in calls if command[0] == "git"] == asked
