"""`dtr verify` finds each planted defect by name, and nothing in sound results."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dtr.cli import main
from dtr.planning.evaluations import evaluations
from dtr.planning.places import Places
from dtr.records.reference import collect
from dtr.sharing.verify import verify
from dtr.support.files import (
    canonical_json,
    hash_file,
    hash_json,
    read_json,
    write_json,
    write_text,
)
from tests.unit.sharing.conftest import build, made_of

STEP = "runs/in256-l2-none/seed0/step1000"
OTHER = "runs/in256-l2-rtr/seed0/step1000"


def found_in(root: Path, **options) -> list[tuple[str, str]]:
    findings, _ = verify(root, **options)
    return [(one.kind, one.file) for one in findings]


def measured(root: Path, folder: str = STEP) -> Path:
    (path,) = (root / folder / "metrics").glob("*.json")
    return path


def edited(path: Path, change: Callable[[dict], object]) -> Path:
    content = read_json(path)
    change(content)
    write_json(path, content)
    return path


def test_sound_results_pass(sound, capsys):
    assert verify(Path(sound.results))[0] == []
    assert main(["verify", sound.results]) == 0
    assert "nothing found; looked at: " in capsys.readouterr().out


def test_the_reference_results_pass(root, capsys):
    """They are records only; other runs than those of Table 1 have fewer seeds."""
    folder = str(root / "results/reference/digits")
    assert main(["verify", folder, "--partial"]) == 0
    assert "nothing found" in capsys.readouterr().out


def test_collected_records_are_checked_as_records_only(sound, tmp_path):
    collect(sound, tmp_path / "reference")
    assert found_in(tmp_path / "reference") == []
    edited(measured(tmp_path / "reference"), lambda record: record["metrics"].clear())
    assert found_in(tmp_path / "reference") == [
        ("altered", measured(tmp_path / "reference").relative_to(tmp_path / "reference").as_posix())
    ]


def change_weights(root):
    write_text(root / STEP / "ema.safetensors", "other weights")
    return "altered", f"{STEP}/ema.safetensors"


def lose_weights(root):
    (root / STEP / "ema.safetensors").unlink()
    return "missing", f"{STEP}/ema.safetensors"


def change_learning_rate(root):
    path = root / STEP / "train.json"
    edited(path, lambda record: record["settings"]["training"].update(learning_rate=0.5))
    return "altered", f"{STEP}/train.json"  # its fingerprint is of other settings


def train_under_other_settings(root):
    """As when a scale is changed afterwards: the record is sound, and of another experiment."""
    from dtr.config.stages import RunSettings
    from dtr.support.settings import parse

    def change(record):
        record["settings"]["training"]["learning_rate"] = 0.5
        settings = parse(RunSettings, record["settings"], source="test")
        record["fingerprint"] = settings.fingerprint(record["dataset_hash"], record["parts"])

    edited(root / STEP / "train.json", change)
    return "stale", f"{STEP}/train.json"


def claim_other_data(root):
    edited(root / STEP / "train.json", lambda record: record.update(dataset_hash="e" * 64))
    return "inconsistent", f"{STEP}/train.json"


def stop_early(root):
    edited(root / STEP / "train.json", lambda record: record.update(reached_step=500))
    return "altered", f"{STEP}/train.json"


def write_another_schema(root):
    edited(root / STEP / "train.json", lambda record: record.update(schema_version=1))
    return "broken", f"{STEP}/train.json"


def move_a_record(root):
    shutil.copy(root / STEP / "train.json", root / OTHER / "train.json")
    return "broken", f"{OTHER}/train.json"


def cut_a_record(root):
    path = measured(root)
    path.write_text(path.read_text()[:100])
    return "broken", path.relative_to(root).as_posix()


def nest_a_record(root):
    path = measured(root)
    path.write_text("[" * 100_000)
    return "broken", path.relative_to(root).as_posix()


def lose_a_record(root):
    path = measured(root)
    path.unlink()
    return "missing", path.relative_to(root).as_posix()


def measure_fewer(root):
    path = edited(measured(root), lambda record: record["metrics"][0].update(n=10))
    return "altered", path.relative_to(root).as_posix()


def turn_a_metric(root):
    path = edited(measured(root), lambda record: record["metrics"][0].update(direction="higher"))
    return "altered", path.relative_to(root).as_posix()


def change_the_protocol(root):
    path = edited(measured(root), lambda record: record["protocol"].update(sampling_steps=999))
    return "altered", path.relative_to(root).as_posix()


def turn_an_interval(root):
    path = edited(measured(root), lambda record: record["metrics"][0].update(low=9.0, high=1.0))
    return "altered", path.relative_to(root).as_posix()


def diverge(root):
    def change(record):
        record.update(status="diverged", reached_step=500)

    edited(root / STEP / "train.json", change)
    return "inconsistent", measured(root).relative_to(root).as_posix()


def change_a_value(root):
    """A number in a record, after the tables and the page."""
    edited(measured(root), lambda record: record["metrics"][0].update(value=0.01, low=0.01))
    return "stale", "tables/table1.csv"


def encode_other_data(root):
    """Latents of other images, or by another rule, after the models were trained."""
    folder = root / "latents/digits--digits-vae"
    write_text(folder / "shard-00000.npy", "other latents")
    files = {"shard-00000.npy": hash_file(folder / "shard-00000.npy")}
    content = hash_json([files, 1.0])
    edited(folder / "manifest.json", lambda one: one.update(files=files, content_hash=content))
    return "stale", f"{STEP}/train.json"


def cut_data(root):
    write_text(root / "data/digits/images.npy", "imag")
    return "altered", "data/digits/images.npy"


def change_data(root):
    write_text(root / "data/digits/images.npy", "others")
    return "altered", "data/digits/images.npy"


def change_a_manifest(root):
    name = "latents/digits--digits-vae/manifest.json"
    edited(root / name, lambda manifest: manifest.update(scale_factor=2.0))
    return "altered", name


def lead_out_of_the_folder(root):
    name = "data/digits/manifest.json"
    edited(root / name, lambda manifest: manifest["files"].update({"../../../secret": "0" * 64}))
    return "unsafe", name


def encode_anew(root):
    folder = root / "autoencoders/digits-vae"
    write_text(folder / "weights.safetensors", "another autoencoder")
    sha256 = hash_file(folder / "weights.safetensors")
    edited(folder / "record.json", lambda record: record.update(weights_sha256=sha256))
    return "stale", "latents/digits--digits-vae/manifest.json"


def sample_anew(root):
    shard = next((root / STEP / "samples").glob("*/shard-0.npz"))
    np.savez(shard, arr_0=np.zeros((500, 4, 4, 3), dtype=np.uint8))
    return "stale", f"{STEP}/features/{shard.parent.name}/shard-0.npz"


def lose_samples(root):
    shard = next((root / STEP / "samples").glob("*/shard-1.npz"))
    shard.unlink()
    return "missing", shard.parent.relative_to(root).as_posix()


def lose_features_of_images_that_were_not_kept(root):
    shard = next((root / STEP / "samples").glob("*/shard-1.npz"))
    np.savez(shard, arr_0=np.zeros((10, 4, 4, 3), dtype=np.uint8), drawn=np.array(500))
    features = root / STEP / "features" / shard.parent.name / shard.name
    features.unlink()
    return "missing", features.relative_to(root).as_posix()


class Harmful:
    """What a pickle can do: leave a file behind when it is loaded."""

    def __reduce__(self):
        return os.mkdir, ("was-run",)


def hide_a_pickle(root):
    shard = next((root / STEP / "samples").glob("*/shard-0.npz"))
    np.savez(shard, arr_0=np.array([Harmful()], dtype=object))
    return "broken", shard.relative_to(root).as_posix()


def hide_a_bomb(root):
    shard = next((root / STEP / "samples").glob("*/shard-0.npz"))
    np.savez_compressed(shard, arr_0=np.zeros((500, 64, 64, 3), dtype=np.uint8))
    return "unsafe", shard.relative_to(root).as_posix()


def change_a_checkpoint(root):
    (path,) = (root / "work").rglob("step-*.pt")
    path.write_bytes(pickle.dumps(Harmful()))
    return "altered", path.relative_to(root).as_posix()


def change_the_papers_number(root):
    path = root / "tables/table1.csv"
    lines = path.read_text().splitlines(keepends=True)
    number = next(i for i, line in enumerate(lines) if ",10.99," in line)
    lines[number] = lines[number].replace(",10.99,", ",19.99,")
    path.write_text("".join(lines))
    return "altered", "tables/table1.csv"


def change_a_claim(root):
    path = root / "claims/claims.csv"
    path.write_text(path.read_text().replace("not measured", "confirmed").replace("here", "hier"))
    return "altered", "claims/claims.csv"


def change_the_page(root):
    write_text(root / "report/index.html", "<title>another page</title>")
    return "altered", "report/index.html"


def lose_the_page(root):
    (root / "report/index.html").unlink()
    return "missing", "report/index.html"


def build_with_other_numbers(root):
    """The page of a version whose copy of the paper's numbers was another one."""
    name = "report/built.json"
    edited(root / name, lambda note: note.update(published_sha256="0" * 64))
    return "stale", name


