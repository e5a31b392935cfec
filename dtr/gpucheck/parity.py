"""The released code's outputs on this device, and random numbers that are those of a CPU."""

from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from dtr.backbones.build import build_backbone
from dtr.config.backbones import DiTSize, Inputs
from dtr.gpucheck.results import Check, judged
from dtr.routing import Random, Unrouted, Windows
from dtr.seeding import stream_words
from dtr.support import philox
from dtr.support.errors import Refusal

FIXTURES = Path(__file__).resolve().parents[2] / "tests" / "parity" / "fixtures"
NAMES = ("dit_class_none", "dit_class_dtr", "dit_class_random", "dit_uncond_dtr")
ROUTINGS = {
    "none": Unrouted(type="none"),
    "dtr": Windows(type="dtr", beta=0.8, alpha=4.0),
    "random": Random(type="random", beta=0.8, seed=0),
}
# Largest error by the largest output; bf16 has 8 bits of mantissa and a few blocks to lose them in.
TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2}


def read_fixture(name: str, folder: Path = FIXTURES) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file of the released code's outputs."""
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        raise Refusal(f"{path}: not there; parity needs the tests/ folder of the project")
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


def released_dit(
    name: str, folder: Path = FIXTURES
) -> tuple[nn.Module, dict[str, Tensor], dict[str, str]]:
    """Our DiT with the weights of a fixture, its tensors and its metadata."""
    tensors, metadata = read_fixture(name, folder)
    settings = DiTSize(
        type="dit",
        patch_size=int(metadata["patch_size"]),
        width=int(metadata["hidden"]),
        depth=int(metadata["depth"]),
        heads=int(metadata["heads"]),
    )
    inputs = Inputs(
        input_size=int(metadata["input_size"]),
        in_channels=4,
        num_classes=int(metadata["num_classes"]),
        label_dropout=0.1 if metadata["num_classes"] != "1" else 0.0,
    )
    model = build_backbone(settings, inputs, ROUTINGS[metadata["routing"]]).eval()
    state = {key[6:]: value for key, value in tensors.items() if key.startswith("state.")}
    if "masks" in tensors:
        state["routing.table"] = tensors["masks"].bool()
    elif model.routing is not None:
        state["routing.table"] = model.routing.table
    model.load_state_dict(state)
    return model, tensors, metadata


@torch.inference_mode()
def released_outputs(device: str) -> Check:
    """Outputs of the released DiT, each way of routing, in both precisions."""
    worst = dict.fromkeys(TOLERANCES, 0.0)
    for name in NAMES:
        model, tensors, _ = released_dit(name)
        given = [tensors[key].to(device) for key in ("x", "t", "y")]
        for precision in TOLERANCES:
            reduced = precision == "bfloat16"
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=reduced):
                ours = model.to(device)(*given).float().cpu()
            error = (ours - tensors["out"]).abs().max() / tensors["out"].abs().max()
            worst[precision] = max(worst[precision], float(error))
    good = all(worst[name] <= limit for name, limit in TOLERANCES.items())
    shown = ", ".join(f"{name} {worst[name]:.1e} (accepted {TOLERANCES[name]:g})" for name in worst)
    return judged("released code", good, f"largest relative error: {shown}", **worst)


def random_numbers(device: str) -> Check:
    """Philox's words exactly, normal values to rounding, as on the CPU."""
    keys = torch.tensor([stream_words(0, "gpucheck", index) for index in range(64)])
    numbers = torch.arange(64) + 2**31
    words = [philox.words(keys.to(on), numbers.to(on), 999) for on in ("cpu", device)]
    equal = all(torch.equal(a, b.cpu()) for a, b in zip(*words, strict=True))
    values = [philox.normal(keys.to(on), numbers.to(on), (4, 33)) for on in ("cpu", device)]
    error = float((values[0] - values[1].cpu()).abs().max())
    says = f"words {'equal' if equal else 'differ'}, normal values differ by {error:.1e} at most"
    return judged("random numbers", equal and error < 1e-4, says, words=equal, error=error)
