"""Released checkpoints of DiT, DTR and ADM as trained models of ours.

Our networks carry the parameter names of the released code of DiT, DTR and ADM; only the routing
state is stored differently. A checkpoint cannot tell everything: the number of heads, the noise
schedule and the order of q, k and v in ADM's attention are taken from the settings.
"""

import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dtr.backbones.build import build_backbone
from dtr.backbones.masks import ChannelMasks
from dtr.config.stages import RunSettings, outside_sources
from dtr.planning.places import MODEL
from dtr.records.provenance import provenance
from dtr.records.schema import ModelRecord, Origin
from dtr.records.weights import write_weights
from dtr.routing import active_channels, constants_of
from dtr.support.errors import Refusal
from dtr.support.files import hash_file

PARTS = ("ema", "model")  # of a training checkpoint, the better first; others are not read
WRAPPERS = {"module", "_orig_mod"}  # what DDP and torch.compile put into names
MASKS = "blocks.{}.routing._unit_mapping"  # [T, C] float32 of 0 and 1, one per block
LABEL_TABLES = ("y_embedder.embedding_table.weight", "label_emb.weight")
PRECISIONS = (torch.float32, torch.float16, torch.bfloat16)  # all exact in float32
LISTED = 3  # names shown of each kind of mismatch

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
    """Stands for every object of a stored configuration, of which nothing is built or kept."""

    def __init__(self, *_arguments: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass


def import_checkpoint(
    source: Path, settings: RunSettings, out: Path, *, run: str, step: int | None = None
) -> None:
    """Write a checkpoint of the released DiT, DTR or ADM code as `out`, a trained model of ours.

    source: a state dict or a training checkpoint, of which "ema" is preferred to "model".
    step: None for the number at the end of the file name (0400000.pt).  Every tensor must fit the
    network of `settings`, and masks its routing; random masks replace those of the routing seed.
    """
    if out.is_file() or (out / "train.json").exists():
        raise Refusal(f"{out}: is a file or holds a model already; name another folder")
    step = _step_of(source) if step is None else step
    if step < 0:
        raise Refusal(f"--step {step}: accepted: 0 or more")
    part, tensors = _read_checkpoint(source)
    with torch.device("meta"):  # names and shapes only; tables of masks are real all the same
        model = build_backbone(settings.backbone, settings.inputs, settings.routing)
    masks = _mask_names(tensors, settings)
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
        if not name.startswith("routing.")
    }
    mask_shape = (settings.diffusion.num_timesteps, settings.backbone.channels)
    _check_shapes(source, tensors, shapes | dict.fromkeys(masks, mask_shape))
    weights = {name: _float32(source, name, tensors[name]) for name in shapes}
    routing = _routing_state(source, [tensors[name] for name in masks], model.routing, settings)
    if routing is not None:
        weights["routing.table"] = routing.table
    write_weights(
        out,
        MODEL,
        weights,
        ModelRecord,
        run=run,
        seed=settings.seed,
        step=step,
        reached_step=step,
        status="ok",
        fingerprint=None,
        dataset_hash=None,
        settings=settings.plain(),
        parameters=sum(p.numel() for p in model.parameters()),
        parts={} if routing is None else {"routing": routing.hash()},
        sources=outside_sources(settings),
        provenance=provenance(),  # of the import
        imported_from=Origin(file=source.name, sha256=hash_file(source), part=part),
    )


def _step_of(source: Path) -> int:
    # Six digits at least, as training scripts write them: the 256 of DiT-XL-2-256x256 is no step.
    found = re.search(r"\d{6,}$", source.stem)
    if found is None:
        raise Refusal(f"--step: needed, {source.name!r} does not end in a step of 6 digits or more")
    return int(found[0])


def _read_checkpoint(source: Path) -> tuple[str | None, dict[str, Tensor]]:
    """The part that was read (None: the whole file) and its tensors under their released names."""
    content = _unpickled(source)
    part = next((name for name in PARTS if isinstance(content.get(name), Mapping)), None)
    state = content if part is None else content[part]
    where = f"{source}: {part}" if part else str(source)
    tensors = {}
    for name, value in state.items():
        if not isinstance(name, str) or not _is_plain(value):
            raise Refusal(f"{where}: {name!r} is no tensor; accepted: a dict of names and tensors")
        plain = ".".join(word for word in name.split(".") if word not in WRAPPERS)
        if plain in tensors:
            raise Refusal(f"{where}: holds {plain!r} twice, with and without a wrapper's prefix")
        tensors[plain] = value
    if not tensors:
        raise Refusal(f"{where}: holds no tensors")
    return part, tensors


