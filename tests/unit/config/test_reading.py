"""What is read from YAML and from --config, and the one line with which the rest is refused."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dtr.cli import main
from dtr.config.reading import (
    load_scale_file,
    load_scale_of_workflow,
    merged,
    read_command_line,
    read_mapping,
)
from dtr.support.errors import Refusal


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "my.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(folder: Path, content: str | bytes) -> str:
    """The line with which a file of this content is refused, without the file's name."""
    path = written(folder, content)
    with pytest.raises(Refusal) as refusal:
        read_mapping(path)
    line = str(refusal.value)
    assert "\n" not in line
    assert line.startswith(f"{path}: ")
    return line.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: key 'a' is given twice in one mapping, first in line 1"),
        ("a:\n  b: 1\n  'b': 1\n", "line 3: key 'b' is given twice"),
        ("a: [{b: 1}, {c: 1, c: 1}]\n", "line 1: key 'c' is given twice"),
        ("x: &x {b: 1}\na:\n  <<: *x\n  b: 2\n  b: 3\n", "line 5: key 'b' is given twice"),
        (
            "x: &x {b: 1}\na:\n  <<: *x\n  <<: *x\n",
            "line 4: key '<<' is given twice in one mapping, first in line 3; merge several",
        ),
        ('{"a": 1, "b": {"c": 1e-4, "c": 2}}', "key 'c' is given twice in one mapping"),
    ],
)
def test_a_key_given_twice_is_refused_by_name_and_line(tmp_path, content, line):
    assert refused(tmp_path, content).startswith(line)


def test_equal_keys_of_different_mappings_are_fine(tmp_path):
    assert read_mapping(written(tmp_path, "a: {x: 1}\nb: {x: 2}\n")) == {
        "a": {"x": 1},
        "b": {"x": 2},
    }


def test_a_merged_key_may_be_overridden(tmp_path):
    content = """
one: &one {a: 1, b: 1}
two: &two {<<: *one, b: 2}
three: {b: 3, <<: [*two, *one]}
four: {<<: *two, b: 4}
"""
    assert read_mapping(written(tmp_path, content)) == {
        "one": {"a": 1, "b": 1},
        "two": {"a": 1, "b": 2},
        "three": {"a": 1, "b": 3},
        "four": {"a": 1, "b": 4},
    }


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "not a mapping of settings"),
        ("- 1\n", "not a mapping of settings"),
        ("results\n", "not a mapping of settings"),
        (b"a: 1\nb: \xfc\n", "line 2: not UTF-8 text"),
        ("a: [1\nb: 2\n", "not readable as YAML (line 2: "),
        ("a: 1\n---\na: 2\n", "not readable as YAML (line 2: "),
        ("a: *b\n", "not readable as YAML (line 1: "),
        ("a: \x07\n", "not readable as YAML ("),
        ("a: !!python/name:os.system\n", "not readable as YAML (line 1: "),
        ("a: 2020-13-01\n", "not readable as YAML ("),
        ("[1]: 2\n", "not readable as YAML (line 1: "),
        ("a: &a [1, *a]\n", "line 1: a value that contains itself"),
        (f"a: {'[' * 5000}{']' * 5000}\n", "not readable as YAML (nested too deeply)"),
        ("a: 010\n", "line 1: YAML reads 010 as 8: write the number"),
        ("a:\n  b: 1:30\n", "line 2: YAML reads 1:30 as 90: write the number"),
    ],
)
def test_what_is_no_mapping_is_refused_in_one_line(tmp_path, content, line):
    assert refused(tmp_path, content).startswith(line)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    for path, reason in ((tmp_path / "none", "no such file"), (tmp_path, "Is a directory")):
        with pytest.raises(Refusal, match=rf"^{path}: .*{reason}"):
            read_mapping(path)