def link_out(root):
    path = root / STEP / "train.json"
    shutil.copy(path, root.parent / "elsewhere.json")
    path.unlink()
    path.symlink_to(root.parent / "elsewhere.json")
    return "unsafe", f"{STEP}/train.json"


def put_a_pipe(root):
    os.mkfifo(root / "work/in256-l2-none/lock")
    return "unsafe", "work/in256-l2-none/lock"


DEFECTS = [
    change_weights, lose_weights, change_learning_rate, train_under_other_settings,
    claim_other_data, stop_early, write_another_schema, move_a_record, cut_a_record, nest_a_record,
    lose_a_record, measure_fewer, turn_a_metric, change_the_protocol, turn_an_interval, diverge,
    change_a_value, encode_other_data, cut_data, change_data, change_a_manifest,
    lead_out_of_the_folder, encode_anew, sample_anew, lose_samples,
    lose_features_of_images_that_were_not_kept, hide_a_pickle, hide_a_bomb,
    change_a_checkpoint, change_the_papers_number, change_a_claim, change_the_page, lose_the_page,
    build_with_other_numbers, link_out, put_a_pipe,
]  # fmt: skip


@pytest.mark.parametrize("plant", DEFECTS, ids=lambda plant: plant.__name__)
def test_a_planted_defect_is_found(sound, tmp_path, monkeypatch, capsys, plant):
    monkeypatch.chdir(tmp_path)
    root = Path(sound.results)
    expected = plant(root)
    assert main(["verify", str(root)]) == 2
    assert not (tmp_path / "was-run").exists()
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert any(line.startswith("{}: {}: found ".format(*expected)) for line in lines)
    assert all("; expected " in line for line in lines)
    assert said.err.count("\n") == 1


