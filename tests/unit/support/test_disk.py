"""The room that folders take."""

from dtr.support.disk import disk_use
from dtr.support.files import write_text


def test_disk_use_is_by_folder_and_follows_no_links(tmp_path):
    root = tmp_path / "results"
    write_text(root / "runs/a/b.txt", "x" * 10)
    write_text(root / "work/c.txt", "x" * 5)
    (root / "runs/link").symlink_to(root / "work")
    assert disk_use(root) == {"runs": 10, "work": 5}
    assert disk_use(tmp_path / "absent") == {}
