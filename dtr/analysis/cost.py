"""What one job takes: operations, seconds, bytes on disk.

An operation (FLOP) is a multiplication or an addition: two per multiply-add of the network. Forward
and backward pass together are three forward passes; guidance runs the network twice per step.
Autoencoders, extractors, decoding and measuring are not counted.
"""

from typing import NamedTuple

from dtr.analysis.counting import Network, count_network
from dtr.config.resolve import inputs
from dtr.config.scale import Scale
from dtr.planning.evaluations import components
from dtr.planning.jobs import Job
from dtr.planning.places import Places
from dtr.planning.runs import all_runs, lineage
from dtr.records.timed import Timed

FLOAT = 4  # bytes of a number
STORED = {"float32": FLOAT, "float16": 2}
CHECKPOINTS = 2  # kept of each training, as in dtr.training.checkpoint
COPIES = 4  # of all parameters in a checkpoint: the weights, their mean, two moments of Adam


class Cost(NamedTuple):
    """Of one job. `recorded`: the seconds are those of records, not operations by throughput."""

    operations: int = 0
    seconds: float = 0.0
    recorded: bool = False


class Costs:
    """What the jobs of one scale take on a machine of `throughput` operations per second."""

    def __init__(self, scale: Scale, timed: Timed, throughput: float) -> None:
        self.scale, self.timed, self.throughput = scale, timed, throughput
        self.runs = all_runs(scale)

    def network(self, run_id: str) -> Network:
        """Multiply-adds and parameters of the network of a run."""
        run = self.runs[run_id]
        return count_network(self.scale.backbones[run.backbone], inputs(self.scale, run))

    def of(self, job: Job) -> Cost:
        """The cost of a training or of a shard of samples; of other jobs nothing is counted."""
        if job.stage == "train":
            return self._training(job)
        return self._sampling(job) if job.stage == "sample" else Cost()

    def _training(self, job: Job) -> Cost:
        steps = job.step - job.before
        operations = steps * self._operations_per_step(job.name)
        seconds = self.timed.step(job.name, job.seed)
        if seconds is None:
            return Cost(operations, operations / self.throughput)
        return Cost(operations, steps * seconds, recorded=True)

    def _operations_per_step(self, run_id: str) -> int:
        batch = self.scale.slots[self.runs[run_id].slot].batch_size
        return 3 * 2 * self.network(run_id).macs * (batch or self.scale.training.batch_size)

    def _sampling(self, job: Job) -> Cost:
        """A model without a sampling record is drawn from at the speed it was trained with."""
        first = components(job.name)[0]  # experts are of one size, and one works at a time
        passes = 1 if job.protocol.guidance in (None, 1.0) else 2
        passes *= job.images * job.protocol.sampling_steps
        operations = passes * 2 * self.network(first).macs
        seconds = self.timed.image(job.name, job.seed, job.protocol.id)
        if seconds is not None:
            return Cost(operations, job.images * seconds, recorded=True)
        step = self.timed.step(first, job.seed)
        throughput = self.throughput if step is None else self._operations_per_step(first) / step
        return Cost(operations, operations / throughput)

    def disk(self, job: Job) -> dict[str, int | None]:
        """Bytes that a job leaves, by what they are; None: nothing says how many.

        Labels and masks, logits, and the small networks and records are left out.
        """
        scale = self.scale
        if job.stage == "prepare_data":
            source = scale.datasets[job.name]
            return {"data": _times(source.expected_images, 3 * source.resolution**2)}
        if job.stage == "cache_latents":
            return {"latents": self._latents(job)}
        if job.stage == "train":
            return {"weights": self.network(job.name).parameters * FLOAT}
        if job.stage == "sample":
            side = scale.datasets[job.protocol.dataset].resolution
            kept = min(job.images, scale.execution.keep_samples or job.images)
            return {"samples": kept * 3 * side**2}
        if job.stage == "measure":
            return {"features": _times(job.images, self._width(job.asset))}
        if job.stage == "real_features":
            return {"features": _times(self._training_images(job.name), self._width(job.asset))}
        return {}

    def checkpoints(self, job: Job) -> tuple[str, int]:
        """(work folder, bytes of its checkpoints) of a training; several trainings share one."""
        folder = Places("").work(lineage(self.scale, self.runs[job.name]).id, job.seed)
        return folder, CHECKPOINTS * COPIES * FLOAT * self.network(job.name).parameters

    def _latents(self, job: Job) -> int | None:
        """Mean and log-variance of every training image and of its mirror, and the captions."""
        source, autoencoder = self.scale.datasets[job.name], self.scale.autoencoders[job.asset]
        side = source.resolution // autoencoder.downsampling
        moments = 2 * autoencoder.latent_channels * side**2 * (2 if source.mirror else 1)
        size = moments * STORED[self.scale.cache.latents]
        encoders = {
            slot.text_encoder
            for slot in self.scale.slots.values()
            if (slot.dataset, slot.autoencoder) == (job.name, job.asset) and slot.text_encoder
        }
        for name in encoders:
            encoder = self.scale.text_encoders[name]
            tokens = source.captions_per_image * encoder.tokens * encoder.width
            size += tokens * STORED[self.scale.cache.tokens]
        return _times(self._training_images(job.name), size)

    def _training_images(self, dataset: str) -> int | None:
        source = self.scale.datasets[dataset]
        return None if (total := source.expected_images) is None else total - source.num_test

    def _width(self, extractor: str) -> int | None:
        """Bytes of one image's features, where the extractor's settings say them."""
        return _times(getattr(self.scale.extractors[extractor], "features", None), FLOAT)


def _times(count: int | None, size: int | None) -> int | None:
    return None if count is None or size is None else count * size
