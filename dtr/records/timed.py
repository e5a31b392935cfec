"""How long recorded trainings and samplings took, where the settings were the present ones."""

import math
from collections.abc import Hashable
from pathlib import Path
from statistics import fmean

from dtr.config.scale import Scale
from dtr.planning.evaluations import components
from dtr.records.reference import KEPT
from dtr.records.table import Records


class Timed:
    """Seconds by the records of the results folder and, where these are silent, the reference's.

    `folders` are those whose times are used, `passed_over` counts trainings of other settings.
    Times of another seed stand for a seed without any.
    """

    def __init__(self, scale: Scale) -> None:
        self.folders: list[Path] = []
        self.passed_over = 0
        self._steps: dict[Hashable, dict[int, float]] = {}
        self._images: dict[Hashable, dict[int, float]] = {}
        for folder in dict.fromkeys((Path(scale.results), KEPT / scale.scale)):
            if folder.is_dir():
                self._read(scale, folder)

    def step(self, run: str, seed: int) -> float | None:
        """Seconds of one training step of a run."""
        return _of_seed(self._steps.get(run, {}), seed)

    def image(self, name: str, seed: int, protocol_id: str) -> float | None:
        """Seconds of drawing one image of a model under a protocol."""
        return _of_seed(self._images.get((name, protocol_id), {}), seed)

    def _read(self, scale: Scale, folder: Path) -> None:
        records = Records(scale.model_copy(update={"results": str(folder)}))
        steps: dict[Hashable, dict[int, float]] = {}
        images: dict[Hashable, dict[int, float]] = {}
        for one in records.final_trainings():
            if records.outdated(one.run, one.seed, one.step) is not None:
                self.passed_over += 1
            elif one.status == "ok" and math.isfinite(one.wall_seconds):
                steps.setdefault(one.run, {})[one.seed] = one.wall_seconds / one.step
        for one in records.metrics.values():
            drawn = one.protocol.get("n_samples")
            if one.seed is None or not drawn or not math.isfinite(one.sampling_seconds):
                continue
            if all(one.seed in steps.get(run, {}) for run in components(one.run)):
                own = images.setdefault((one.run, one.protocol_id), {})
                own[one.seed] = one.sampling_seconds / drawn
        if steps:
            self.folders.append(folder)
        self._steps = steps | self._steps
        self._images = images | self._images


def _of_seed(by_seed: dict[int, float], seed: int) -> float | None:
    return by_seed.get(seed, fmean(by_seed.values())) if by_seed else None
