"""How the paper lays out Tables 1-8: column groups, rows, and the runs behind the cells."""

from dataclasses import dataclass, field

QUALITY = ("fid", "inception_score", "precision", "recall")
BACKBONE_OF_SLOT = {  # prefix of the run ids, name of the network
    "text_conditional": ("coco256-b2", "DiT-B/2"),
    "unconditional": ("ffhq256-b2", "DiT-B/2"),
    "class_conditional": ("in256-l2", "DiT-L/2"),
    "pixel_unconditional": ("ffhq64-adm", "ADM"),
    "pixel_class_conditional": ("in64-adm", "ADM"),
}
EXPERTS = "+".join(f"in256-b2-expert{i}" for i in range(4))


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
    """One table of the paper; `stubs` name the columns of its row labels."""

    name: str
    stubs: tuple[str, ...]
    groups: tuple[Group, ...]
    rows: tuple[RowSpec, ...]


def _across(slots: tuple[str, ...], method: str) -> dict[str, str]:
    return {slot: f"{BACKBONE_OF_SLOT[slot][0]}-{method}" for slot in slots}


def _group(panel: str, slot: str, metrics: tuple[str, ...] = ("fid",)) -> Group:
    return Group(panel, slot, metrics, network=BACKBONE_OF_SLOT[slot][1])


_LATENT = ("text_conditional", "unconditional", "class_conditional")
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
        RowSpec((label,), _across((*_LATENT, *_PIXEL), method))
        for label, method in (("none", "none"), ("R-TR", "rtr"), ("DTR", "dtr-a4"))
    ),
)


def _weighting_rows() -> tuple[RowSpec, ...]:
    rows = []
    for label, suffix, slots in (
        ("Vanilla", "", _FFHQ + _IMAGENET),
        ("P2", "-p2", _FFHQ),
        ("Min-SNR-5", "-min_snr_5", _FFHQ + _IMAGENET),
        ("ANT-UW", "-ant_uw_8", _FFHQ + _IMAGENET),
    ):
        rows.append(RowSpec((label, "none"), _across(slots, f"none{suffix}")))
        rows.append(RowSpec((label, "DTR"), _across(slots, f"dtr-a4{suffix}")))
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

_LONG_RUN = "in256-l2-dtr-a4-ant_uw_8-2M"
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
    for alpha in ("0.5", "1", "2", "3", "4", "5"):
        used = tuple(slot for slot in slots if alpha not in ("0.5", "2") or slot not in fewer)
        rows.append(RowSpec((f"α = {alpha}",), _across(used, f"dtr-a{alpha}")))
    return tuple(rows)


TABLE4 = TableSpec(
    "table4",
    ("Window exponent",),
    (
        _group("table4_ffhq", "unconditional"),
        _group("table4_coco", "text_conditional"),
        _group("table4_in256", "class_conditional", QUALITY),
        _group("table4_in64", "pixel_class_conditional", QUALITY),
    ),
    _exponent_rows(),
)

TABLE5 = TableSpec(
    "table5",
    ("Model", "Routing"),
    (Group("table5", "class_conditional", QUALITY),),
    tuple(
        RowSpec((f"DiT-{size}/2", label), {"class_conditional": f"in256-{size.lower()}2-{method}"})
        for size in "SBL"
        for label, method in (("none", "none"), ("DTR", "dtr-a4"))
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
            ("DiT-L/2", "in256-l2-none", ("DiT-L/2", False, 1)),
            ("4 experts, DiT-B/2", EXPERTS, ("DiT-B/2", False, 4)),
            ("DiT-L/2 + DTR", "in256-l2-dtr-a4", ("DiT-L/2", True, 1)),
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
            (f"DiT-{size}/2", "DTR" if routed else "none"),
            complexity=(f"DiT-{size}/2", "dtr" if routed else "none"),
            network=(f"DiT-{size}/2", routed, 1),
        )
        for size in "SBL"
        for routed in (False, True)
    ),
)

TABLE8 = TableSpec(
    "table8",
    ("Routing",),
    (_group("table8", "unconditional"),),
    tuple(
        RowSpec((label,), {"unconditional": f"ffhq256-b2-{method}"})
        for label, method in (
            ("none", "none"),
            ("Max Roaming", "maxroaming"),
            ("Explicit, 8 clusters (ERCDT)", "ercdt8"),
            ("DTR on 8 clusters (CDTR)", "cdtr8"),
            ("DTR", "dtr-a4"),
        )
    ),
)

LAYOUTS = (TABLE1, TABLE2, TABLE3, TABLE4, TABLE5, TABLE6, TABLE7, TABLE8)
