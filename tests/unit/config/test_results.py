"""The folder that a scale writes to works in every rule, or is refused before the first job."""

import json
import os

import pytest

from dtr.cli import main
from dtr.config.checks import load_scale
from dtr.config.results import results_folder
from dtr.support.errors import Refusal


def refused(results: str) -> str:
    with pytest.raises(Refusal) as refusal:
        results_folder(results, source="my.yaml")
    line = str(refusal.value)
    assert line.isprintable()
    assert line.startswith(f"my.yaml: results = {results!r}: ")
    return line


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """The folder in which the workflow is started."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("results", "plain"),
    [
        ("results/digits", "results/digits"),
        ("results/digits/", "results/digits"),
        ("./results//digits", "results/digits"),
        ("../elsewhere", "../elsewhere"),
        ("my results/it's (ü)", "my results/it's (ü)"),
        ("a~b", "a~b"),
    ],
)
def test_a_folder_is_named_in_one_way(results, plain):
    assert results_folder(results, source="my.yaml") == plain


def test_an_absolute_folder_is_accepted_and_not_made(tmp_path):
    folder = str(tmp_path / "a b" / "c")
    assert results_folder(f"{folder}/", source="my.yaml") == folder
    assert not (tmp_path / "a b").exists()


def test_the_scale_has_the_plain_name(digits):
    scale = load_scale(digits | {"results": "./results/digits/"}, source="my.yaml")
    assert scale.results == "results/digits"


def test_settings_of_a_verb_are_no_way_around(digits, project, capsys):
    for command in ("claims", "table --only table1", "report", "collect --out out"):
        settings = json.dumps(digits | {"results": "~/dtr"})
        assert main([*command.split(), "--settings", settings]) == 2
        line = capsys.readouterr().err
        assert "--settings: results = '~/dtr': neither ~ nor variables are expanded" in line
        assert len(line.splitlines()) == 1
    assert list(project.iterdir()) == []


def test_home_and_variables_are_not_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SCRATCH", "/scratch")
    monkeypatch.delenv("NOTHING", raising=False)
    for results, expanded in (
        ("~/dtr", " (/home/me/dtr)"),
        ("$HOME/dtr", " (/home/me/dtr)"),
        ("${SCRATCH}/dtr", " (/scratch/dtr)"),
        ("$NOTHING/dtr", ""),
    ):
        line = refused(results)
        assert line.endswith(f"neither ~ nor variables are expanded, write it out{expanded}")


@pytest.mark.parametrize(
    "results",
    ["a{b}", "a}b", "<results>", "a*", "what?", "[a]", " a", "a ", "a\tb", "a\nb", "s3://a/b"],
)
def test_what_breaks_rules_is_refused(results):
    assert "accepted is the path of a folder" in refused(results)


@pytest.mark.parametrize("results", [".", "./", "..", "a/..", "/", "../project"])
def test_the_projects_own_folder_is_refused(results):
    assert "this folder contains the project" in refused(results)


def test_a_link_to_nothing_is_refused(project):
    os.symlink("nowhere", project / "link")
    assert f"{project}/link cannot be written to" in refused("link/below")


def test_a_name_too_long_is_refused():
    assert refused("a" * 300).endswith("File name too long")
