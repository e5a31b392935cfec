# The checked scale, and the functions that resolve it for one job. No torch here: Snakemake reads
# this file in every job.
import os
import re
import shlex
import sys
from functools import cache

from dtr.commands.cluster import note_snakemake
from dtr.commands.refused import repeat_no_refusals
from dtr.config.pretrained import is_pretrained
from dtr.config.reading import load_scale_of_workflow
from dtr.config.resolve import run_settings, training_steps
from dtr.config.stages import REVISIONS, outside_sources
from dtr.experiments import FIGURES, TABLES, TIMED
from dtr.planning import evaluations, jobs, noise, places, runs, targets
from dtr.planning.places import Places, models_of
from dtr.registry import part_source
from dtr.support.errors import Refusal
from dtr.support.files import canonical_json
from dtr.support.settings import Settings

# In the order in which Snakemake lays one over the other: the default, then those of --configfile.
own = len(workflow.overwrite_configfiles)
FILES = workflow.configfiles[own:] + workflow.configfiles[:own]

try:
    SCALE = load_scale_of_workflow(
        config,
        files=FILES,
        entries=workflow.config_settings.config_args,
    )
except Refusal as refusal:
    sys.exit(str(refusal))  # an exception would print its traceback around the one line

if workflow.is_main_process:
    note = note_snakemake()  # before Snakemake locks the folder, for whoever finds the lock
    repeat_no_refusals(workflow, since=note)

PLACES = Places(SCALE.results)
RUNS = runs.selected_runs(SCALE)
MODELS = sorted({evaluations.model_name(run) for run in RUNS.values()})
PROTOCOLS = evaluations.protocols(SCALE) | noise.drawn_protocols(SCALE)


wildcard_constraints:
    run="|".join(map(re.escape, RUNS)) or "none",
    name="|".join(map(re.escape, MODELS)) or "none",
    slot="|".join(SCALE.slots),
    dataset="|".join(SCALE.datasets),
    autoencoder="|".join(SCALE.autoencoders),
    extractor="|".join(SCALE.extractors),
    text_encoder="|".join(SCALE.text_encoders) or "none",
    reference="|".join(SCALE.references) or "none",
    seed=r"\d+",
    step=r"\d+",
    shard=r"\d+",
    size="|".join(map(places.file_name, TIMED)),
    table="|".join(TABLES),
    figure="|".join(FIGURES),
    protocol="|".join(map(re.escape, PROTOCOLS)),


def as_json(settings: Settings) -> str:
    """Settings as one shell word, the form in which every stage takes them."""
    return canonical_json(settings.plain())


SETTINGS = as_json(SCALE)

# Of every job that computes on the scale's device: GPUs that it takes, and where its software comes
# from if Snakemake is to install it.
GPUS = 1 if SCALE.execution.device == "cuda" else 0
ENVIRONMENT = f"../../envs/environment-{'cuda' if GPUS else 'cpu'}.yaml"
if GPUS and SCALE.execution.devices is not None:
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", ",".join(map(str, SCALE.execution.devices)))

# Several processes of one job are started by torchrun, of a training on several machines by one
# torchrun on each, which SLURM starts.
START = START_TRAINING = "python -m dtr"
several, nodes = SCALE.execution.processes, SCALE.execution.nodes
if several > 1:
    START = f"python -m dtr torchrun --standalone --nproc-per-node {several} -m -- dtr"
    START_TRAINING = START
ALLOCATION = {}
if nodes > 1:
    START_TRAINING = (
        f"srun --nodes {nodes} --ntasks {nodes} --ntasks-per-node 1 --kill-on-bad-exit=1"
        " --cpus-per-task {threads}"
        f" python -m dtr torchrun --nnodes {nodes} --nproc-per-node {several} -m -- dtr"
    )
    # Of SLURM's plugin: a task on each machine, and no step of one task around the srun.
    ALLOCATION = {"mpi": "srun", "tasks": nodes, "tasks_per_gpu": 0}
    if GPUS:
        ALLOCATION["slurm_extra"] = f"--gpus-per-node={several}"


