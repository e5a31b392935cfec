"""What a try compares, in words and numbers that need no scale to be understood."""

from pathlib import Path
from string import Template

import yaml

from dtr.config.resolve import training_steps
from dtr.config.scale import Scale, stated_facts
from dtr.experiments import SLOTS
from dtr.planning.evaluations import protocol
from dtr.registry import part_source
from dtr.reporting.html import SOURCES
from dtr.reporting.published import value_of
from dtr.trying.plan import Asked, name_of, own_run, table1_run
from dtr.trying.trial import Place, Trial


def trial_of(scale: Scale, asked: Asked) -> Trial:
    """What is compared, in the words of the page; scale: that of the try."""
    path = asked.method.rpartition(":")[0]
    return Trial(
        name=name_of(asked),
        family=asked.family,
        method=asked.method,
        constants=asked.constants,
        source=Path(path).read_text(encoding="utf-8") if path.endswith(".py") else None,
        source_sha256=part_source(asked.family, asked.method),
        scale=scale.scale,
        seeds=asked.seeds,
        places=[_place(scale, asked, slot) for slot in asked.slots],
        notices=_notices(scale, asked),
        deviations=[Template(text).substitute(stated_facts(scale)) for text in scale.deviations],
    )


def _place(scale: Scale, asked: Asked, slot: str) -> Place:
    plain, routed, own = table1_run(slot, "none"), table1_run(slot, "dtr"), own_run(asked, slot)
    measured = protocol(scale, slot)
    return Place(
        slot=slot,
        paper=SLOTS[slot].dataset,
        dataset=scale.slots[slot].dataset,
        backbone=plain.backbone,
        channels=scale.backbones[plain.backbone].channels,
        steps=training_steps(scale, plain),
        protocol_id=measured.id,
        n_samples=measured.n_samples,
        extractor=measured.extractor,
        runs={"method": own.id, "none": plain.id, "dtr": routed.id},
        published={
            name: value_of("table1", run.id, "fid")["value"]
            for name, run in (("none", plain), ("dtr", routed))
        },
    )


def _notices(scale: Scale, asked: Asked) -> list[str]:
    """What the report says of the data that fill the slots."""
    kinds = {scale.datasets[scale.slots[slot].dataset].type for slot in asked.slots}
    captions = yaml.safe_load((SOURCES / "captions.yaml").read_text("utf-8"))
    return [text for kind, text in captions["notices"].items() if kind in kinds]
