"""Which runs a scale trains, and the settings of each stage for one of them. Free of torch."""

from dtr.checks import why_not
from dtr.config import Scale
from dtr.errors import Refusal
from dtr.experiments import BACKBONES, EXPERTS, RUNS, SLOTS, Run
from dtr.settings import (
    AdmSettings,
    BackboneSettings,
    DiTSettings,
    Protocol,
    RoutingSettings,
    TextDiTSettings,
    TrainSettings,
    WeightingSettings,
)

PAPER_ITERATIONS = {  # of one run on each slot; multi-experts and the 2M run differ from it
    "unconditional": 100_000,
    "class_conditional": 400_000,
    "text_conditional": 400_000,
    "pixel_unconditional": 100_000,
    "pixel_class_conditional": 400_000,
}


def all_runs(scale: Scale) -> dict[str, Run]:
    """The paper's runs and the scale's own, by id."""
    return {run.id: run for run in (*RUNS, *scale.extra_runs)}


def selected_runs(scale: Scale) -> dict[str, Run]:
    """The runs this scale trains: those its targets need and can have, and its own."""
    return {run.id: run for run in all_runs(scale).values() if reason_not_run(scale, run) is None}


def reason_not_run(scale: Scale, run: Run) -> str | None:
    """Why `run` is not part of this scale, as the report prints it; None if it is."""
    if (reason := why_not(scale, run)) is not None:
        return reason
    if run in scale.extra_runs or any(run.needed_by(target) for target in scale.targets):
        return None
    return f"not among the targets of the {scale.scale} scale ({', '.join(scale.targets)})"


def find_run(scale: Scale, run_id: str) -> Run:
    """The run called `run_id`, refused with its reason if this scale does not train it."""
    run = all_runs(scale).get(run_id)
    if run is None:
        raise Refusal(f"run {run_id!r}: unknown; the runs are listed in dtr/experiments.py")
    if (reason := reason_not_run(scale, run)) is not None:
        raise Refusal(f"run {run_id!r}: {reason}")
    return run


def training_steps(scale: Scale, run: Run) -> int:
    """Steps that stand for the run's iterations, in the proportion of its slot."""
    return round(scale.slots[run.slot].steps * run.iterations / PAPER_ITERATIONS[run.slot])


