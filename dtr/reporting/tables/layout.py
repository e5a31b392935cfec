"""How the paper lays out Tables 1-8: column groups, rows, and the runs behind the cells."""

from dataclasses import dataclass, field
from typing import Any

from dtr.experiments import EXPERTS, RUNS, SLOTS, TIMED

QUALITY = ("fid", "inception_score", "precision", "recall")
CHOSEN = 4.0  # the exponent alpha that the paper settles on
WHOLE = (0, 1000)  # timesteps of a run that is no expert


@dataclass(frozen=True)
class Group:
    """Columns that share a dataset slot; `panel` is the table's name in published.yaml."""

    panel: str
    slot: str
    metrics: tuple[str, ...] = ("fid",)
    label: str = ""  # empty: the paper's name of the slot's dataset
    network: str = ""


@dataclass(frozen=True)
class RowSpec:
    """One row: its labels, and the run behind its cells in each slot."""

    labels: tuple[str, ...]
    runs: dict[str, str] = field(default_factory=dict)
    iterations: int | None = None  # chooses among published lengths of one model
    complexity: tuple[str, str] | None = None  # (backbone, routing) where there is no run
    network: tuple[str, bool, int] | None = None  # (backbone, routed, copies) for size and cost


@dataclass(frozen=True)
class TableSpec:
    """One table of the paper; `stubs` name the columns of its row labels.

    `stacked`: models of latents stand above those of pixels.
    """

    name: str
    stubs: tuple[str, ...]
    groups: tuple[Group, ...]
    rows: tuple[RowSpec, ...]
    stacked: bool = False


def run_of(
    slot: str,
    routing: str,
    *,
    alpha: float | None = None,
    weighting: str = "vanilla",
    network: str | None = None,
    extension: bool = False,
) -> str:
    """Id of the one run of the paper with these fields; `network` as the slot's tables name it."""
    network = network or SLOTS[slot].network
    found = [
        run.id
        for run in RUNS
        if (run.slot, run.routing.type, run.weighting.type) == (slot, routing, weighting)
        and (run.alpha, run.beta, run.timesteps) == (alpha, None, WHOLE)
        and run.backbone.startswith(network)
        and (run.extends is not None) == extension
    ]
    if len(found) != 1:
        raise LookupError(f"{slot}, {network}, {routing}, {alpha}, {weighting}: runs {found}")
    return found[0]


def _across(slots: tuple[str, ...], routing: str, **fields: Any) -> dict[str, str]:
    return {slot: run_of(slot, routing, **fields) for slot in slots}


def _group(panel: str, slot: str, metrics: tuple[str, ...] = ("fid",)) -> Group:
    return Group(panel, slot, metrics, network=SLOTS[slot].network)


_LATENT = ("unconditional", "class_conditional", "text_conditional")
_PIXEL = ("pixel_unconditional", "pixel_class_conditional")
_FFHQ, _IMAGENET = ("unconditional",), ("class_conditional",)

TABLE1 = TableSpec(
    "table1",
    ("Routing",),
    tuple(
        _group("table1", slot, QUALITY if slot.endswith("class_conditional") else ("fid",))
        for slot in (*_LATENT, *_PIXEL)
    ),
    tuple(
        RowSpec((label,), _across((*_LATENT, *_PIXEL), routing, alpha=alpha))
        for label, routing, alpha in (
            ("none", "none", None),
            ("R-TR", "random", None),
            ("DTR", "dtr", CHOSEN),
        )
    ),
    stacked=True,
)


def _weighting_rows() -> tuple[RowSpec, ...]:
    rows = []
    for label, weighting, slots in (
        ("Vanilla", "vanilla", _FFHQ + _IMAGENET),
        ("P2", "p2", _FFHQ),
        ("Min-SNR-5", "min_snr", _FFHQ + _IMAGENET),
        ("ANT-UW", "ant_uw", _FFHQ + _IMAGENET),
    ):
        plain = _across(slots, "none", weighting=weighting)
        routed = _across(slots, "dtr", alpha=CHOSEN, weighting=weighting)
        rows += [RowSpec((label, "none"), plain), RowSpec((label, "DTR"), routed)]
    return tuple(rows)


TABLE2 = TableSpec(
    "table2",
    ("Loss weighting", "Routing"),
    (
        _group("table2_ffhq", "unconditional"),
        _group("table2_imagenet", "class_conditional", QUALITY),
    ),
    _weighting_rows(),
)

