"""Where the noise of a difference comes from: trainings, or draws of samples of one training."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dtr.config.resolve import training_steps
from dtr.experiments import SLOTS
from dtr.planning.noise import noise_protocols, noise_runs
from dtr.records.table import Records
from dtr.reporting.claims.evidence import Evaluator

METRIC = "fid"
COLUMNS = ["Slot", "Trainings", "Draws", "Training sd %", "Sampling sd %", "Of training %"]


@dataclass(frozen=True)
class Panel:
    """log(FID with DTR / FID without) in one slot: `table` [trainings, draws], by `seeds`."""

    slot: str
    seeds: list[int]
    table: np.ndarray


@dataclass(frozen=True)
class Components:
    """Variances of one difference: between trainings, and between draws of one training."""

    training: float
    sampling: float

    @property
    def share(self) -> float:
        """Of the training in the variance of one difference, 0 to 1; NaN if nothing varies."""
        total = self.training + self.sampling
        return self.training / total if total > 0 else math.nan


def components(table: np.ndarray) -> Components:
    """Components of variance of [trainings, draws], both two or more (one-way random effects).

    The variance of the means over draws contains that of sampling once per draw, which is taken
    off; what falls below 0 by chance is 0.
    """
    sampling = float(table.var(axis=1, ddof=1).mean())
    means = float(table.mean(axis=1).var(ddof=1))
    return Components(max(0.0, means - sampling / table.shape[1]), sampling)


def noise_panels(records: Records) -> Iterator[Panel]:
    """The slots in which two trainings or more have every draw, with and without DTR."""
    evaluator = Evaluator(records)
    for slot, runs in noise_runs(records.scale):
        values = [
            [
                evaluator.metric(
                    run.id, training_steps(records.scale, run), protocol, METRIC
                ).numbers
                for run in runs
            ]
            for protocol in noise_protocols(records.scale, slot)
        ]
        seeds = [
            seed
            for seed in records.scale.seeds
            if all(own.get(seed, 0) > 0 for draw in values for own in draw)
        ]
        if len(seeds) > 1:
            table = [[math.log(dtr[seed] / none[seed]) for dtr, none in values] for seed in seeds]
            yield Panel(slot, seeds, np.array(table))


def noise_table(records: Records) -> pd.DataFrame:
    """One row per slot: standard deviations in per cent of FID, and the share of the training."""
    return pd.DataFrame([_row(panel) for panel in noise_panels(records)], columns=COLUMNS)


def _row(panel: Panel) -> list[str]:
    found = components(panel.table)
    spreads = (math.sqrt(found.training), math.sqrt(found.sampling))
    return [
        SLOTS[panel.slot].dataset,
        *map(str, panel.table.shape),
        *(f"{100 * spread:.1f}" for spread in spreads),
        "–" if math.isnan(found.share) else f"{100 * found.share:.0f}",
    ]
