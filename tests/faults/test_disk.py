"""A disk that is full or read-only: one line, what was there stays, and the work goes on later."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from dtr.cli import main
from dtr.metrics import measure
from dtr.planning.places import Places
from dtr.records.table import Records
from dtr.records.workdir import append_log, read_log
from dtr.reporting.tables.build import build_table
from dtr.reporting.tables.formats import write_tables
from dtr.support.errors import Unwritable
from dtr.support.files import canonical_json, read_json, replacing, write_text
from tests.faults.conftest import room_for, train_arguments
from tests.synthetic_results import write_everything, write_metrics, write_training
from tests.unit.training.conftest import assert_same_state, run_to


def test_a_checkpoint_that_finds_no_room_loses_nothing(latents, tmp_path):
    whole, *_ = run_to(30, latents, tmp_path / "whole")
    _, folder, _ = run_to(10, latents, tmp_path / "work")
    size = (folder / "step-000000010.pt").stat().st_size
    before = sorted(path.name for path in folder.iterdir())
    with room_for(size // 2), pytest.raises(Unwritable, match=r"step-000000020\.pt: cannot be"):
        run_to(20, latents, tmp_path / "work")
    assert sorted(path.name for path in folder.iterdir()) == before  # and no half of a file
    resumed, *_ = run_to(30, latents, tmp_path / "work")
    assert_same_state(whole, resumed)


def test_weights_that_find_no_room_are_written_later(latents, tmp_path, capsys):
    """The training is done then, and is not done again."""
    with room_for(1 << 20):
        assert main(train_arguments(latents, tmp_path, 20)) == 0
    size = (tmp_path / "out/ema.safetensors").stat().st_size
    (tmp_path / "out/ema.safetensors").unlink()
    (tmp_path / "out/train.json").unlink()
    with room_for(size // 2):
        assert main(train_arguments(latents, tmp_path, 20)) == 2
    said = capsys.readouterr().err
    assert "ema.safetensors: cannot be written (File too large)" in said
    assert "Traceback" not in said
    assert not list((tmp_path / "out").iterdir())
    assert main(train_arguments(latents, tmp_path, 20)) == 0
    assert "resumed at step 20" in capsys.readouterr().out


def test_a_really_full_disk(latents, tmp_path, small_disk):
    whole, *_ = run_to(30, latents, tmp_path / "whole")
    _, folder, _ = run_to(10, latents, tmp_path / "work")
    size = (folder / "step-000000010.pt").stat().st_size
    disk = small_disk(f"size={int(1.5 * size) // 4096 * 4}k")
    with pytest.raises(Unwritable, match="No space left on device"):
        run_to(30, latents, disk / "work")
        run_to(40, latents, disk / "work")
    small_disk("size=64m")
    resumed, *_ = run_to(30, latents, disk / "work")
    assert_same_state(whole, resumed)


def test_samples_and_features_that_find_no_room_leave_no_part(tmp_path):
    images = np.zeros((50, 8, 8, 3), dtype=np.uint8)
    for old in (False, True):
        out = tmp_path / "shard-0.npz"
        if old:
            np.savez(out, arr_0=images[:2])
        with (
            room_for(4096),
            pytest.raises(Unwritable, match=r"shard-0\.npz: cannot be written"),
            replacing(out) as temporary,
        ):
            np.savez(temporary, arr_0=images)
        assert [path.name for path in tmp_path.iterdir()] == (["shard-0.npz"] if old else [])
    assert len(np.load(out)["arr_0"]) == 2


def test_a_full_disk_is_not_recorded_as_a_failed_measurement(tmp_path, monkeypatch):
    """A record says what came out; that there was no room for features is to be tried again."""

    def full(*_, **__):
        raise Unwritable("features/shard-0.npz: cannot be written (No space left on device)")

    training = measure.ModelRecord.model_construct(
        run="toy", seed=0, step=1, status="ok", reason=None
    )
    monkeypatch.setattr(measure, "read_record", lambda *_: training)
    monkeypatch.setattr(measure, "sample_features", full)
    protocol = measure.Protocol(
        dataset="digits", extractor="digits-cnn", n_samples=4, guidance_channels="all",
        sampling_steps=2, labels="random", seed=0, neighbours=3, kid_subset=2, inception_split=2,
    )  # fmt: skip
    with pytest.raises(Unwritable):
        measure.measure_model(
            tmp_path / "record.json", protocol, slot="unconditional", real=tmp_path / "real.npz",
            bootstrap=1, models=[tmp_path], samples=[tmp_path / "shard-0.npz"],
        )  # fmt: skip
    assert not (tmp_path / "record.json").exists()


def test_records_and_tables_that_find_no_room_stay_as_they_were(scale):
    path = write_metrics(scale, "in256-l2-none", fid=4.0)
    write_training(scale, "in256-l2-none")
    table = [build_table("table1", Records(scale))]
    out = Path(Places(scale.results).now()) / "tables"
    write_tables(table, out)
    before = {path: path.read_bytes() for path in (path, *out.iterdir())}
    with room_for(100):
        with pytest.raises(Unwritable):
            write_metrics(scale, "in256-l2-none", fid=5.0)
        with pytest.raises(Unwritable):
            write_tables(table, out)
    assert {path: path.read_bytes() for path in (path, *out.iterdir())} == before
    assert read_json(path)["metrics"][0]["value"] == 4.0


OLD = "the page of before"


def old_page(scale) -> Path:
    """Records of a whole page, and an older page of them."""
    write_everything(scale)
    page = Path(Places(scale.results).now()) / "report/index.html"
    write_text(page, OLD)
    return page


def report(scale) -> int:
    return main(["report", "--settings", canonical_json(scale.plain())])


def left_over(page: Path) -> list[Path]:
    return [path for path in page.parents[1].rglob(".*") if path.is_file()]


@pytest.mark.slow
def test_a_page_that_finds_no_room_leaves_the_old_one(scale, capsys):
    """At each stage of its making: with the claims, the figures, and the page itself."""
    page = old_page(scale)
    for size, where in ((20_000, "claims/claims.json"), (90_000, "figures/"), (300_000, page.name)):
        with room_for(size):
            assert report(scale) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("dtr report: ") and where in line
        assert line.endswith(": cannot be written (File too large)")
        assert page.read_text() == OLD and not left_over(page)
    assert report(scale) == 0
    assert page.stat().st_size > 300_000 and (page.parent / "built.json").is_file()


def test_a_page_on_a_disk_that_is_really_full(scale, small_disk, capsys):
    disk = small_disk("size=8m")
    scale = scale.model_copy(update={"results": str(disk)})
    page = old_page(scale)
    (disk / "others").write_bytes(bytes(shutil.disk_usage(disk).free - (60 << 10)))
    assert report(scale) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dtr report: ") and line.endswith("(No space left on device)")
    assert page.read_text() == OLD and not left_over(page)


def test_a_line_of_the_log_that_found_no_room_costs_no_other(tmp_path):
    append_log(tmp_path, {"step": 10})
    size = (tmp_path / "train.jsonl").stat().st_size
    with room_for(size + 5), pytest.raises(OSError, match="File too large"):
        append_log(tmp_path, {"step": 20})
    assert (tmp_path / "train.jsonl").stat().st_size == size + 5  # a part of the line
    append_log(tmp_path, {"step": 20})
    append_log(tmp_path, {"step": 30})
    assert [entry["step"] for entry in read_log(tmp_path)] == [10, 20, 30]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_is_one_line(
    latents, tmp_path, monkeypatch, capsys, number
):
    def refuse(folder: Path, **_):
        raise OSError(number, os.strerror(number), str(folder / "lock"))

    monkeypatch.setattr("dtr.training.loop.exclusive", refuse)
    assert main(train_arguments(latents, tmp_path, 10)) == 2
    said = capsys.readouterr().err
    assert said.startswith("dtr train: ") and said.endswith(f"/lock: {os.strerror(number)}\n")


def test_really_read_only_results(latents, scale, tmp_path, small_disk, capsys):
    disk = small_disk("size=64m")
    assert main(train_arguments(latents, disk, 10)) == 0
    write_text(disk / "runs/x/seed0/step1/metrics/y.json", "{}")
    small_disk("ro")
    assert main(train_arguments(latents, disk, 20)) == 2
    said = capsys.readouterr().err
    assert "Read-only file system" in said and "Traceback" not in said
    with pytest.raises(Unwritable, match="Read-only file system"):
        write_text(disk / "page.html", "new")
    reading = scale.model_copy(update={"results": str(disk)})
    assert Records(reading).broken  # read as ever
    small_disk("rw")
    assert main(train_arguments(latents, disk, 20)) == 0
