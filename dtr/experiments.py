"""Every training run of the paper, the tables and figures that need it, and its other facts.

This is the grid; sizes, steps and seeds belong to a scale (workflow/config/*.yaml). To add a run,
add a row (or list it under `extra_runs` of a scale). Run ids name the paper's dataset even where a
scale fills that dataset's slot with something smaller; the report says what filled it.

`iterations` are the paper's. A routing without `beta` takes the scale's; only Fig. 4 sets its own.
"""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Slot(NamedTuple):
    """The place of one of the paper's datasets, which a scale fills with what it has."""

    dataset: str  # the paper's
    told: Literal["none", "class", "text"]  # what a model is told about an image
    space: Literal["latent", "pixel"]  # what a model works on
    network: str  # as the paper's tables name it
    iterations: int  # of one run; multi-experts and the 2M run differ from it


SLOTS = {
    "unconditional": Slot("FFHQ 256", "none", "latent", "DiT-B/2", 100_000),
    "class_conditional": Slot("ImageNet 256", "class", "latent", "DiT-L/2", 400_000),
    "text_conditional": Slot("COCO 2014 256", "text", "latent", "DiT-B/2", 400_000),
    "pixel_unconditional": Slot("FFHQ 64", "none", "pixel", "ADM", 100_000),
    "pixel_class_conditional": Slot("ImageNet 64", "class", "pixel", "ADM", 400_000),
}
BACKBONES = {  # the paper's networks: of which kind each is; sizes belong to a scale
    "DiT-S/2": "dit",
    "DiT-B/2": "dit",
    "DiT-L/2": "dit",
    "DiT-XL/2": "dit",
    "DiT-B/2-t2i": "dit_text",
    "ADM-64": "adm",
}
TABLES = tuple(f"table{n}" for n in range(1, 9))
FIGURES = tuple(f"figure{n}" for n in range(2, 7))
REDUCED = ("table2_ffhq", "figure5")  # where the paper takes 10,000 samples instead of 50,000
UNMEASURED = ("table7", "figure2", "figure6")  # shown without samples
TIMED = ("DiT-S/2", "DiT-B/2", "DiT-L/2")  # the sizes of Table 7
FIGURE_SLOTS = {
    "figure3": "class_conditional",
    "figure4": "unconditional",
    "figure5": "class_conditional",
}


class Choice(BaseModel):
    """A part by its registered name, with the constants it is given; a bare name gives none."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    type: str

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(core)]}

    @property
    def constants(self) -> dict[str, Any]:
        """The constants by name, as its row gives them."""
        return self.model_extra or {}


class Run(BaseModel):
    """One training run: which model, routing and loss weighting, on which dataset slot."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    slot: Literal[tuple(SLOTS)]
    backbone: str  # a preset of the paper, or of the scale
    routing: Choice
    weighting: Choice = Choice(type="vanilla")
    iterations: Annotated[int, Field(gt=0)]
    used_by: tuple[str, ...] = ()
    timesteps: tuple[int, int] = (0, 1000)
    extends: str | None = None

    @property
    def alpha(self) -> float | None:
        """Exponent of the routing's window, where the run sets one."""
        return self.routing.constants.get("alpha")

    @property
    def beta(self) -> float | None:
        """Share of active channels, where the run sets its own."""
        return self.routing.constants.get("beta")

    def needed_by(self, target: str) -> bool:
        """Whether `target` ("table4", "figure3") uses this run; panels ("table4_ffhq") count."""
        return any(use.split("_")[0] == target for use in self.used_by)


def _method(routing: str, constants: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    return {"routing": {"type": routing} | constants} | options


def _none(**options: Any) -> dict[str, Any]:
    return _method("none", {}, options)


def _random(**constants: Any) -> dict[str, Any]:
    return _method("random", constants, {})


def _dtr(alpha: float = 4.0, *, beta: float | None = None, **options: Any) -> dict[str, Any]:
    own = {} if beta is None else {"beta": beta}
    return _method("dtr", {"alpha": alpha} | own, options)


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
    ("ffhq256-b2-maxroaming", _method("max_roaming", {}, {}), "table8"),
    ("ffhq256-b2-ercdt8", _method("ercdt", {"clusters": 8}, {}), "table8"),
    ("ffhq256-b2-cdtr8", _method("cdtr", {"clusters": 8, "alpha": 4.0}, {}), "table8"),
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
