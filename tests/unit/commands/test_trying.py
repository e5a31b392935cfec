"""The options of `try`: what cannot be meant is refused in one line, before anything is read."""

import pytest

from dtr.cli import main


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--method, --page: one of them"),
        (["--method", ""], "--method, --page: one of them"),
        (["--method", "x", "--page", "y"], "--method, --page: one of them"),
        (["--method", "x", "--slots", "nix"], "--slots: 'nix'; accepted: unconditional,"),
        (["--method", "x", "--slots", "unconditional,unconditional"], "is given twice"),
        (["--method", "x", "--seeds", "0,a"], "--seeds: a; accepted: an integer of 0 or more"),
        (["--method", "x", "--seeds", "1,1"], "--seeds: 1 is given twice"),
        (["--method", "x", "--constants", "3"], "--constants: 3; accepted: a JSON object"),
        (["--method", "x", "--constants", '{"type": "y"}'], "accepted: a JSON object"),
        (["--method", "x", "--cores", "0"], "--cores: 0; accepted: an integer of 1 or more"),
        (["--method", "x", "--configfile", "nix.yaml"], "nix.yaml: no such file"),
        (["--method", "x"], "routing = 'x': unknown; known: none, random, dtr"),
        (["--page", "nowhere"], "nowhere: no results of a try (try.json is missing)"),
    ],
)
def test_refusals(options, message, root, monkeypatch, capsys):
    monkeypatch.chdir(root)
    try:
        status = main(["try", *options])
    except SystemExit as ended:  # of argparse
        status = ended.code
    assert status == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dtr try: ")
    assert message in line


def test_it_runs_where_the_workflow_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["try", "--method", "dtr"]) == 2
    assert f"Snakefile: not in {tmp_path}" in capsys.readouterr().err
