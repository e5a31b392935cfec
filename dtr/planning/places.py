"""Every path of a result, spelled once: for the rules, the stages and the report. Free of torch.

A name may be a wildcard of Snakemake's ("{run}"): the rules are given their patterns from here.
"""

import re
from typing import NamedTuple

from dtr.planning.evaluations import Evaluation, components

MODEL = ("ema.safetensors", "train.json")  # weights and record of a trained model
ASSET = ("weights.safetensors", "record.json")  # of an autoencoder, extractor or text encoder
WEIGHTS = {record: weights for weights, record in (MODEL, ASSET)}


def file_name(backbone: str) -> str:
    """How a network is called in the name of a file: DiT-S-2 for DiT-S/2."""
    return backbone.replace("/", "-")


class Places(NamedTuple):
    """The places below the results folder of one scale, all as text with forward slashes."""

    results: str

    def dataset(self, name: str) -> str:
        """Manifest of a prepared dataset; its index and the shards of its images lie beside it."""
        return f"{self.results}/data/{name}/manifest.json"

    def index(self, dataset: str) -> str:
        """One row per image of a prepared dataset."""
        return f"{self.results}/data/{dataset}/index.parquet"

    def autoencoder(self, name: str) -> str:
        """Record of an autoencoder; its weights lie beside it."""
        return f"{self.results}/autoencoders/{name}/record.json"

    def extractor(self, name: str) -> str:
        """Record of an extractor; its weights lie beside it."""
        return f"{self.results}/extractors/{name}/record.json"

    def text_encoder(self, name: str) -> str:
        """Record of a text encoder of others; its weights lie beside it."""
        return f"{self.results}/text_encoders/{name}/record.json"

    def latents(self, dataset: str, autoencoder: str) -> str:
        """Manifest of the cached latents of a dataset."""
        return f"{self.results}/latents/{dataset}--{autoencoder}/manifest.json"

    def real_features(self, dataset: str, extractor: str) -> str:
        """Features of the real images that samples are measured against."""
        return f"{self.results}/real/{dataset}--{extractor}.npz"

    def reference(self, name: str, extractor: str) -> str:
        """Statistics and images that samples are measured against, in place of all features."""
        return f"{self.results}/references/{name}--{extractor}.npz"

    def model(self, name: str, seed: int | str, step: int | str) -> str:
        """Folder of a trained model, or of what is measured of experts together."""
        return f"{self.results}/runs/{name}/seed{seed}/step{step}"

    def training(self, run: str, seed: int | str, step: int | str) -> str:
        """Record of a trained model; its weights lie beside it."""
        return f"{self.model(run, seed, step)}/train.json"

    def work(self, run: str, seed: int | str) -> str:
        """Checkpoints and logs of a run, below a folder per fingerprint."""
        return f"{self.results}/work/{run}/seed{seed}"

    def samples(self, name: str, seed: int | str, step: int | str, protocol: str) -> str:
        """Folder of a model's samples under one protocol."""
        return f"{self.model(name, seed, step)}/samples/{protocol}"

    def shard(
        self, name: str, seed: int | str, step: int | str, protocol: str, number: int | str
    ) -> str:
        """One file of samples."""
        return f"{self.samples(name, seed, step, protocol)}/shard-{number}.npz"

    def features(self, name: str, seed: int | str, step: int | str, protocol: str) -> str:
        """Folder of the features of a model's samples."""
        return f"{self.model(name, seed, step)}/features/{protocol}"

    def metrics(self, name: str, seed: int | str, step: int | str, protocol: str) -> str:
        """Record of the metrics of one measured model."""
        return f"{self.model(name, seed, step)}/metrics/{protocol}.json"

    def evaluation(self, evaluation: Evaluation) -> str:
        """Record of the metrics of one planned evaluation."""
        name, _, seed, step, protocol = evaluation
        return self.metrics(name, seed, step, protocol.id)

    def real_metrics(self, slot: str, protocol: str) -> str:
        """Record of the metrics of real images against other real images."""
        return f"{self.results}/controls/{slot}/real/metrics/{protocol}.json"

    def cka(self, run: str, seed: int | str) -> str:
        """Record of the similarity between a model's timesteps."""
        return f"{self.results}/analysis/cka/{run}-seed{seed}.json"

    def throughput(self, backbone: str) -> str:
        """Record of the training speed of one of the paper's sizes."""
        return f"{self.results}/analysis/throughput/{file_name(backbone)}.json"

    def table(self, name: str) -> str:
        """A table of the paper; Markdown and LaTeX lie beside it."""
        return f"{self.results}/tables/{name}.csv"

    def figure(self, name: str) -> str:
        """A figure of the paper; PNG and PDF lie beside it."""
        return f"{self.results}/figures/{name}.svg"

    def claims(self) -> str:
        """The verdicts, a line per comparison; Markdown and JSON lie beside it."""
        return f"{self.results}/claims/claims.csv"

    def page(self) -> str:
        """The page of a finished scale."""
        return f"{self.results}/report/index.html"

    def now(self) -> str:
        """Folder of the tables, figures and page of whatever exists at one moment."""
        return f"{self.results}/now"

    @staticmethod
    def weights_of(record: str) -> str:
        """The weights that a record of a model or an asset vouches for."""
        folder, _, name = record.rpartition("/")
        return f"{folder}/{WEIGHTS[name]}"

    @staticmethod
    def beside(path: str, *suffixes: str) -> list[str]:
        """The same result in other formats."""
        return [path.rpartition(".")[0] + suffix for suffix in suffixes]

    def log(self, stage: str, name: str) -> str:
        """What a job of the workflow printed."""
        return f"{self.results}/logs/{stage}/{name}.log"


# Where records are found below a results folder, whoever wrote them.
TRAININGS = "runs/*/seed*/step*/train.json"
METRICS = ("runs/*/seed*/step*/metrics/*.json", "controls/*/*/metrics/*.json")
CKA = "analysis/cka/*.json"
THROUGHPUT = "analysis/throughput/*.json"
# What the place of a record below a results folder says about it.
PLACE = re.compile(r"runs/(?P<run>[^/]+)/seed(?P<seed>\d+)/step(?P<step>\d+)/")
CONTROL_PLACE = re.compile(r"controls/(?P<slot>[^/]+)/(?P<run>[^/]+)/metrics/")


def models_of(places: Places, name: str, seed: int | str, step: int | str) -> list[str]:
    """Training records behind a measured model: one, or one per expert."""
    return [places.training(run, seed, step) for run in components(name)]


def training_below(run: str, seed: int, step: int) -> str:
    """Place of a training record below its results folder, by which `Records` knows it."""
    return Places(".").training(run, seed, step).removeprefix("./")
