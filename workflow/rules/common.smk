# The checked scale, and the functions that resolve it for one job. No torch here: Snakemake reads
# this file in every job.
import re
import sys

from dtr import planning
from dtr.config import REVISIONS, Settings, load_scale
from dtr.errors import Refusal
from dtr.files import canonical_json

try:
    SCALE = load_scale(config, source=" + ".join(map(str, workflow.configfiles)))
except Refusal as refusal:
    sys.exit(str(refusal))  # an exception would print its traceback around the one line

RUNS = planning.selected_runs(SCALE)


pathvars:
    results=SCALE.results,
    model=f"{SCALE.results}/runs/{{run}}/seed{{seed}}/step{{step}}",


wildcard_constraints:
    run="|".join(map(re.escape, RUNS)) or "none",
    slot="|".join(SCALE.slots),
    dataset="|".join(SCALE.datasets),
    autoencoder="|".join(SCALE.autoencoders),
    extractor="|".join(SCALE.extractors),
    seed=r"\d+",
    step=r"\d+",
    shard=r"\d+",


def as_json(settings: Settings) -> str:
    """Settings as one shell word, the form in which every stage takes them."""
    return canonical_json(settings.plain())


def slot_of(wildcards) -> str:
    """The dataset slot of a job, named by its path or by its run."""
    return RUNS[wildcards.run].slot if "run" in wildcards.keys() else wildcards.slot


def slot_settings(wildcards):
    return SCALE.slots[slot_of(wildcards)]


def slot_protocol(wildcards) -> str:
    return as_json(planning.protocol(SCALE, slot_of(wildcards)))


def autoencoder_record(wildcards) -> str:
    return f"{SCALE.results}/autoencoders/{slot_settings(wildcards).autoencoder}/record.json"


def extractor_record(wildcards) -> str:
    return f"{SCALE.results}/extractors/{slot_settings(wildcards).extractor}/record.json"


def reference_features(wildcards) -> str:
    slot = slot_settings(wildcards)
    return f"{SCALE.results}/reference/{slot.dataset}--{slot.extractor}.npz"


def dataset_settings(wildcards) -> str:
    return as_json(SCALE.datasets[wildcards.dataset])


def autoencoder_settings(wildcards) -> str:
    return as_json(SCALE.autoencoders[wildcards.autoencoder])


def autoencoder_data(wildcards) -> str:
    dataset = SCALE.autoencoders[wildcards.autoencoder].dataset
    return f"{SCALE.results}/data/{dataset}/manifest.json"


def extractor_settings(wildcards) -> str:
    return as_json(SCALE.extractors[wildcards.extractor])


def extractor_data(wildcards) -> str:
    dataset = SCALE.extractors[wildcards.extractor].dataset
    return f"{SCALE.results}/data/{dataset}/manifest.json"


def train_settings(wildcards) -> str:
    run, seed = RUNS[wildcards.run], int(wildcards.seed)
    return as_json(planning.train_settings(SCALE, run, seed))


def latents_manifest(wildcards) -> str:
    slot = slot_settings(wildcards)
    return f"{SCALE.results}/latents/{slot.dataset}--{slot.autoencoder}/manifest.json"


def previous_milestone(wildcards) -> list[str]:
    """The record of the milestone before this one: two jobs never share a work directory."""
    step = planning.previous_milestone(SCALE, RUNS[wildcards.run], int(wildcards.step))
    folder = f"{SCALE.results}/runs/{wildcards.run}/seed{wildcards.seed}"
    return [] if step is None else [f"{folder}/step{step}/train.json"]


def work_folder(wildcards) -> str:
    run = planning.lineage(SCALE, RUNS[wildcards.run])
    return f"{SCALE.results}/work/{run.id}/seed{wildcards.seed}"


def sample_features(wildcards) -> list[str]:
    evaluation = SCALE.evaluation
    shards = range(-(-evaluation.n_samples // evaluation.shard_size))
    folder = f"{SCALE.results}/runs/{wildcards.run}/seed{wildcards.seed}/step{wildcards.step}"
    return [f"{folder}/features/{wildcards.protocol}/shard-{shard}.npz" for shard in shards]
