"""One model per record: what stages write about a result, and what is read back. Free of torch.

A record says its schema version. Another version is refused by name, never half understood.
"""

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    ValidationError,
    model_validator,
)

from dtr.support.errors import Refusal
from dtr.support.files import write_json

SCHEMA = 2  # 1 is that of dtr 0.1, whose records do not say it
Finite = float | None
NAN = float("nan")
# NaN where there is no number, which is null in the file.
Number = Annotated[float, BeforeValidator(lambda value: NAN if value is None else value)]


def left_out_if_none() -> Any:
    """A field that most records of its kind do not have."""
    return Field(default=None, exclude_if=lambda value: value is None)


class Record(BaseModel):
    """Base of all records: who made it, and how long that took."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[2] = SCHEMA
    provenance: dict[str, Any]
    wall_seconds: Number = NAN  # NaN: not measured


class LossPoint(BaseModel):
    """One line of a training's history; further values are those of its parts."""

    model_config = ConfigDict(extra="allow", frozen=True)

    step: int
    loss: Number
    mse: Number
    vb: Number
    rate: Number = NAN  # steps per second


class Origin(BaseModel):
    """The file of somebody else that a model was imported from."""

    file: str
    sha256: str
    part: str | None


class ModelRecord(Record):
    """A trained model; its weights lie beside it."""

    run: str
    seed: int
    step: int
    reached_step: int
    status: Literal["ok", "diverged"]
    reason: str | None = None
    fingerprint: str | None  # None: trained elsewhere, on data that is not known here
    dataset_hash: str | None
    autoencoder_sha256: str | None = None  # whose latents it was trained on
    settings: dict[str, Any]
    weights_sha256: str
    parameters: int
    parts: dict[str, str] = {}  # what identifies its parts, as in the fingerprint
    sources: dict[str, str] = {}  # SHA-256 of the files of parts from outside, by family
    history: list[LossPoint] = []
    processes: int = 1
    accumulation: int = 1
    # Where noise was drawn: by the device it was used on, or on the host as in all records before.
    rng: Literal["host", "device", "mixed"] = "host"
    imported_from: Origin | None = None


class Measure(BaseModel):
    """One metric of a metrics record, named with its extractor."""

    name: str
    n: int
    value: float = Field(allow_inf_nan=False)
    low: Finite = None
    high: Finite = None
    direction: Literal["lower", "higher"]


class MetricsRecord(Record):
    """The metrics of one model under one protocol, or of real images as a control."""

    run: str
    slot: str
    seed: int | None = None  # a control on real images has none
    step: int | None = None
    status: Literal["ok", "diverged", "failed", "unmeasurable"]
    reason: str | None = None
    protocol: dict[str, Any]
    protocol_id: str
    # Where published or computed statistics of the real images come from.
    reference: dict[str, Any] | None = left_out_if_none()
    metrics: list[Measure] = []
    sampling_seconds: Number = NAN  # NaN: no samples, or drawn before dtr 0.3, which timed none
    sampling_rng: Literal["host", "device", "mixed"] = "host"  # where their noise was drawn


class ImagesRecord(Record):
    """The metrics of images from elsewhere, without a model."""

    images: str
    images_sha256: str  # of the pixels
    n: int
    size: tuple[int, int]  # height and width
    real: str
    real_n: int
    extractor_sha256: str
    settings: dict[str, Any]
    metrics: list[Measure]


class BlockCka(BaseModel):
    """CKA between all pairs of timesteps in one block; null where nothing varies."""

    unbiased: list[list[Finite]]
    biased: list[list[Finite]]


class CkaRecord(Record):
    """Similarity of one model's representations at different timesteps."""

    run: str
    seed: int
    step: int
    status: Literal["ok", "diverged"]
    reason: str | None = None
    estimator: str
    n: int
    batch_size: int
    data_seed: int
    dataset_hash: str
    weights_sha256: str
    timesteps: list[int]
    blocks: list[BlockCka]

    @model_validator(mode="after")
    def _square(self) -> Self:
        size = len(self.timesteps)
        for block in self.blocks:
            for matrix in (block.unbiased, block.biased):
                if len(matrix) != size or any(len(row) != size for row in matrix):
                    raise ValueError(f"blocks: a matrix is not {size} by {size}")
        return self


class Speed(BaseModel):
    """Training speed with "dtr" and with "none", from pairs of steps."""

    seconds_per_step: dict[str, float]
    iterations_per_second: dict[str, float]
    ratio: PositiveFloat  # seconds with DTR by seconds without
    low: PositiveFloat
    high: PositiveFloat


class ThroughputRecord(Record):
    """Training speed of one of the paper's sizes, or why it could not be measured."""

    backbone: str
    status: Literal["ok", "failed"]
    reason: str | None = None
    batch_size: int
    precision: str
    threads: int
    device: str
    pairs: int
    speed: Speed | None
    settings: dict[str, Any]

    @model_validator(mode="after")
    def _measured(self) -> Self:
        if (self.status == "ok") != (self.speed is not None):
            raise ValueError("speed: missing, or there although the status is failed")
        return self


class Fetched(BaseModel):
    """Where a network of others was taken from."""

    source: str
    licence: str
    files: dict[str, str]  # SHA-256 by file name


class AutoencoderRecord(Record):
    """An autoencoder; its weights lie beside it. One of others was measured on no dataset here."""

    settings: dict[str, Any]
    scale_factor: float
    test_psnr_db: Number = NAN
    dataset_hash: str | None = None
    weights_sha256: str
    fetched: Fetched | None = left_out_if_none()


class ExtractorRecord(Record):
    """An extractor; its weights lie beside it. One of others was measured on no dataset here."""

    settings: dict[str, Any]
    test_accuracy: Number = NAN
    train_accuracy: Number = NAN
    dataset_hash: str | None = None
    weights_sha256: str
    fetched: Fetched | None = left_out_if_none()


class TextEncoderRecord(Record):
    """A text encoder of others; its weights lie beside it."""

    settings: dict[str, Any]
    weights_sha256: str
    fetched: Fetched


AnyRecord = TypeVar("AnyRecord", bound=Record)


def write_record(path: str | Path, record: Record) -> None:
    """Write a record atomically, indented for reading; what is not a number becomes null."""
    write_json(path, _finite(record.model_dump(mode="python")))


def read_record(model: type[AnyRecord], path: str | Path) -> AnyRecord:
    """The record in a file; refused in one line that names the file and what is wrong with it."""
    try:
        return model.model_validate(_current(json.loads(Path(path).read_text(encoding="utf-8"))))
    except FileNotFoundError:
        raise Refusal(f"{path}: no such file") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        problem = f"{where}: {first['msg']}" if where else first["msg"]
    except (ValueError, RecursionError) as error:
        problem = f"not readable as JSON ({error})"
    except OSError as error:
        problem = f"not readable ({error.strerror})"
    raise Refusal(f"{path}: {' '.join(problem.removeprefix('Value error, ').split())}")


def _current(value: Any) -> Any:
    """The content of a file; another schema is refused."""
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    version = value.get("schema_version", 1)
    if version != SCHEMA:
        raise ValueError(
            f"schema_version {version}: this version reads {SCHEMA}; delete the file to have it "
            "made again"
        )
    return value


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
