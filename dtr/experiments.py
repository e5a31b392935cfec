"""Every training run of the paper, and the tables and figures that need it.

This is the grid; sizes, steps and seeds belong to a scale (workflow/config/*.yaml). To add a run,
add a row (or list it under `extra_runs` of a scale). Run ids name the paper's dataset even where a
scale fills that dataset's slot with something smaller; the report says what filled it.

`iterations` are the paper's. `beta=None` means the scale's beta; only Fig. 4 sets its own.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SLOTS = {  # slot: (the paper's dataset, what the model is told about an image)
    "unconditional": ("FFHQ 256", "none"),
    "class_conditional": ("ImageNet 256", "class"),
    "text_conditional": ("COCO 2014 256", "text"),
    "pixel_unconditional": ("FFHQ 64", "none"),
    "pixel_class_conditional": ("ImageNet 64", "class"),
}
BACKBONES = {  # preset: (family, the space it works in)
    "DiT-S/2": ("dit", "latent"),
    "DiT-B/2": ("dit", "latent"),
    "DiT-L/2": ("dit", "latent"),
    "DiT-XL/2": ("dit", "latent"),
    "DiT-B/2-t2i": ("dit_text", "latent"),
    "ADM-64": ("adm", "pixel"),
}
TABLES = tuple(f"table{n}" for n in range(1, 9))
FIGURES = tuple(f"figure{n}" for n in range(2, 7))

FractionOfChannels = Annotated[float, Field(gt=0, le=1)]


class Run(BaseModel):
    """One training run: which model, routing and loss weighting, on which dataset slot."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    slot: Literal[tuple(SLOTS)]
    backbone: Literal[tuple(BACKBONES)]
    routing: str
    weighting: str = "vanilla"
    iterations: Annotated[int, Field(gt=0)]
    used_by: tuple[str, ...] = ()
    alpha: Annotated[float, Field(gt=0)] | None = None
    beta: FractionOfChannels | None = None
    clusters: Annotated[int, Field(gt=0)] | None = None
    timesteps: tuple[int, int] = (0, 1000)
    extends: str | None = None

    def needed_by(self, target: str) -> bool:
        """Whether `target` ("table4", "figure3") uses this run; panels ("table4_ffhq") count."""
        return any(use.split("_")[0] == target for use in self.used_by)


def _none(**options) -> dict:
    return {"routing": "none", **options}


def _random(**options) -> dict:
    return {"routing": "random", **options}


def _dtr(alpha: float = 4.0, **options) -> dict:
    return {"routing": "dtr", "alpha": alpha, **options}


def _group(slot: str, backbone: str, iterations: int, *rows: tuple[str, dict, str]) -> list[Run]:
    """Runs that share a slot, a backbone and a length; a row is (id, method, used by)."""
    shared = {"slot": slot, "backbone": backbone, "iterations": iterations}
    return [
        Run(id=run, used_by=tuple(used_by.split()), **(shared | method))
        for run, method, used_by in rows
    ]


FFHQ_256 = _group(
    "unconditional",
    "DiT-B/2",
    100_000,
    ("ffhq256-b2-none", _none(), "table1 table2_ffhq table4_ffhq table8 figure4 figure6"),
    ("ffhq256-b2-rtr", _random(), "table1 figure4 figure6"),
    ("ffhq256-b2-dtr-a4", _dtr(), "table1 table2_ffhq table4_ffhq table8 figure4 figure6"),
    ("ffhq256-b2-dtr-a0.5", _dtr(0.5), "table4_ffhq"),
    ("ffhq256-b2-dtr-a1", _dtr(1.0), "table4_ffhq"),
    ("ffhq256-b2-dtr-a2", _dtr(2.0), "table4_ffhq"),
    ("ffhq256-b2-dtr-a3", _dtr(3.0), "table4_ffhq"),
    ("ffhq256-b2-dtr-a5", _dtr(5.0), "table4_ffhq"),
    ("ffhq256-b2-none-min_snr_5", _none(weighting="min_snr"), "table2_ffhq"),
    ("ffhq256-b2-dtr-a4-min_snr_5", _dtr(weighting="min_snr"), "table2_ffhq"),
    ("ffhq256-b2-none-ant_uw_8", _none(weighting="ant_uw"), "table2_ffhq"),
    ("ffhq256-b2-dtr-a4-ant_uw_8", _dtr(weighting="ant_uw"), "table2_ffhq"),
    ("ffhq256-b2-none-p2", _none(weighting="p2"), "table2_ffhq"),
    ("ffhq256-b2-dtr-a4-p2", _dtr(weighting="p2"), "table2_ffhq"),
    ("ffhq256-b2-maxroaming", {"routing": "max_roaming"}, "table8"),
    ("ffhq256-b2-ercdt8", {"routing": "ercdt", "clusters": 8}, "table8"),
    ("ffhq256-b2-cdtr8", {"routing": "cdtr", "clusters": 8, "alpha": 4.0}, "table8"),
    # The paper does not print Fig. 4's grid: 0.6 is evidenced, 0.2 and 0.4 are assumed.
    ("ffhq256-b2-rtr-b0.2", _random(beta=0.2), "figure4"),
    ("ffhq256-b2-dtr-a4-b0.2", _dtr(beta=0.2), "figure4"),
    ("ffhq256-b2-rtr-b0.4", _random(beta=0.4), "figure4"),
    ("ffhq256-b2-dtr-a4-b0.4", _dtr(beta=0.4), "figure4"),
    ("ffhq256-b2-rtr-b0.6", _random(beta=0.6), "figure4"),
    ("ffhq256-b2-dtr-a4-b0.6", _dtr(beta=0.6), "figure4"),
)