@pytest.mark.parametrize("name", ["digits", "smoke", "workstation", "paper"])
def test_the_shipped_scales_read_as_plain_yaml_does(root, name):
    path = root / "workflow" / "config" / f"{name}.yaml"
    assert read_mapping(path) == yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_verbs_refuse_a_key_given_twice(root, tmp_path, capsys):
    text = (root / "workflow/config/digits.yaml").read_text(encoding="utf-8")
    path = written(tmp_path, f"{text}\nseeds: [1]\n")
    importing = ["import-checkpoint", "--source", "none.pt", "--run", "own", "--out", "none"]
    for command in (["settings"], importing):
        assert main([*command, "--scale", str(path)]) == 2
        error = capsys.readouterr().err
        assert f"{path}: line {len(text.splitlines()) + 2}: key 'seeds' is given twice" in error
        assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("seeds=[0,1]", [0, 1]),
        ("seeds=", None),
        ("training={learning_rate: 0.001, batch_size: 64}",
         {"learning_rate": 0.001, "batch_size": 64}),
        ("training={'learning_rate': 0.001}", {"learning_rate": 0.001}),
        ("scale=foo", "foo"),
        ("results=a b=c", "a b=c"),
        ("results=[x", "[x"),
    ],
)  # fmt: skip
def test_a_value_of_the_command_line_is_read_as_yaml(entry, value):
    assert read_command_line([entry]) == {entry.split("=")[0]: value}


@pytest.mark.parametrize(
    ("entries", "line"),
    [
        (["seeds=[0]", "seeds=[1]"], "--config: key 'seeds' is given twice"),
        (["training={a: 1, a: 2}"], "--config: training: line 1: key 'a' is given twice"),
        (["seeds=[010]"], "--config: seeds: line 1: YAML reads 010 as 8"),
    ],
)
def test_a_silent_mistake_on_the_command_line_is_refused(entries, line):
    with pytest.raises(Refusal) as refusal:
        read_command_line(entries)
    assert str(refusal.value).startswith(line)


def test_mappings_are_joined_and_anything_else_replaced():
    below = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    assert merged(below, {"a": {"y": [3]}, "b": {"z": 1}, "c": 2}) == {
        "a": {"x": 1, "y": [3]},
        "b": {"z": 1},
        "c": 2,
    }
    assert below == {"a": {"x": 1, "y": [1, 2]}, "b": 1}


@pytest.fixture
def file(digits, tmp_path) -> Path:
    return written(tmp_path, yaml.safe_dump(digits))


def test_a_scale_comes_from_files_and_the_command_line(digits, file):
    entries = ["seeds=[3, 5]", "training={learning_rate: 0.001}"]
    as_snakemake_reads = digits | {"seeds": ["3", "5"]}
    scale = load_scale_of_workflow(as_snakemake_reads, files=[file], entries=entries)
    assert scale.seeds == [3, 5]
    assert scale.training.learning_rate == 0.001
    assert scale.training.batch_size == digits["training"]["batch_size"]
    assert load_scale_of_workflow(digits, files=[file], entries=[]) == load_scale_file(file)


def test_the_command_line_is_blamed_for_its_own_mistakes_only(digits, file):
    def blamed(entry: str) -> str:
        with pytest.raises(Refusal) as refusal:
            load_scale_of_workflow(digits, files=[file], entries=[entry])
        return str(refusal.value)

    assert blamed("seeds=0").startswith("--config: seeds = 0: ")
    assert blamed("execution={accumulation: 3}").startswith("--config: training.batch_size = 32: ")
    digits["routing"]["beta"] = 2.0
    written(file.parent, yaml.safe_dump(digits))
    assert blamed("seeds=[1]").startswith(f"{file}: routing.beta = 2.0: ")
    assert blamed("seeds=0").startswith("--config: seeds = 0: ")


def test_a_file_of_the_workflow_is_read_again(digits, file):
    """Of two equal keys Snakemake keeps the last, so that its config does not show them."""
    with file.open("a") as stream:
        stream.write("seeds: [1]\n")
    with pytest.raises(Refusal, match="key 'seeds' is given twice"):
        load_scale_of_workflow(digits, files=[file], entries=[])


def test_reading_a_scale_does_not_load_torch(root):
    code = "import sys, dtr.config.reading; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0
