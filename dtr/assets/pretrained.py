"""Networks of others: their files found, downloaded where that is allowed, hashed, and taken over.

What is taken over lies where a trained asset would: weights.safetensors and record.json.
"""

import contextlib
import shutil
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dtr.config.pretrained import PretrainedSettings
from dtr.planning.places import ASSET
from dtr.records.provenance import provenance
from dtr.records.schema import AutoencoderRecord, ExtractorRecord, Fetched, TextEncoderRecord
from dtr.records.weights import write_weights
from dtr.support.errors import Refusal
from dtr.support.files import hash_file, replacing, write_text

if TYPE_CHECKING:
    from torch import Tensor

SUMS = "SHA256SUMS"  # in the format of sha256sum, beside the files


class Taken(NamedTuple):
    """What a reader makes of the files of a network."""

    settings: PretrainedSettings  # with the network's own configuration
    tensors: "dict[str, Tensor]"
    keep: tuple[str, ...] = ()  # files that are needed as they are


READERS = {
    "sd_vae": ("dtr.assets.sd_vae:read", AutoencoderRecord),
    "clip": ("dtr.assets.clip:read", TextEncoderRecord),
    "inception": ("dtr.assets.inception:read", ExtractorRecord),
    "inception_clean": ("dtr.assets.inception_clean:read", ExtractorRecord),
}


def fetch(name: str, settings: PretrainedSettings, folder: Path) -> None:
    """Write weights and, last, record.json of a network of others into `folder`.

    name: what the scale calls it, for messages.  Refused in one line: a file that is missing and
    may not or cannot be downloaded, another content than expected, a file of another kind.
    """
    started = time.perf_counter()
    files = found_files(name, settings)
    sums = checked_sums(name, settings, files)
    reader, model = READERS[settings.type]
    module, function = reader.split(":")
    taken: Taken = getattr(import_module(module), function)(name, settings, files)
    for kept in taken.keep:
        with replacing(folder / kept) as temporary:
            shutil.copyfile(files[kept], temporary)
    origin = settings.origin
    extra = {"scale_factor": settings.scale_factor} if model is AutoencoderRecord else {}
    write_weights(
        folder,
        ASSET,
        taken.tensors,
        model,
        settings=taken.settings.plain(),
        fetched=Fetched(source=origin.source, licence=origin.licence, files=sums),
        provenance=provenance(),
        wall_seconds=time.perf_counter() - started,
        **extra,
    )


def found_files(name: str, settings: PretrainedSettings) -> dict[str, Path]:
    """The files of a network by their names; what is missing is downloaded if that is allowed."""
    folder, origin = Path(settings.path), settings.origin
    files = {file: folder / file for file in origin.files}
    missing = [file for file, path in files.items() if not path.is_file()]
    if missing and not settings.download:
        raise Refusal(f"{wanted(name, settings, missing)}, or set download: true")
    for file in missing:
        download = _from_hub if origin.repository else _from_url
        try:
            download(settings, file)
        except ImportError as error:
            raise Refusal(
                f"{name}: {error.name} is not installed, which downloads {file}; install the extra "
                f"`paper`, or {_put(settings, [file])}"
            ) from None
        except Exception as error:  # whatever a client raises without network, or without consent
            reason = " ".join(str(error).split())[:200]
            raise Refusal(
                f"{wanted(name, settings, [file])}: its download failed "
                f"({type(error).__name__}: {reason})"
            ) from None
    return files


def wanted(name: str, settings: PretrainedSettings, files: list[str]) -> str:
    """What is missing, what it is, and where to put it."""
    where = Path(settings.path)
    return f"{name}: {where / files[0]}: no such file; {_put(settings, files)}"


def _put(settings: PretrainedSettings, files: list[str]) -> str:
    origin = settings.origin
    return (
        f"put {' and '.join(files)} of {origin.what} ({origin.source}; licence: {origin.licence}) "
        f"into {settings.path}"
    )


def _from_hub(settings: PretrainedSettings, file: str) -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download(settings.origin.repository, file, local_dir=settings.path)


def _from_url(settings: PretrainedSettings, file: str) -> None:
    import pooch

    # The hash is looked at afterwards, like that of a file that somebody put there.
    pooch.retrieve(settings.origin.urls[file], None, fname=file, path=settings.path)


def checked_sums(name: str, settings: PretrainedSettings, files: dict[str, Path]) -> dict[str, str]:
    """SHA-256 of each file; one that is not the expected one is refused.

    Where nobody has told what to expect, the hash that was seen first is kept beside the files and
    expected from then on.
    """
    sums = Path(settings.path) / SUMS
    seen = read_sums(sums)
    found = {file: hash_file(path) for file, path in files.items()}
    for file, digest in found.items():
        prefix = "" if settings.rehearsal else settings.origin.prefixes.get(file, "")
        for expected, who in (
            (settings.sha256.get(file), "the scale's sha256"),
            (prefix, "what is known of the published file"),
            (seen.get(file), f"{sums}, where it was written down when the file was first seen"),
        ):
            if expected and not digest.startswith(expected):
                raise Refusal(
                    f"{name}: {files[file]}: sha256 {digest[:16]}..., expected {expected[:16]} by "
                    f"{who}; {_put(settings, [file])}"
                )
    if not found.keys() <= seen.keys():
        lines = [f"{digest}  {file}\n" for file, digest in sorted((seen | found).items())]
        # A folder that others own may be read-only; the record has the hashes, too.
        with contextlib.suppress(Refusal):
            write_text(sums, "".join(lines))
    return found


def read_sums(path: Path) -> dict[str, str]:
    """Hashes by file name from a file of sha256sum; none where there is no such file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.split(maxsplit=1) for line in lines if len(line.split(maxsplit=1)) == 2)
    return {name.lstrip("*"): digest for digest, name in pairs}


def read_as(name: str, what: str, path: Path, read: Callable[[], "Taken"]) -> "Taken":
    """`read()`, with whatever somebody else's format raises as one line about the file."""
    try:
        return read()
    except Refusal:
        raise
    except ImportError as error:
        raise Refusal(
            f"{name}: {error.name} is not installed, which reads {what}; install the extra `paper`"
        ) from None
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise Refusal(
            f"{name}: {path}: not readable as {what} ({type(error).__name__}: {reason})"
        ) from None