_LONG_RUN = run_of(*_IMAGENET, "dtr", alpha=CHOSEN, weighting="ant_uw", extension=True)
_XL = ("DiT-XL/2", False, 1)
TABLE3 = TableSpec(
    "table3",
    ("Model",),
    (
        Group(
            "table3", "class_conditional", ("iterations", "parameters_millions", "gflops"), "Model"
        ),
        Group("table3", "class_conditional"),
    ),
    tuple(
        RowSpec((label,), {"class_conditional": run}, iterations, network=network)
        for label, run, iterations, network in (
            ("DiT-XL/2-G", "cited:DiT-XL/2", 2_350_000, _XL),
            ("DiT-XL/2-G", "cited:DiT-XL/2", 7_000_000, _XL),
            ("DiT-L/2-G + DTR + ANT-UW", _LONG_RUN, 2_000_000, ("DiT-L/2", True, 1)),
        )
    ),
)


def _exponent_rows() -> tuple[RowSpec, ...]:
    slots = ("unconditional", "text_conditional", "class_conditional", "pixel_class_conditional")
    fewer = ("text_conditional", "pixel_class_conditional")  # no 0.5 and 2 in the paper
    rows = [RowSpec(("no routing",), _across(slots, "none"))]
    for alpha in (0.5, 1.0, 2.0, 3.0, 4.0, 5.0):
        used = tuple(slot for slot in slots if alpha not in (0.5, 2.0) or slot not in fewer)
        rows.append(RowSpec((f"α = {alpha:g}",), _across(used, "dtr", alpha=alpha)))
    return tuple(rows)


TABLE4 = TableSpec(
    "table4",
    ("Window exponent",),
    (
        _group("table4_ffhq", "unconditional"),
        _group("table4_in256", "class_conditional", QUALITY),
        _group("table4_coco", "text_conditional"),
        _group("table4_in64", "pixel_class_conditional", QUALITY),
    ),
    _exponent_rows(),
    stacked=True,
)

TABLE5 = TableSpec(
    "table5",
    ("Model", "Routing"),
    (Group("table5", "class_conditional", QUALITY),),
    tuple(
        RowSpec((network, label), _across(_IMAGENET, routing, alpha=alpha, network=network))
        for network in TIMED
        for label, routing, alpha in (("none", "none", None), ("DTR", "dtr", CHOSEN))
    ),
)

TABLE6 = TableSpec(
    "table6",
    ("Model",),
    (
        Group("table6", "class_conditional", ("iterations", "parameters_millions"), "Model"),
        Group("table6", "class_conditional", QUALITY),
    ),
    tuple(
        RowSpec((label,), {"class_conditional": run}, network=network)
        for label, run, network in (
            ("DiT-L/2", run_of(*_IMAGENET, "none"), ("DiT-L/2", False, 1)),
            ("4 experts, DiT-B/2", "+".join(EXPERTS), ("DiT-B/2", False, 4)),
            ("DiT-L/2 + DTR", run_of(*_IMAGENET, "dtr", alpha=CHOSEN), ("DiT-L/2", True, 1)),
        )
    ),
)

TABLE7 = TableSpec(
    "table7",
    ("Model", "Routing"),
    (
        Group(
            "table7",
            "class_conditional",
            ("gflops", "iterations_per_second", "throughput_ratio"),
            "Cost",
        ),
    ),
    tuple(
        RowSpec(
            (network, "DTR" if routed else "none"),
            complexity=(network, "dtr" if routed else "none"),
            network=(network, routed, 1),
        )
        for network in TIMED
        for routed in (False, True)
    ),
)

TABLE8 = TableSpec(
    "table8",
    ("Routing",),
    (_group("table8", "unconditional"),),
    tuple(
        RowSpec((label,), _across(_FFHQ, routing, alpha=alpha))
        for label, routing, alpha in (
            ("none", "none", None),
            ("Max Roaming", "max_roaming", None),
            ("Explicit, 8 clusters (ERCDT)", "ercdt", None),
            ("DTR on 8 clusters (CDTR)", "cdtr", CHOSEN),
            ("DTR", "dtr", CHOSEN),
        )
    ),
)

LAYOUTS = (TABLE1, TABLE2, TABLE3, TABLE4, TABLE5, TABLE6, TABLE7, TABLE8)