COCO_256 = _group(
    "text_conditional",
    "DiT-B/2-t2i",
    400_000,
    ("coco256-b2-none", _none(), "table1 table4_coco"),
    ("coco256-b2-rtr", _random(), "table1"),
    ("coco256-b2-dtr-a4", _dtr(), "table1 table4_coco"),
    ("coco256-b2-dtr-a1", _dtr(1.0), "table4_coco"),
    ("coco256-b2-dtr-a3", _dtr(3.0), "table4_coco"),
    ("coco256-b2-dtr-a5", _dtr(5.0), "table4_coco"),
)

_MAIN = "table1 table2_imagenet table4_in256 table5 table6 figure3 figure5"
_WEIGHTED = "table2_imagenet figure3 figure5"
IMAGENET_256 = _group(
    "class_conditional",
    "DiT-L/2",
    400_000,
    ("in256-l2-none", _none(), _MAIN),
    ("in256-l2-rtr", _random(), "table1"),
    ("in256-l2-dtr-a4", _dtr(), _MAIN),
    ("in256-l2-dtr-a0.5", _dtr(0.5), "table4_in256"),
    ("in256-l2-dtr-a1", _dtr(1.0), "table4_in256"),
    ("in256-l2-dtr-a2", _dtr(2.0), "table4_in256"),
    ("in256-l2-dtr-a3", _dtr(3.0), "table4_in256"),
    ("in256-l2-dtr-a5", _dtr(5.0), "table4_in256"),
    ("in256-l2-none-min_snr_5", _none(weighting="min_snr"), _WEIGHTED),
    ("in256-l2-dtr-a4-min_snr_5", _dtr(weighting="min_snr"), _WEIGHTED),
    ("in256-l2-none-ant_uw_8", _none(weighting="ant_uw"), _WEIGHTED),
    ("in256-l2-dtr-a4-ant_uw_8", _dtr(weighting="ant_uw"), _WEIGHTED),
    (
        "in256-l2-dtr-a4-ant_uw_8-2M",
        _dtr(weighting="ant_uw", iterations=2_000_000, extends="in256-l2-dtr-a4-ant_uw_8"),
        "table3",
    ),
)

IMAGENET_256_SIZES = [
    *_group(
        "class_conditional",
        "DiT-S/2",
        400_000,
        ("in256-s2-none", _none(), "table5 figure5"),
        ("in256-s2-dtr-a4", _dtr(), "table5 figure5"),
    ),
    *_group(
        "class_conditional",
        "DiT-B/2",
        400_000,
        ("in256-b2-none", _none(), "table5 figure5"),
        ("in256-b2-dtr-a4", _dtr(), "table5 figure5"),
    ),
]

# Multi-experts (Appendix D): expert i is trained on, and denoises, its quarter of the timesteps.
IMAGENET_256_EXPERTS = _group(
    "class_conditional",
    "DiT-B/2",
    200_000,
    ("in256-b2-expert0", _none(timesteps=(0, 250)), "table6"),
    ("in256-b2-expert1", _none(timesteps=(250, 500)), "table6"),
    ("in256-b2-expert2", _none(timesteps=(500, 750)), "table6"),
    ("in256-b2-expert3", _none(timesteps=(750, 1000)), "table6"),
)

EXPERTS = tuple(run.id for run in IMAGENET_256_EXPERTS)

IMAGENET_64 = _group(
    "pixel_class_conditional",
    "ADM-64",
    400_000,
    ("in64-adm-none", _none(), "table1 table4_in64"),
    ("in64-adm-rtr", _random(), "table1"),
    ("in64-adm-dtr-a4", _dtr(), "table1 table4_in64"),
    ("in64-adm-dtr-a1", _dtr(1.0), "table4_in64"),
    ("in64-adm-dtr-a3", _dtr(3.0), "table4_in64"),
    ("in64-adm-dtr-a5", _dtr(5.0), "table4_in64"),
)

FFHQ_64 = _group(
    "pixel_unconditional",
    "ADM-64",
    100_000,
    ("ffhq64-adm-none", _none(), "table1"),
    ("ffhq64-adm-rtr", _random(), "table1"),
    ("ffhq64-adm-dtr-a4", _dtr(), "table1"),
)

RUNS: tuple[Run, ...] = (
    *FFHQ_256,
    *COCO_256,
    *IMAGENET_256,
    *IMAGENET_256_SIZES,
    *IMAGENET_256_EXPERTS,
    *IMAGENET_64,
    *FFHQ_64,
)
