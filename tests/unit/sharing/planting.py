"""Results that something was done to, and what `dtr verify` says of them."""

from collections.abc import Callable
from pathlib import Path

from dtr.cli import main
from dtr.config.scale import Scale
from dtr.sharing.verify import verify
from dtr.support.files import read_json, write_json

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


def assert_found(scale: Scale, plant: Callable[[Path], tuple[str, str]], capsys) -> None:
    """Plant a defect in sound results; the verb says of which kind it is, and in which file."""
    root = Path(scale.results)
    expected = plant(root)
    assert main(["verify", str(root)]) == 2
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert any(line.startswith("{}: {}: found ".format(*expected)) for line in lines)
    assert all("; expected " in line for line in lines)
    assert said.err.count("\n") == 1
