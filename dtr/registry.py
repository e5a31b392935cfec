"""Names of routings and weightings, ours and those of installed packages; free of torch.

A package adds a routing by an entry point in its metadata, e.g. in its pyproject.toml:

    [project.entry-points."dtr.routing"]
    my_routing = "my_package.masks:my_table"

and a weighting likewise in the group "dtr.weighting".
"""

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from dtr.support.errors import Refusal

Kind = Literal["routing", "weighting"]

BUILT_IN: dict[Kind, dict[str, str]] = {
    "routing": {
        "none": "dtr.routing:no_masks",
        "random": "dtr.routing:random_table",
        "dtr": "dtr.routing:dtr_table",
        "max_roaming": "dtr.routing:RoamingMasks",
        "ercdt": "dtr.routing:ercdt_table",
        "cdtr": "dtr.routing:cdtr_table",
    },
    "weighting": {
        "vanilla": "dtr.weighting:Weighting",
        "p2": "dtr.weighting:P2",
        "min_snr": "dtr.weighting:MinSNR",
        "ant_uw": "dtr.weighting:UncertaintyWeighting",
    },
}


def known_names(kind: Kind) -> tuple[str, ...]:
    """All names that can be asked for, built-in ones first."""
    return tuple(dict.fromkeys([*BUILT_IN[kind], *_outside(kind)]))


def load(kind: Kind, name: str) -> Any:
    """What `name` stands for: see `dtr.routing.build_routing` and `dtr.weighting` for contracts."""
    if name in BUILT_IN[kind]:
        module, attribute = BUILT_IN[kind][name].split(":")
        return getattr(import_module(module), attribute)
    outside = _outside(kind)
    if name not in outside:
        raise Refusal(f"{kind} = {name!r}: unknown; known: {', '.join(known_names(kind))}")
    return outside[name].load()


def _outside(kind: Kind) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"dtr.{kind}")}