def routing_settings(scale: Scale, run: Run) -> RoutingSettings:
    """The run's routing with the constants it depends on and no other."""
    defaults = scale.routing
    beta = defaults.beta if run.beta is None else run.beta
    values = {"alpha": run.alpha, "clusters": run.clusters}
    if run.routing not in ("none", "ercdt"):
        values["beta"] = beta
    if run.routing == "dtr":
        values["variant"] = defaults.variant
    if run.routing in ("random", "max_roaming"):
        values["seed"] = defaults.seed
    if run.routing == "max_roaming":
        channels = scale.backbones[run.backbone].channels
        updates = channels - int(channels * beta)
        lasting = max(1, training_steps(scale, run) // max(1, updates))
        values["period"] = defaults.roaming_period or lasting
    return RoutingSettings(type=run.routing, **values)


def weighting_settings(scale: Scale, run: Run) -> WeightingSettings:
    """The run's loss weighting with its constants."""
    constants = scale.weighting
    values = {
        "p2": {"gamma": constants.p2_gamma, "k": constants.p2_k},
        "min_snr": {"gamma": constants.min_snr_gamma},
        "ant_uw": {
            "clusters": constants.ant_uw_clusters,
            "learning_rate": constants.ant_uw_learning_rate,
        },
    }
    return WeightingSettings(type=run.weighting, **values.get(run.weighting, {}))


def backbone_settings(scale: Scale, run: Run) -> BackboneSettings:
    """The run's network: the preset's size on the slot's images and what it is told of them."""
    slot, told = scale.slots[run.slot], SLOTS[run.slot][1]
    family = BACKBONES[run.backbone][0]
    size, channels = scale.datasets[slot.dataset].resolution, 3
    if slot.autoencoder is not None:
        autoencoder = scale.autoencoders[slot.autoencoder]
        size, channels = size // autoencoder.downsampling, autoencoder.latent_channels
    values = {
        "family": family,
        "input_size": size,
        "in_channels": channels,
        "num_classes": slot.num_classes,
        "label_dropout": 0.0 if told == "none" else scale.training.label_dropout,
    }
    if told == "text":
        encoder = scale.text_encoders[slot.text_encoder]
        values |= {"text_tokens": encoder.tokens, "text_width": encoder.width}
    settings = {"dit": DiTSettings, "dit_text": TextDiTSettings, "adm": AdmSettings}[family]
    return settings(**values, **scale.backbones[run.backbone].plain())


def train_settings(scale: Scale, run: Run, seed: int) -> TrainSettings:
    """Everything the training of `run` with `seed` depends on, except the data's content."""
    return TrainSettings(
        seed=seed,
        backbone=backbone_settings(scale, run),
        routing=routing_settings(scale, run),
        weighting=weighting_settings(scale, run),
        timesteps=run.timesteps,
        diffusion=scale.diffusion,
        training=scale.training,
    )


def protocol(scale: Scale, slot_name: str) -> Protocol:
    """How models of a slot are sampled and measured at this scale."""
    slot, evaluation = scale.slots[slot_name], scale.evaluation
    return Protocol(
        dataset=slot.dataset,
        autoencoder=slot.autoencoder,
        text_encoder=slot.text_encoder,
        extractor=slot.extractor,
        # ADM clips predicted pixels to their range; latents have none.
        x0_clamp=1.0 if slot.autoencoder is None else evaluation.x0_clamp,
        guidance=None if SLOTS[slot_name][1] == "none" else evaluation.guidance,
        **{
            name: getattr(evaluation, name)
            for name in Protocol.model_fields
            if name in type(evaluation).model_fields and name not in ("guidance", "x0_clamp")
        },
    )


def baseline_run(scale: Scale, slot: str) -> Run | None:
    """The unrouted, unweighted run of a slot whose untrained network is the control row."""
    for run in selected_runs(scale).values():
        if (run.slot, run.routing, run.weighting) == (slot, "none", "vanilla"):
            return run
    return None


def evaluated_models(scale: Scale) -> list[tuple[str, str, int, int]]:
    """Every model that is sampled and measured: (name, slot, seed, step); step 0 is the control.

    An expert alone denoises only its timesteps, so experts are measured together, as one model
    whose name joins theirs by "+".
    """
    runs = selected_runs(scale)
    alone = [run for run in runs.values() if run.id not in EXPERTS]
    models = [
        (run.id, run.slot, seed, training_steps(scale, run))
        for run in alone
        for seed in scale.seeds
    ]
    if set(EXPERTS) <= set(runs):
        first = runs[EXPERTS[0]]
        step = training_steps(scale, first)
        models += [("+".join(EXPERTS), first.slot, seed, step) for seed in scale.seeds]
    for slot in used_slots(scale):
        if (control := baseline_run(scale, slot)) is not None:
            models.append((control.id, slot, scale.seeds[0], 0))
    return models


def trained_records(scale: Scale) -> list[str]:
    """Path of the training record of every run and seed of the scale."""
    return [
        f"{scale.results}/runs/{run.id}/seed{seed}/step{training_steps(scale, run)}/train.json"
        for run in selected_runs(scale).values()
        for seed in scale.seeds
    ]


def components(name: str) -> list[str]:
    """Ids of the runs behind the name of a measured model: one, or all experts."""
    return name.split("+")


def measured_records(scale: Scale) -> list[str]:
    """Path of the metrics record of every measured model and real-image control of the scale."""
    places = [
        (slot, f"runs/{name}/seed{seed}/step{step}")
        for name, slot, seed, step in evaluated_models(scale)
    ]
    places += [(slot, f"controls/{slot}/real") for slot in used_slots(scale)]
    return [
        f"{scale.results}/{place}/metrics/{protocol(scale, slot).id}.json" for slot, place in places
    ]


def used_slots(scale: Scale) -> list[str]:
    """Slots that at least one selected run trains on, in the paper's order."""
    used = {run.slot for run in selected_runs(scale).values()}
    return [slot for slot in SLOTS if slot in used]


def milestones(scale: Scale, run: Run) -> list[int]:
    """Steps at which the weights of `run` are wanted, ascending; each continues the one before."""
    steps = {training_steps(scale, run)}
    if baseline_run(scale, run.slot) == run:
        steps.add(0)
    return sorted(steps)


def previous_milestone(scale: Scale, run: Run, step: int) -> int | None:
    """The milestone whose work directory training to `step` continues; step 0 leaves none."""
    earlier = [number for number in milestones(scale, run) if 0 < number < step]
    return earlier[-1] if earlier else None


def lineage(scale: Scale, run: Run) -> Run:
    """The run whose work directory `run` shares: the one it extends, or itself."""
    return run if run.extends is None else lineage(scale, all_runs(scale)[run.extends])