def test_a_partial_sweep_is_no_fault_if_that_is_said(sound):
    root = Path(sound.results)
    shutil.rmtree(root / STEP)
    for name in ("tables", "claims", "report"):
        shutil.rmtree(root / name)
    missing = found_in(root, scale=sound)
    assert {kind for kind, _ in missing} == {"missing"}
    assert ("missing", f"{STEP}/train.json") in missing
    assert ("missing", "report/index.html") in missing
    assert found_in(root, scale=sound, partial=True) == []
    change_data(root)
    assert found_in(root, scale=sound, partial=True) == [("altered", "data/digits/images.npy")]


def test_the_published_number_is_named_in_the_line(sound):
    root = Path(sound.results)
    change_the_papers_number(root)
    lines = [one.line for one in verify(root)[0] if one.file == "tables/table1.csv"]
    assert any("the paper's value 19.99; expected 10.99" in line for line in lines)


def test_a_page_is_stale_once_its_records_change(sound):
    root = Path(sound.results)
    change_a_value(root)
    assert ("stale", "report/built.json") in found_in(root)
    build(sound)
    assert found_in(root) == []


def test_results_that_were_moved_pass(sound, tmp_path, monkeypatch):
    shutil.move(sound.results, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    assert found_in(Path("elsewhere")) == []


def test_code_named_by_results_is_not_run_unless_asked_for(sound, tmp_path, monkeypatch, capsys):
    """A scale may name a file of Python as a part; that of a stranger stays unread."""
    monkeypatch.chdir(tmp_path)
    part = tmp_path / "part.py"
    part.write_text(
        "import os\nos.mkdir('was-run')\n"
        "from dtr.routing import no_masks\n"
        "def masks(settings, layers, timesteps, channels):\n"
        "    return no_masks(settings, layers, timesteps, channels)\n"
    )
    own = {"id": "own", "slot": "unconditional", "backbone": "DiT-B/2", "iterations": 1000}
    own |= {"routing": {"type": "part.py:masks"}}
    note = Path(sound.results) / "report/built.json"
    edited(note, lambda content: content["scale"].update(extra_runs=[own]))
    assert main(["verify", sound.results]) == 2
    assert "code from outside this package, which is not run here" in capsys.readouterr().err
    assert not (tmp_path / "was-run").exists()
    record = Path(sound.results) / STEP / "train.json"
    edited(record, lambda one: one["settings"].update(routing={"type": "part.py:masks"}))
    assert ("broken", f"{STEP}/train.json") in found_in(Path(sound.results), scale=sound)
    assert not (tmp_path / "was-run").exists()
    assert main(["verify", sound.results, "--run-parts"]) == 2
    assert (tmp_path / "was-run").exists()


def test_names_cannot_break_the_list_into_other_lines(sound):
    folder = Path(sound.results) / "runs/a\nmissing: b/seed0/step1"
    folder.mkdir(parents=True)
    (folder / "train.json").write_text("{")
    (line,) = [one.line for one in verify(Path(sound.results))[0] if one.kind == "broken"]
    assert "\n" not in line


def test_a_folder_without_a_scale_has_to_be_told_it(sound, tmp_path, capsys):
    (Path(sound.results) / "report/built.json").unlink()
    assert main(["verify", sound.results, "--partial"]) == 2
    assert "no scale is stored here" in capsys.readouterr().err
    assert (
        main(["verify", sound.results, "--partial", "--settings", canonical_json(sound.plain())])
        == 0
    )
    assert main(["verify", str(tmp_path / "absent")]) == 2
    assert "neither a results folder nor an archive" in capsys.readouterr().err


def test_more_seeds_are_missing_cells(grid, sound):
    more = made_of(grid, Path(sound.results), seeds=[0, 1])
    found = found_in(Path(sound.results), scale=more, partial=True)
    # Tables say of a cell which seeds it has; those of one seed are not those of two.
    assert {kind for kind, _ in found} <= {"stale"}
    missing = [
        file for kind, file in found_in(Path(sound.results), scale=more) if kind == "missing"
    ]
    wanted = {Places(".").evaluation(one)[2:] for one in evaluations(more) if one.seed == 1}
    assert wanted <= set(missing)