def named(assets, *, fetched: bool) -> str:
    """Those of the scale's networks that others have trained, or that it trains itself."""
    names = [name for name, own in assets.items() if is_pretrained(own) == fetched]
    return "|".join(map(re.escape, names)) or "none"


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
    return [] if name is None else [PLACES.autoencoder(name)]


def decoder_option(wildcards, input) -> str:
    folder = shlex.quote(os.path.dirname(input.decoder[0])) if input.decoder else ""
    return folder and f"--decoder {folder}"


def prompts_manifest(wildcards) -> list[str]:
    """Of the dataset whose captions prompt the samples, where the slot is told captions."""
    slot = slot_settings(wildcards)
    return [] if slot.text_encoder is None else [PLACES.dataset(slot.dataset)]


def text_encoder_settings(name: str) -> str:
    """As JSON; of a network of others with the folder in which it was taken over."""
    encoder = SCALE.text_encoders[name]
    if is_pretrained(encoder):
        folder = os.path.dirname(PLACES.text_encoder(name))
        encoder = encoder.model_copy(update={"folder": folder})
    return as_json(encoder)


def text_encoder_record(wildcards) -> list[str]:
    """Of the text encoder of a slot, if others have trained it."""
    return list(jobs.told_by(SCALE, slot_settings(wildcards).text_encoder))


def prompts_option(wildcards, input) -> str:
    if not input.prompts:
        return ""
    encoder = text_encoder_settings(slot_settings(wildcards).text_encoder)
    manifest = shlex.quote(input.prompts[0])
    return f"--prompts {manifest} --text-encoder {shlex.quote(encoder)}"


def captions_encoder(wildcards) -> str | None:
    """Name of the text encoder of the slot whose latents are cached, if it has one."""
    for slot in SCALE.slots.values():
        if (slot.dataset, slot.autoencoder) == (wildcards.dataset, wildcards.autoencoder):
            if slot.text_encoder is not None:
                return slot.text_encoder
    return None


def captions_record(wildcards) -> list[str]:
    return list(jobs.told_by(SCALE, captions_encoder(wildcards)))


def caching_options(wildcards) -> str:
    """The text encoder of the captions, if any, and how what is cached is stored."""
    name, cache = captions_encoder(wildcards), SCALE.cache
    options = [] if cache.latents == "float32" else [f"--dtype {cache.latents}"]
    if name is not None:
        options.append(f"--text-encoder {shlex.quote(text_encoder_settings(name))}")
        if cache.tokens != "float32":
            options.append(f"--tokens-dtype {cache.tokens}")
    return " ".join(options)


def model_records(wildcards) -> list[str]:
    """Training records of a measured model: one, or one per expert."""
    return models_of(PLACES, wildcards.name, wildcards.seed, wildcards.step)


def model_folders(wildcards, input) -> list[str]:
    return [os.path.dirname(record) for record in input.models]


def extractor_record(wildcards) -> str:
    return PLACES.extractor(slot_settings(wildcards).extractor)


def kept_by(wildcards) -> list[str]:
    """The extractor whose features stay in place of the images of samples, if they do."""
    return [] if SCALE.execution.keep_samples is None else [extractor_record(wildcards)]


def keep_option(wildcards, input) -> str:
    if not input.extractor:
        return ""
    folders = os.path.dirname(input.extractor[0]), features_folder(wildcards)
    extractor, features = map(shlex.quote, folders)
    keep = SCALE.execution.keep_samples
    return f"--keep {keep} --extractor {extractor} --features {features}"


def real_features(wildcards) -> str:
    return jobs.real_images(SCALE, slot_settings(wildcards))


def reference_settings(wildcards) -> str:
    return as_json(SCALE.references[wildcards.reference])


