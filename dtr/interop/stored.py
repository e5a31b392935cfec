"""What the file of a checkpoint holds, read with no code of it run."""

import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dtr.support.errors import Refusal

PARTS = ("ema", "model")  # of a training checkpoint, the better first; others are not read
WRAPPERS = {"module", "_orig_mod"}  # what DDP and torch.compile put into names
LISTED = 3  # names shown of each kind of mismatch
ORDER_FLAG = "use_new_attention_order"

# The training script of DiT stores its arguments in the checkpoint, DTR's its OmegaConf settings.
CONFIGURATION = (
    "argparse.Namespace",
    *(f"omegaconf.{kind.lower()}config.{kind}Config" for kind in ("Dict", "List")),
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "Boolean", "Float", "Integer", "String")),
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "collections.defaultdict",
    "typing.Any",
    *(f"builtins.{name}" for name in ("dict", "list", "tuple", "str", "int", "float", "bool")),
)


class Skipped:
    """Stands for every object of a stored configuration: not built, only the order is kept."""

    order: object = None  # of attention, as ADM's option tells it; None where it does not

    def __init__(self, *_arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        if isinstance(state, Mapping):
            self.order = state.get(ORDER_FLAG)


def unpickled(source: Path) -> Mapping[str, Any]:
    """What torch.save wrote, with no code of the file run."""
    if not source.is_file():
        raise Refusal(f"{source}: no such file")
    allowed = [(Skipped, name) for name in CONFIGURATION]
    try:
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about what is refused below anyway
            # Mapped into memory, so that the optimizer's state in a large file is never read.
            mapped = zipfile.is_zipfile(source)
            content = torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # what is raised for damaged pickles is not documented
        if found := re.search(r"GLOBAL (\S+) was not an allowed", str(error)):
            raise Refusal(
                f"{source}: holds a pickled object of {found[1]}; accepted: tensors and, unread, "
                "the configuration of a training script"
            ) from None
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise Refusal(f"{source}: not a checkpoint of torch.save ({reason})") from None
    if not isinstance(content, Mapping):
        raise Refusal(f"{source}: holds a {type(content).__name__}; accepted: a state dict")
    return content


def weights_in(
    source: Path, content: Mapping[str, Any]
) -> tuple[str | None, dict[str, Tensor], list[str]]:
    """The part that is read (None: the whole file), its tensors by released name, names left out.

    Left out are other parts, and what is no tensor; the network may do without it.
    """
    part = next((name for name in PARTS if isinstance(content.get(name), Mapping)), None)
    state = content if part is None else content[part]
    where = f"{source}: {part}" if part else str(source)
    tensors: dict[str, Tensor] = {}
    skipped = [] if part is None else [listed([str(name)]) for name in content if name != part]
    for name, value in state.items():
        if not isinstance(name, str):
            raise Refusal(f"{where}: {name!r} is no name; accepted: a dict of names and tensors")
        plain = ".".join(word for word in name.split(".") if word not in WRAPPERS)
        if not _is_plain(value):
            skipped.append(listed([plain]))
        elif plain in tensors:
            raise Refusal(f"{where}: holds {plain!r} twice, with and without a wrapper's prefix")
        else:
            tensors[plain] = value
    if not tensors:
        found = f" (found: {listed(skipped)})" if skipped else ""
        raise Refusal(f"{where}: holds no tensors{found}")
    return part, tensors, skipped


def stored_order(content: Mapping[str, Any]) -> str | None:
    """The order that a stored configuration tells by ADM's option, or None."""
    for value in content.values():
        flag = value.get(ORDER_FLAG) if isinstance(value, Mapping) else None
        flag = value.order if isinstance(value, Skipped) else flag
        if isinstance(flag, bool):
            return "new" if flag else "legacy"
    return None


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta


def listed(names: Sequence[str]) -> str:
    """The first few names in one line, and how many more there are."""
    more = [f"{len(names) - LISTED} more"] if len(names) > LISTED else []
    return ", ".join([*(" ".join(name.split()) for name in names[:LISTED]), *more])
