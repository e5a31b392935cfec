"""Weights beside the record that vouches for them: written and read in one place."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtr.records.schema import AnyRecord, read_record, write_record
from dtr.support.errors import Refusal
from dtr.support.files import hash_file, replacing

if TYPE_CHECKING:
    from torch import Tensor


def write_weights(
    folder: Path,
    files: tuple[str, str],
    tensors: "Mapping[str, Tensor]",
    model: type[AnyRecord],
    **fields: Any,
) -> None:
    """Write the weights and, last, their record with their hash, which makes the result exist.

    files: names of both, `places.MODEL` or `places.ASSET`.  fields: of the record `model`, without
    `weights_sha256`.
    """
    from safetensors.torch import save_file

    path = folder / files[0]
    with replacing(path) as temporary:
        save_file({name: t.cpu().contiguous() for name, t in tensors.items()}, temporary)
    write_record(folder / files[1], model(weights_sha256=hash_file(path), **fields))


def read_weights(
    folder: Path, files: tuple[str, str], model: type[AnyRecord]
) -> "tuple[AnyRecord, dict[str, Tensor]]":
    """The record in `folder` and its weights; other weights than the recorded are refused."""
    from safetensors.torch import load_file

    record, path = read_record(model, folder / files[1]), folder / files[0]
    if not path.is_file():
        raise Refusal(f"{path}: missing; delete {folder} to have it made again")
    if hash_file(path) != record.weights_sha256:
        raise Refusal(
            f"{path}: content differs from weights_sha256 in {files[1]} (corrupted?); delete "
            f"{folder} to have it made again"
        )
    return record, load_file(path)
