"""Which two models a sentence is about, named by what tells them apart."""

import re
from collections.abc import Sequence

from dtr.experiments import RUNS, SLOTS
from dtr.reporting.claims.verdicts import Comparison
from dtr.reporting.figures.style import ROUTING_NAMES, WEIGHTING_NAMES

LABEL = re.compile(  # of a side, as a comparison of quality writes it
    r"(?P<run>\S+)(?: to (?P<last>\S+) as one model)?(?: at guidance (?P<guidance>\S+))?"
)
KNOWN = {run.id: run for run in RUNS}
PLACES = {"dataset": "on {}", "model": "with {}", "weighting": "with {}", "guidance": "at {}"}


def name_sides(comparisons: Sequence[Comparison]) -> None:
    """Fill in `sides` of each comparison of a claim that makes more than one.

    A claim of a single comparison names its models in its title. "for R-TR than for no routing, on
    COCO 256": what differs between the two, and what both are where other pairs are another.
    """
    told = [(one, _facts(one.first), _facts(one.second)) for one in comparisons]
    told = [(one, *both) for one, *both in told if None not in both]
    if len(comparisons) < 2:
        return
    varying = [name for name in PLACES if len({first[name] for _, first, _ in told}) > 1]
    if "dataset" in varying:  # which has a model of its own
        varying.remove("model")
    for one, first, second in told:
        where = [name for name in varying if first[name] == second[name]]
        text = f"for {_apart(first, second)} than for {_apart(second, first)}"
        one.sides = ", ".join([text, *(PLACES[name].format(first[name]) for name in where)])


def _apart(own: dict[str, str], other: dict[str, str]) -> str:
    """What a side is and the other is not."""
    names = [name for name in own if own[name] != other[name] and own[name]]
    if "routing" in names:  # another routing has no such constant
        names = [name for name in names if name not in ("alpha", "beta")]
    return ", ".join(own[name] for name in names)


def _facts(label: str) -> dict[str, str] | None:
    """What a side is, in words; None if it is no model of the paper."""
    found = LABEL.fullmatch(label)
    if found is None or found["run"] not in KNOWN:
        return None
    run = KNOWN[found["run"]]
    return {
        "dataset": SLOTS[run.slot].dataset,
        "model": f"experts of {run.backbone}" if found["last"] else run.backbone,
        "routing": ROUTING_NAMES[run.routing.type],
        "alpha": "" if run.alpha is None else f"α = {run.alpha:g}",
        "beta": "" if run.beta is None else f"β = {run.beta:g}",
        "weighting": WEIGHTING_NAMES[run.weighting.type].replace("Vanilla", "no weighting"),
        "guidance": f"guidance {found['guidance']}" if found["guidance"] else "",
    }