def reference_data(wildcards) -> list[str]:
    """The dataset that a reference is computed from; a published one needs none."""
    reference = SCALE.references[wildcards.reference]
    return [PLACES.dataset(reference.dataset)] if reference.file is None else []


def reference_option(wildcards, input) -> str:
    return f"--data {shlex.quote(input.data[0])}" if input.data else ""


def dataset_settings(wildcards) -> str:
    return as_json(SCALE.datasets[wildcards.dataset])


def told_classes(wildcards) -> int:
    """How many classes a dataset has to have; 0 where no slot is told them."""
    return jobs.told_classes(SCALE, wildcards.dataset)


def autoencoder_settings(wildcards) -> str:
    return as_json(SCALE.autoencoders[wildcards.autoencoder])


def autoencoder_data(wildcards) -> str:
    return PLACES.dataset(SCALE.autoencoders[wildcards.autoencoder].dataset)


def extractor_settings(wildcards) -> str:
    return as_json(SCALE.extractors[wildcards.extractor])


def fetched_text_encoder_settings(wildcards) -> str:
    return as_json(SCALE.text_encoders[wildcards.text_encoder])


def extractor_data(wildcards) -> str:
    return PLACES.dataset(SCALE.extractors[wildcards.extractor].dataset)


@cache
def settings_of_run(run: str, seed: str):
    return run_settings(SCALE, RUNS[run], int(seed))


def train_settings(wildcards) -> str:
    return as_json(settings_of_run(wildcards.run, wildcards.seed))


def train_parts(wildcards) -> str:
    """Hashes of the files of parts from outside, so that an edit is looked at."""
    return canonical_json(outside_sources(settings_of_run(wildcards.run, wildcards.seed)))


def dataset_part(wildcards) -> str | None:
    """The same of a source of images; None for ours."""
    return part_source("source", SCALE.datasets[wildcards.dataset].type)


def autoencoder_part(wildcards) -> str | None:
    return part_source("autoencoder", SCALE.autoencoders[wildcards.autoencoder].type)


def extractor_part(wildcards) -> str | None:
    return part_source("extractor", SCALE.extractors[wildcards.extractor].type)


def training_data(wildcards) -> str:
    """Cached latents, or the dataset itself for models of pixels."""
    slot = slot_settings(wildcards)
    if slot.autoencoder is None:
        return PLACES.dataset(slot.dataset)
    return PLACES.latents(slot.dataset, slot.autoencoder)


def previous_milestone(wildcards) -> list[str]:
    """The record of the milestone before this one: two jobs never share a work directory."""
    before = runs.previous_milestone(SCALE, RUNS[wildcards.run], int(wildcards.step))
    return [] if before is None else [PLACES.training(before[0], wildcards.seed, before[1])]


def work_folder(wildcards) -> str:
    return PLACES.work(runs.lineage(SCALE, RUNS[wildcards.run]).id, wildcards.seed)


def final_record(wildcards) -> str:
    step = training_steps(SCALE, RUNS[wildcards.run])
    return PLACES.training(wildcards.run, wildcards.seed, step)


def timed_backbone(wildcards) -> str:
    return next(size for size in TIMED if places.file_name(size) == wildcards.size)


def target_records(wildcards) -> list[str]:
    """Of the table or figure that a job makes."""
    target = wildcards.table if "table" in wildcards.keys() else wildcards.figure
    return targets.target_records(SCALE, target)


def sample_shards(wildcards) -> list[str]:
    n_samples = PROTOCOLS[wildcards.protocol].n_samples
    model = (wildcards.name, wildcards.seed, wildcards.step)
    shards = range(-(-n_samples // SCALE.evaluation.shard_size))
    return [PLACES.shard(*model, wildcards.protocol, shard) for shard in shards]


def features_folder(wildcards) -> str:
    return PLACES.features(wildcards.name, wildcards.seed, wildcards.step, wildcards.protocol)
