"""Released checkpoints of DiT, DTR and ADM as trained models of ours.

Our networks carry the parameter names of the released code of DiT, DTR and ADM; only the routing
state is stored differently. A checkpoint cannot tell everything: the number of heads and the noise
schedule are taken from the settings; which order ADM's attention has must be told.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from dtr.backbones.build import build_backbone
from dtr.backbones.masks import ChannelMasks
from dtr.config.stages import RunSettings, outside_sources
from dtr.interop.stored import ORDER_FLAG, listed, stored_order, unpickled, weights_in
from dtr.planning.places import MODEL
from dtr.records.provenance import provenance
from dtr.records.schema import ModelRecord, Origin
from dtr.records.weights import write_weights
from dtr.routing import active_channels, constants_of
from dtr.support.errors import Refusal
from dtr.support.files import hash_file

MASKS = "blocks.{}.routing._unit_mapping"  # [T, C] float32 of 0 and 1, one per block
LABEL_TABLES = ("y_embedder.embedding_table.weight", "label_emb.weight")
PRECISIONS = (torch.float32, torch.float16, torch.bfloat16)  # all exact in float32
# ADM's use_new_attention_order; both orders have tensors of the same shapes, but other outputs.
ORDERS = {"new": "qkv_first", "legacy": "heads_first"}


def import_checkpoint(
    source: Path,
    settings: RunSettings,
    out: Path,
    *,
    run: str,
    step: int | None = None,
    attention_order: str | None = None,
) -> list[str]:
    """Write a checkpoint of the released DiT, DTR or ADM code as `out`, a trained model of ours.

    source: a state dict or a training checkpoint, of which "ema" is preferred to "model".
    step: None for the number at the end of the file name (0400000.pt).  attention_order: "new" or
    "legacy", needed of ADM unless the settings or a stored configuration tell it.  Every tensor
    must fit the network of `settings`, and masks its routing; random masks replace those of the
    routing seed.  Returns the names of what was not read: other parts, and what is no tensor.
    """
    if out.is_file() or (out / "train.json").exists():
        raise Refusal(f"{out}: is a file or holds a model already; name another folder")
    step = _step_of(source) if step is None else step
    if step < 0:
        raise Refusal(f"--step {step}: accepted: 0 or more")
    content = unpickled(source)
    part, tensors, skipped = weights_in(source, content)
    settings = _with_order(settings, attention_order, stored_order(content), source)
    with torch.device("meta"):  # names and shapes only; tables of masks are real all the same
        model = build_backbone(settings.backbone, settings.inputs, settings.routing)
    weights, routing = _fitting(source, settings, model, tensors, skipped)
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
    return skipped


def _fitting(
    source: Path,
    settings: RunSettings,
    model: nn.Module,
    tensors: dict[str, Tensor],
    skipped: list[str],
) -> tuple[dict[str, Tensor], ChannelMasks | None]:
    """The weights of `model`, by their names in it, and its masks; what does not fit is refused."""
    masks = _mask_names(tensors, settings)
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
        if not name.startswith("routing.")
    }
    mask_shape = (settings.diffusion.num_timesteps, settings.backbone.channels)
    expected = shapes | dict.fromkeys(masks, mask_shape)
    if unreadable := [name for name in skipped if name in expected]:
        raise Refusal(f"{source}: {unreadable[0]!r} is no tensor; the network has one of this name")
    _check_shapes(source, tensors, expected)
    weights = {name: _float32(source, name, tensors[name]) for name in shapes}
    routing = _routing_state(source, [tensors[name] for name in masks], model.routing, settings)
    if routing is not None:
        weights["routing.table"] = routing.table
    return weights, routing


def _step_of(source: Path) -> int:
    # Six digits at least, as training scripts write them: the 256 of DiT-XL-2-256x256 is no step.
    found = re.search(r"\d{6,}$", source.stem)
    if found is None:
        raise Refusal(f"--step: needed, {source.name!r} does not end in a step of 6 digits or more")
    return int(found[0])


def _with_order(
    settings: RunSettings, told: str | None, stored: str | None, source: Path
) -> RunSettings:
    """The settings with the order of attention that `told`, they or the file tell, all alike."""
    backbone = settings.backbone
    if backbone.type != "adm":
        if told is not None:
            raise Refusal(f"--attention-order {told}: of ADM only, not of {backbone.type!r}")
        return settings
    known = {"--attention-order": told and ORDERS[told], str(source): stored and ORDERS[stored]}
    if "attention_order" in backbone.model_fields_set:
        known["--settings"] = backbone.attention_order
    orders = {place: order for place, order in known.items() if order is not None}
    if not orders:
        raise Refusal(
            f"--attention-order: needed, {source} does not tell it; accepted: new (made with "
            f"{ORDER_FLAG}=True, as ADM's ImageNet-64 network) or legacy (the default of its "
            "scripts)"
        )
    if len(set(orders.values())) > 1:
        said = ", ".join(f"{place} says {order!r}" for place, order in orders.items())
        raise Refusal(f"attention_order: {said}")
    chosen = {"attention_order": next(iter(orders.values()))}
    return settings.model_copy(update={"backbone": backbone.model_copy(update=chosen)})


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
    parts = [f"{len(names)} {kind} ({listed(names)})" for kind, names in kinds.items() if names]
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
