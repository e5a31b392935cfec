"""The record of one measured model: written whatever happened, so that no cell blocks the page."""

import time
from collections.abc import Sequence
from pathlib import Path

from dtr.errors import Refusal
from dtr.files import read_json, write_json
from dtr.metrics.evaluate import measure_files, measure_real
from dtr.metrics.features import sample_features
from dtr.provenance import provenance
from dtr.settings import Protocol


def write_record(
    out: Path,
    protocol: Protocol,
    *,
    slot: str,
    reference: Path,
    bootstrap: int,
    models: Sequence[Path] | None = None,
    samples: Sequence[Path] = (),
    extractor: Path | None = None,
    features: Path | None = None,
    device: str = "cpu",
) -> None:
    """Write the metrics of a model's sample files; of real images where `models` is None.

    Features of the samples are kept in the folder `features`.  Several models are experts sampled
    together; their names are joined.  A diverged run gets a record without metrics; samples that
    cannot be measured one with status "failed" and the reason.
    """
    started = time.perf_counter()
    train = {"run": "real", "seed": protocol.seed, "step": 0, "status": "ok", "reason": None}
    if models:
        records = [read_json(model / "train.json") for model in models]
        worst = next((record for record in records if record["status"] != "ok"), records[0])
        train = worst | {"run": "+".join(record["run"] for record in records)}
    status, reason, metrics = train["status"], train["reason"], []
    if status == "ok":
        try:
            if not models:
                metrics = measure_real(reference, protocol, bootstrap=bootstrap)
            else:
                shards = [
                    sample_features(path, extractor, features, device=device) for path in samples
                ]
                metrics = measure_files(shards, reference, protocol, bootstrap=bootstrap)
        except Refusal as refusal:
            status, reason = "failed", str(refusal)
    write_json(
        out,
        {
            "run": train["run"],
            "slot": slot,
            "seed": train["seed"],
            "step": train["step"],
            "status": status,
            "reason": reason,
            "protocol": protocol.plain(),
            "protocol_id": protocol.id,
            "metrics": metrics,
            "provenance": provenance(),
            "wall_seconds": time.perf_counter() - started,
        },
    )