def _unpickled(source: Path) -> Mapping[str, Any]:
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


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta


def _mask_names(tensors: Iterable[str], settings: RunSettings) -> list[str]:
    """Names of the masks of every block, if any block of the checkpoint has them."""
    if settings.backbone.type != "dit":
        return []  # where the released code has none
    suffix = MASKS.rpartition(".")[2]
    routed = any(name.endswith(suffix) for name in tensors)
    return [MASKS.format(layer) for layer in range(settings.backbone.depth)] if routed else []


def _check_shapes(
    source: Path,
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, tuple[int, ...]],
) -> None:
    """Refuse missing, unexpected and differently shaped tensors, all in one line."""
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    kinds = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "of another shape": [
            f"{name} {list(found[name])} instead of {list(shape)}{_label_hint(name, found, shape)}"
            for name, shape in expected.items()
            if found.get(name, shape) != shape
        ],
    }
    parts = [f"{len(names)} {kind} ({_listed(names)})" for kind, names in kinds.items() if names]
    if parts:
        raise Refusal(f"{source}: does not fit the network of the settings: {'; '.join(parts)}")


def _label_hint(name: str, found: Mapping[str, tuple[int, ...]], shape: tuple[int, ...]) -> str:
    """What a label table with one row more or less means; such a table cannot be guessed."""
    if name not in LABEL_TABLES or len(found[name]) != len(shape):
        return ""
    extra = found[name][0] - shape[0]
    hints = {-1: "it has no row for 'no label'", 1: "it has a row for 'no label'"}
    fits = {-1: "label_dropout 0", 1: "label_dropout above 0"}
    return f": {hints[extra]} and fits settings with {fits[extra]}" if extra in hints else ""


def _listed(names: Sequence[str]) -> str:
    more = [f"{len(names) - LISTED} more"] if len(names) > LISTED else []
    return ", ".join([*(" ".join(name.split()) for name in names[:LISTED]), *more])


def _float32(source: Path, name: str, tensor: Tensor) -> Tensor:
    """A copy in float32, which is what our files hold."""
    if tensor.dtype not in PRECISIONS:
        accepted = ", ".join(map(str, PRECISIONS))
        raise Refusal(f"{source}: {name} is of {tensor.dtype}; accepted: {accepted}")
    copy = tensor.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    if not torch.isfinite(copy).all():
        raise Refusal(f"{source}: {name} has values that are not finite")
    return copy


def _routing_state(
    source: Path, masks: Sequence[Tensor], own: nn.Module | None, settings: RunSettings
) -> ChannelMasks | None:
    """The checkpoint's masks as our routing; `own` is that of a new network of the settings."""
    kind = settings.routing.type
    if not masks:
        if own is None:
            return None
        raise Refusal(f"{source}: holds no routing masks; they are needed for routing {kind!r}")
    values = torch.stack([mask.float() for mask in masks])
    table = values.bool()
    if not torch.equal(table.float(), values):
        raise Refusal(f"{source}: routing masks have values other than 0 and 1")
    if own is None:
        if table.all():  # the authors' baseline: routing with all channels active
            return None
        share = table.float().mean()
        raise Refusal(
            f"{source}: holds routing masks with {share:.1%} of the channels active; "
            f"the settings have routing {kind!r}"
        )
    if own.rule is not None:
        raise Refusal(f"routing {kind!r}: has more state than masks and cannot be imported")
    if kind == "random":
        _check_random(source, table, settings)
        return ChannelMasks(table.numpy(), num_layers=own.num_layers)
    if differing := int((table != own.table).sum()):
        constants = constants_of(settings.routing)
        told = ", ".join(f"{name} {value}" for name, value in constants.items())
        raise Refusal(
            f"{source}: {differing} of {table.numel()} entries of the routing masks differ from "
            f"routing {kind!r} with {told}"
        )
    return own


def _check_random(source: Path, table: Tensor, settings: RunSettings) -> None:
    """Refuse masks that random routing with this beta cannot have drawn; table: [L, T, C] bool."""
    beta, channels = settings.routing.beta, table.shape[-1]
    count = active_channels(channels, beta)
    if not (table.sum(dim=-1) == count).all():
        raise Refusal(
            f"{source}: routing masks do not have {count} of {channels} channels active, "
            f"as beta {beta} says"
        )
    if len(table) > 1 and count < channels and (table == table[0]).all():
        raise Refusal(f"{source}: all blocks have the same routing masks; random ones differ")
