# The checked scale, and the functions that resolve it for one job. No torch here: Snakemake reads
# this file in every job.
import os
import re
import sys

from dtr.commands.cluster import note_snakemake
from dtr.planning import evaluations, runs as planning
from dtr.config.scale import load_scale
from dtr.experiments import FIGURES, TABLES
from dtr.config.stages import REVISIONS
from dtr.support.settings import Settings
from dtr.support.errors import Refusal
from dtr.support.files import canonical_json

try:
    SCALE = load_scale(config, source=" + ".join(map(str, workflow.configfiles)))
except Refusal as refusal:
    sys.exit(str(refusal))  # an exception would print its traceback around the one line

if workflow.is_main_process:
    note_snakemake()  # before Snakemake locks the folder, for whoever finds the lock

RUNS = planning.selected_runs(SCALE)
MODELS = sorted({evaluations.model_name(run) for run in RUNS.values()})
PROTOCOLS = evaluations.protocols(SCALE)


pathvars:
    results=SCALE.results,
    trained=f"{SCALE.results}/runs/{{run}}/seed{{seed}}/step{{step}}",
    measured=f"{SCALE.results}/runs/{{name}}/seed{{seed}}/step{{step}}",


wildcard_constraints:
    run="|".join(map(re.escape, RUNS)) or "none",
    name="|".join(map(re.escape, MODELS)) or "none",
    slot="|".join(SCALE.slots),
    dataset="|".join(SCALE.datasets),
    autoencoder="|".join(SCALE.autoencoders),
    extractor="|".join(SCALE.extractors),
    seed=r"\d+",
    step=r"\d+",
    shard=r"\d+",
    size="|".join(evaluations.TIMED),
    table="|".join(TABLES),
    figure="|".join(FIGURES),
    protocol="|".join(map(re.escape, PROTOCOLS)),


def as_json(settings: Settings) -> str:
    """Settings as one shell word, the form in which every stage takes them."""
    return canonical_json(settings.plain())


SETTINGS = as_json(SCALE)


def slot_of(wildcards) -> str:
    """The dataset slot of a job, named by its path, its run or its measured model."""
    if "slot" in wildcards.keys():
        return wildcards.slot
    name = wildcards.run if "run" in wildcards.keys() else wildcards.name
    return RUNS[evaluations.components(name)[0]].slot


def slot_settings(wildcards):
    return SCALE.slots[slot_of(wildcards)]


def protocol_settings(wildcards) -> str:
    return as_json(PROTOCOLS[wildcards.protocol])


def decoder_record(wildcards) -> list[str]:
    """Of the slot's autoencoder; models of pixels have none."""
    name = slot_settings(wildcards).autoencoder
    return [] if name is None else [f"{SCALE.results}/autoencoders/{name}/record.json"]


def decoder_option(wildcards, input) -> str:
    return f"--decoder {os.path.dirname(input.decoder[0])}" if input.decoder else ""


def prompts_manifest(wildcards) -> list[str]:
    """Of the dataset whose captions prompt the samples, where the slot is told captions."""
    slot = slot_settings(wildcards)
    manifest = f"{SCALE.results}/data/{slot.dataset}/manifest.json"
    return [] if slot.text_encoder is None else [manifest]


def prompts_option(wildcards, input) -> str:
    if not input.prompts:
        return ""
    encoder = SCALE.text_encoders[slot_settings(wildcards).text_encoder]
    return f"--prompts {input.prompts[0]} --text-encoder '{as_json(encoder)}'"


def captions_option(wildcards) -> str:
    """The text encoder of the slot whose latents are cached, if it has one."""
    for slot in SCALE.slots.values():
        if (slot.dataset, slot.autoencoder) == (wildcards.dataset, wildcards.autoencoder):
            if slot.text_encoder is not None:
                return f"--text-encoder '{as_json(SCALE.text_encoders[slot.text_encoder])}'"
    return ""


def model_records(wildcards) -> list[str]:
    """Training records of a measured model: one, or one per expert."""
    return [
        f"{SCALE.results}/runs/{run}/seed{wildcards.seed}/step{wildcards.step}/train.json"
        for run in evaluations.components(wildcards.name)
    ]


def model_folders(wildcards, input) -> list[str]:
    return [os.path.dirname(record) for record in input.models]


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


def training_data(wildcards) -> str:
    """Cached latents, or the dataset itself for models of pixels."""
    slot = slot_settings(wildcards)
    if slot.autoencoder is None:
        return f"{SCALE.results}/data/{slot.dataset}/manifest.json"
    return f"{SCALE.results}/latents/{slot.dataset}--{slot.autoencoder}/manifest.json"


def previous_milestone(wildcards) -> list[str]:
    """The record of the milestone before this one: two jobs never share a work directory."""
    run, step = RUNS[wildcards.run], int(wildcards.step)
    before = evaluations.previous_milestone(SCALE, run, step)
    if before is None:
        return []
    return [evaluations.training_record_path(SCALE, before[0], wildcards.seed, before[1])]


def work_folder(wildcards) -> str:
    run = evaluations.lineage(SCALE, RUNS[wildcards.run])
    return f"{SCALE.results}/work/{run.id}/seed{wildcards.seed}"


def final_record(wildcards) -> str:
    step = planning.training_steps(SCALE, RUNS[wildcards.run])
    return evaluations.training_record_path(SCALE, wildcards.run, wildcards.seed, step)


def timed_backbone(wildcards) -> str:
    return evaluations.TIMED[wildcards.size]


def target_records(wildcards) -> list[str]:
    """Of the table or figure that a job makes."""
    target = wildcards.table if "table" in wildcards.keys() else wildcards.figure
    return evaluations.target_records(SCALE, target)


def sample_shards(wildcards) -> list[str]:
    n_samples = PROTOCOLS[wildcards.protocol].n_samples
    shards = range(-(-n_samples // SCALE.evaluation.shard_size))
    folder = f"{SCALE.results}/runs/{wildcards.name}/seed{wildcards.seed}/step{wildcards.step}"
    return [f"{folder}/samples/{wildcards.protocol}/shard-{shard}.npz" for shard in shards]


def features_folder(wildcards) -> str:
    folder = f"{SCALE.results}/runs/{wildcards.name}/seed{wildcards.seed}/step{wildcards.step}"
    return f"{folder}/features/{wildcards.protocol}"
