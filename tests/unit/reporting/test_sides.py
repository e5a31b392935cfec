"""Whom a sentence compares: only what tells both apart, and where, if there is more than one."""

import pytest

from dtr.reporting.claims.sides import name_sides
from dtr.reporting.claims.verdicts import Comparison


def sides(*pairs: tuple[str, str]) -> list[str]:
    comparisons = [Comparison(*pair, "fid@cnn", "lower") for pair in pairs]
    name_sides(comparisons)
    return [one.sides for one in comparisons]


def test_the_title_names_the_models_of_a_single_comparison() -> None:
    assert sides(("ffhq256-b2-dtr-a4", "ffhq256-b2-none")) == [""]


def test_datasets_are_named_where_there_are_several() -> None:
    found = sides(("ffhq256-b2-none", "ffhq256-b2-rtr"), ("in64-adm-none", "in64-adm-rtr"))
    assert found == [
        "for no routing than for R-TR, on FFHQ 256",
        "for no routing than for R-TR, on ImageNet 64",
    ]


def test_sizes_weightings_and_guidance_are_named_where_they_vary() -> None:
    sizes = [(f"in256-{size}-dtr-a4", f"in256-{size}-none") for size in ("s2", "l2")]
    assert sides(*sizes)[0] == "for DTR than for no routing, with DiT-S/2"
    weighted = [
        (f"ffhq256-b2-dtr-a4-{one}", f"ffhq256-b2-none-{one}") for one in ("p2", "ant_uw_8")
    ]
    assert sides(*weighted)[1] == "for DTR than for no routing, with ANT-UW"
    pair = ("in256-l2-dtr-a4", "in256-l2-none")
    guided = [tuple(f"{run} at guidance {scale}" for run in pair) for scale in ("1", "2.5")]
    assert sides(*guided)[1] == "for DTR than for no routing, at guidance 2.5"


@pytest.mark.parametrize(
    ("pair", "named"),
    [
        (("ffhq256-b2-dtr-a5", "ffhq256-b2-dtr-a4"), "for α = 5 than for α = 4"),
        (("ffhq256-b2-dtr-a4-p2", "ffhq256-b2-dtr-a4"), "for P2 than for no weighting"),
        (("ffhq256-b2-dtr-a4", "ffhq256-b2-ercdt8"), "for DTR than for ERCDT"),
        (
            ("in256-b2-expert0 to in256-b2-expert3 as one model", "in256-l2-none"),
            "for experts of DiT-B/2 than for DiT-L/2",
        ),
        (("FID of a by b", "FID of c by d"), ""),
    ],
)
def test_what_tells_two_models_apart(pair: tuple[str, str], named: str) -> None:
    assert sides(pair, pair)[0] == named
