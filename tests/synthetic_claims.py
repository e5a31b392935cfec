"""Records that claims are judged by: measured values and similarities, and what comes out."""

import json
from typing import Any

import numpy as np

from dtr.config.resolve import training_steps
from dtr.config.scale import Scale
from dtr.config.stages import Protocol
from dtr.planning.evaluations import Evaluation, panel_protocol
from dtr.planning.runs import all_runs
from dtr.records.table import Records
from dtr.reporting.claims.judged import ClaimResult, build_claims
from dtr.reporting.claims.verdicts import ONE_SEED
from tests.synthetic_results import write_cka, write_evaluation

DTR, NONE = "ffhq256-b2-dtr-a4", "ffhq256-b2-none"  # the runs of claim dtr-ffhq256
AGREES, DISAGREES, UNDECIDED = ONE_SEED.values()
TIMESTEPS = [0, 100, 600, 700]


def result(scale: Scale, claim: str) -> ClaimResult:
    found = build_claims(scale, Records(scale))
    return next(one for one in found if one.claim.id == claim)


def write_measured(
    scale: Scale, name: str, own: Protocol, *, fid: float, half: float = 0.1, **changes: Any
) -> None:
    """An FID, uncertain by `half`, of a run or of several joined by "+"."""
    run = all_runs(scale)[name.split("+")[0]]
    seed, step = changes.pop("seed", 0), changes.pop("step", training_steps(scale, run))
    fids = {"value": fid, "low": fid - half, "high": fid + half}
    measured = {"name": f"fid@{own.extractor}", "n": own.n_samples, "direction": "lower"} | fids
    evaluation = Evaluation(name, run.slot, seed, step, own)
    write_evaluation(scale, evaluation, **{"metrics": [measured]} | changes)


def write_matrices(scale: Scale, run: str, blocks: list[list[list]], **changes: Any) -> None:
    """A CKA record of these matrices over TIMESTEPS."""
    path = write_cka(scale, run, level=0.5, **changes)
    record = json.loads(path.read_text())
    record["timesteps"] = TIMESTEPS
    record["blocks"] = [{"unbiased": matrix, "biased": matrix} for matrix in blocks]
    path.write_text(json.dumps(record))


def measure(scale: Scale, fids: dict[str, list[float]], panel: str = "table1", **more: Any) -> None:
    """FID of runs for seeds 0, 1, ..., under the protocol of a panel."""
    for run, values in fids.items():
        settings = panel_protocol(scale, panel, all_runs(scale)[run.split("+")[0]].slot)
        for seed, fid in enumerate(values):
            write_measured(scale, run, settings, fid=fid, seed=seed, **more)


def uniform(low: float, high: float) -> list[list[float]]:
    """A matrix over TIMESTEPS: `low` among the first two, `high` among the last two, else 0.1."""
    matrix = np.full((4, 4), 0.1)
    matrix[:2, :2], matrix[2:, 2:] = low, high
    np.fill_diagonal(matrix, 1.0)
    return matrix.tolist()
