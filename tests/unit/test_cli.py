"""The command line: help of every verb, and refusals in one line without a traceback."""

import argparse
import os
import subprocess
import sys

import pytest

from dtr.cli import MODULES, main


def declared() -> dict[str, argparse.ArgumentParser]:
    """The parser of every verb, by its name."""
    verbs = argparse.ArgumentParser().add_subparsers()
    for module in MODULES:
        module.add_verbs(verbs)
    return verbs.choices


def test_a_verb_is_declared_where_it_is():
    """Its function is of the same module, under the same name."""
    for name, parser in declared().items():
        function = parser.get_default("verb")
        assert function.__name__.rstrip("_") == name.replace("-", "_")  # `try` is a keyword
        assert function.__module__ in {module.__name__ for module in MODULES}


def test_help_imports_nothing_that_takes_time():
    code = (
        "import sys, dtr.cli\n"
        "try: dtr.cli.main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(not {'numpy', 'pandas', 'pydantic', 'torch', 'yaml'}.isdisjoint(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert answer.returncode == 0


@pytest.mark.parametrize("verb", declared())
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    assert verb in capsys.readouterr().out


def test_a_refusal_is_one_line_and_exit_status_2():
    command = ["prepare-data", "--dataset", "digits", "--settings", "{}", "--out", "nowhere"]
    answer = subprocess.run([sys.executable, "-m", "dtr", *command], capture_output=True, text=True)
    assert answer.returncode == 2
    (line,) = answer.stderr.splitlines()
    assert line.startswith("dtr prepare-data: --settings: ")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('{"type": "mnist"}', "resolution: missing"),
        ('{"type": "cats"}', "'cats'"),
        ("not json", "invalid JSON"),
        (
            '{"type": "mnist", "resolution": 9, "mirror": false, "num_test": 500}',
            "resolution = 9: digits are 8, 16, or 28 to 64 pixels wide",
        ),
    ],
)
def test_settings_that_cannot_be_used(settings, message, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["prepare-data", "--dataset", "x", "--settings", settings, "--out", str(out)]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert message.lower() in error.lower()
    assert not out.exists()


def test_a_missing_model_is_named(tmp_path, capsys, scale):
    from dtr.planning.evaluations import protocol
    from dtr.support.files import canonical_json

    text = canonical_json(protocol(scale, "unconditional").plain())
    missing = tmp_path / "model"
    arguments = ["sample", "--model", str(missing), "--protocol", text, "--shard", "0"]
    assert main([*arguments, "--shard-size", "10", "--out", str(tmp_path / "out.npz")]) == 2
    assert f"{missing / 'train.json'}: no such file" in capsys.readouterr().err


def test_a_changed_weight_file_is_refused(tmp_path):
    from dtr.backbones.saved import load_model
    from dtr.records.schema import ModelRecord, write_record
    from dtr.support.errors import Refusal

    settings = {
        "seed": 0,
        "backbone": {"type": "dit", "patch_size": 2, "width": 16, "depth": 1, "heads": 2},
        "inputs": {"input_size": 4, "in_channels": 4, "num_classes": 10, "label_dropout": 0.1},
        "routing": {"type": "none"},
        "weighting": {"type": "vanilla"},
        "timesteps": [0, 1000],
        "diffusion": {"schedule": "cosine", "num_timesteps": 1000},
        "training": {
            "batch_size": 8, "learning_rate": 1e-3, "warmup_steps": 0, "weight_decay": 0.0,
            "adam_betas": [0.9, 0.999], "ema_decay": 0.9, "label_dropout": 0.1,
            "precision": "float32",
        },
    }  # fmt: skip
    record = ModelRecord(
        run="a-run", seed=0, step=1, reached_step=1, status="ok", fingerprint=None,
        dataset_hash=None, settings=settings, weights_sha256="0" * 64, parameters=1, provenance={},
    )  # fmt: skip
    write_record(tmp_path / "train.json", record)
    (tmp_path / "ema.safetensors").write_bytes(b"other")
    with pytest.raises(Refusal, match=r"ema\.safetensors: content differs from weights_sha256"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("verb", "option", "value"),
    [
        ("train", "step", "-1"),
        ("train", "accumulation", "0"),
        ("train", "checkpoint-seconds", "-1"),
        ("train", "budget-minutes", "nan"),
        ("sample", "shard", "-1"),
        ("sample", "shard-size", "0"),
        ("sample", "batch-size", "-5"),
        ("measure", "bootstrap", "0"),
        ("measure-images", "n", "0"),
        ("real-features", "threads", "0"),
        ("cka", "images", "0"),
        ("cka", "seed", "-1"),
        ("throughput", "pairs", "1"),
        ("throughput", "seconds", "inf"),
        ("plan", "tflops", "0"),
        ("plan", "tflops", "nan"),
        ("import-checkpoint", "step", "1.5"),
        ("import-checkpoint", "seed", "x"),
    ],
)
def test_numbers_that_are_none_of_the_option(verb, option, value, capsys):
    with pytest.raises(SystemExit) as ended:
        main([verb, f"--{option}={value}"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"dtr {verb}: --{option}: {value}; accepted: ")


def test_an_output_that_nobody_reads_ends_it_quietly():
    """As in `dtr schema | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "dtr", "schema"]
    answer = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (answer.returncode, answer.stderr) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="of Linux")
def test_an_output_without_room_is_one_line():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "dtr", "schema"]
        answer = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    line = "dtr schema: output cannot be written (No space left on device)\n"
    assert (answer.returncode, answer.stderr) == (2, line)


def test_an_output_that_is_closed_is_none():
    command = [sys.executable, "-m", "dtr", "schema"]
    closed = {"preexec_fn": lambda: os.close(1)}
    answer = subprocess.run(command, stderr=subprocess.PIPE, text=True, **closed)
    assert (answer.returncode, answer.stderr) == (0, "")


def test_a_sample_needs_a_model(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["sample", "--protocol", "{}", "--shard", "0", "--shard-size", "1", "--out", "x"])
    assert ended.value.code == 2
    assert "the following arguments are required: --model" in capsys.readouterr().err


def test_an_output_below_a_file_is_refused_before_anything_is_computed(tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        main(["throughput", "--backbone", "DiT-S/2", "--out", str(tmp_path / "file" / "x")])
    assert f"--out: {tmp_path}/file/x: {tmp_path}/file is a file" in capsys.readouterr().err


def test_a_folder_that_is_a_file_is_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    settings = '{"type": "mnist", "resolution": 8, "mirror": false, "num_test": 10}'
    command = ["prepare-data", "--dataset", "d", "--settings", settings, "--out"]
    assert main([*command, str(tmp_path / "file")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"dtr prepare-data: {tmp_path}/file/manifest.json: Not a directory"


def test_a_file_that_is_no_npz_is_not_called_a_pickle(tmp_path, capsys):
    (tmp_path / "text.npz").write_text("text")
    out = str(tmp_path / "out.npz")
    assert main(["export-samples", "--samples", str(tmp_path / "text.npz"), "--out", out]) == 2
    assert "text.npz: not readable as npz (damaged, or no archive)" in capsys.readouterr().err


def test_a_device_that_is_not_there(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.backends.cuda.is_built", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    arguments = ["throughput", "--backbone", "DiT-S/2", "--out", str(tmp_path / "out.json")]
    assert main([*arguments, "--device", "cuda"]) == 2
    assert (
        "device = cuda: this machine has no CUDA device; accepted here: cpu"
        in capsys.readouterr().err
    )


def test_what_could_not_be_timed_is_said(capsys, tmp_path, monkeypatch):
    reason = "needs 9.2 GB of memory, 1.0 GB are free"
    monkeypatch.setattr("dtr.analysis.throughput._too_little_memory", lambda *_: reason)
    out = tmp_path / "out.json"
    assert main(["throughput", "--backbone", "DiT-S/2", "--out", str(out)]) == 0
    assert reason in capsys.readouterr().err
    assert out.exists()


@pytest.mark.parametrize("content", ["a: [1", "- just\n- a list", None])
def test_a_broken_scale_file_is_refused(content, tmp_path, capsys):
    path = tmp_path / "scale.yaml"
    if content is not None:
        path.write_text(content)
    assert main(["settings", "--scale", str(path)]) == 2
    error = capsys.readouterr().err
    assert str(path) in error
    assert "Traceback" not in error
