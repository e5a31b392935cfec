"""A file is whole or absent, whatever happens to its writer; hashes have one spelling."""

import hashlib
import math
import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from dtr.support.errors import Refusal
from dtr.support.files import canonical_json, hash_file, hash_json, read_json, replacing, write_json


def test_success_replaces_content_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "folder" / "record.json"
    write_json(path, {"step": 1})
    write_json(path, {"step": 2})
    assert read_json(path) == {"step": 2}
    assert list(path.parent.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_temporary_name_keeps_folder_and_suffix(tmp_path):
    """The folder makes the rename atomic; numpy appends a suffix that it does not find."""
    with replacing(tmp_path / "images.npy") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".npy"


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_failure_inside_keeps_the_old_file_and_no_temporary(tmp_path, error):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"old")
    with pytest.raises(type(error)), replacing(path) as temporary:
        temporary.write_bytes(b"half of the n")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_content_is_flushed_before_it_is_renamed(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    write_json(tmp_path / "record.json", [])
    assert calls == ["fsync", "replace"]


def test_places_that_cannot_be_read_or_written_are_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("{}")
    for path in (tmp_path, tmp_path / "file" / "record.json"):
        with pytest.raises(Refusal, match=f"{path}: cannot be written"):
            write_json(path, {})
        with pytest.raises(Refusal, match=f"{path}: not readable"):
            read_json(path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


KILLED_WRITER = """
import sys, time
from dtr.support.files import replacing
with replacing(sys.argv[1]) as temporary:
    with open(temporary, "wb") as stream:
        stream.write(b"half of the n")
        stream.flush()
        print("writing", flush=True)
        time.sleep(60)
"""


def test_killed_writer_leaves_the_old_file_whole(tmp_path, root):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"old")
    writer = subprocess.Popen(
        [sys.executable, "-c", KILLED_WRITER, str(path)], stdout=subprocess.PIPE, cwd=root
    )
    try:
        assert writer.stdout.readline() == b"writing\n"
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    assert path.read_bytes() == b"old"
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new"


def test_reader_beside_a_writer_never_sees_part_of_a_file(tmp_path, root):
    path = tmp_path / "record.json"
    write_json(path, [0] * 20_000)
    code = (
        "import sys; from dtr.support.files import write_json\n"
        "for n in range(60): write_json(sys.argv[1], [n] * 20_000)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=root)
    seen = set()
    while writer.poll() is None:
        values = read_json(path)
        assert len(values) == 20_000
        assert values[0] == values[-1]
        seen.add(values[0])
        time.sleep(0.001)
    assert writer.returncode == 0
    assert seen <= set(range(60))
    assert read_json(path) == [59] * 20_000


def test_missing_and_damaged_json_are_refused_by_name(tmp_path):
    missing, damaged = tmp_path / "missing.json", tmp_path / "damaged.json"
    damaged.write_text('{"step": 1')
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (missing, damaged, binary):
        with pytest.raises(Refusal) as refusal:
            read_json(path)
        assert str(path) in str(refusal.value)
        assert "\n" not in str(refusal.value)


def test_canonical_json_has_one_spelling():
    assert canonical_json({"b": [1, 2.5], "a": None}) == '{"a":null,"b":[1,2.5]}'
    assert hash_json({"a": 1, "b": 2}) == hash_json({"b": 2, "a": 1})
    assert hash_json({"a": 1}) != hash_json({"a": 2})
    assert hash_json({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()


def test_values_without_a_json_form_are_not_written(tmp_path):
    with pytest.raises(ValueError):
        canonical_json(math.nan)
    with pytest.raises(ValueError):
        write_json(tmp_path / "record.json", {"fid": math.inf})
    assert list(tmp_path.iterdir()) == []


def test_hash_file_is_the_sha256_of_its_bytes(tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(b"digits" * 100_000)
    assert hash_file(path) == hashlib.sha256(b"digits" * 100_000).hexdigest()
