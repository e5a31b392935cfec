"""Which runs a scale trains, and the training settings of each of them. Free of torch."""

from dtr.config.backbones import AdmSettings, BackboneSettings, DiTSettings, TextDiTSettings
from dtr.config.checks import why_not
from dtr.config.scale import Scale
from dtr.config.stages import RoutingSettings, TrainSettings, WeightingSettings
from dtr.experiments import BACKBONES, RUNS, SLOTS, Run
from dtr.support.errors import Refusal

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
    batch_size = scale.slots[run.slot].batch_size or scale.training.batch_size
    return TrainSettings(
        seed=seed,
        backbone=backbone_settings(scale, run),
        routing=routing_settings(scale, run),
        weighting=weighting_settings(scale, run),
        timesteps=run.timesteps,
        diffusion=scale.diffusion,
        training=scale.training.model_copy(update={"batch_size": batch_size}),
    )
