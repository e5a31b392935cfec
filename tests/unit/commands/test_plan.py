"""`python -m dtr plan`: what is printed, what is refused, and that nothing is written."""

import json
import subprocess
import sys

import pytest
import yaml

from dtr.cli import main


@pytest.fixture
def file(digits, tmp_path):
    """A scale file of six runs of Table 1."""
    path = tmp_path / "mine.yaml"
    own = {"results": str(tmp_path / "results"), "scale": "mine"}
    path.write_text(yaml.safe_dump(digits | own), encoding="utf-8")
    return path


def asked(file, *options: str) -> list[str]:
    return ["plan", "--configfile", str(file), *options]


def test_it_prints_a_row_per_target(file, tmp_path, capsys):
    assert main(asked(file)) == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = (line.split() for line in lines if line.startswith("table1"))
    assert row[1:6] == ["6", "6", "32", "0", "32"]
    (row,) = (line.split() for line in lines if line.startswith("everything"))
    assert row[1:6] == ["6", "6", "34", "0", "34"]  # the claims and the page
    assert any(line.startswith("train ") for line in lines)
    assert "at 400 TFLOP/s" in "\n".join(lines)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


def test_files_are_laid_over_each_other(file, tmp_path, capsys):
    """As Snakemake does, which the rehearsal needs."""
    over = tmp_path / "over.yaml"
    over.write_text("scale: over\nseeds: [0, 1]\n", encoding="utf-8")
    for command in (["plan", "--json"], ["status", "--json"]):
        assert main([*command, "--configfile", str(file), str(over)]) == 0
        assert json.loads(capsys.readouterr().out)["scale"] == "over"
    assert main(["settings", "--scale", str(file), str(over)]) == 0
    assert json.loads(capsys.readouterr().out)["seeds"] == [0, 1]
    over.write_text("seeds: [0, 0]\n", encoding="utf-8")
    for verb in ("plan", "status", "doctor"):
        assert main([verb, "--configfile", str(file), str(over)]) == 2
        assert f"{file} + {over}: seeds = [0, 0]" in capsys.readouterr().err


def test_the_same_for_machines(file, capsys):
    assert main(asked(file, "--json", "--tflops", "2", "--config", "seeds=[0, 1]")) == 0
    found = json.loads(capsys.readouterr().out)
    (target,) = found["targets"]
    assert (target["name"], target["runs"], target["seeds"]) == ("table1", 6, 2)
    assert found["union"]["name"] == "everything"
    assert found["union"]["stages"]["train"]["jobs"] == 14  # 6 x 2, and two untrained
    seconds = target["total"]["hours"] * 3600
    assert seconds == pytest.approx(target["total"]["operations"] / 2e12)


def test_one_target_is_one_row(file, capsys):
    assert main(asked(file, "--targets", "table1")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:5] if line] == ["runs", "table1"]
    assert "jobs of table1" in "\n".join(lines)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--targets", "table8"], "--targets table8: not a target of the mine scale"),
        (["--targets", "cats"], "--targets cats: not a target of the mine scale"),
        (["--config", "seeds=cats"], '--config: seeds = "cats": '),
    ],
)
def test_refusals(file, options, message, capsys):
    assert main(asked(file, *options)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"dtr plan: {message}")


def test_a_file_that_is_not_there(tmp_path, capsys):
    assert main(asked(tmp_path / "none.yaml")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"dtr plan: {tmp_path / 'none.yaml'}: no such file"


def test_closed_forms_need_no_torch(file):
    code = (
        "import sys, dtr.cli\n"
        f"status = dtr.cli.main({asked(file)!r})\n"
        "sys.exit(status or 'torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
