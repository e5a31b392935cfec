"""U-Nets, small and of the paper's size, and what goes into them."""

import torch

from dtr.backbones.adm import ADM
from dtr.backbones.adm_blocks import ResBlock
from dtr.backbones.build import build_backbone
from dtr.config.backbones import AdmSize, Inputs
from dtr.routing import Random, Unrouted, Windows
from dtr.support.settings import PartSettings

NONE = Unrouted(type="none")
DTR = Windows(type="dtr", beta=0.8, alpha=4.0)
RANDOM = Random(type="random", beta=0.8, seed=0)
SMALL = {
    "type": "adm",
    "model_channels": 16,
    "channel_mult": [1, 2],
    "num_res_blocks": 1,
    "attention_downsampling": [2],
    "num_head_channels": 8,
    "dropout": 0.1,
    "norm_groups": 8,
}
TOLD = {"input_size": 8, "in_channels": 3, "num_classes": 10, "label_dropout": 0.1}
IMAGENET_64 = SMALL | {
    "model_channels": 192,
    "channel_mult": [1, 2, 3, 4],
    "num_res_blocks": 3,
    "attention_downsampling": [2, 4, 8],
    "num_head_channels": 64,
    "norm_groups": 32,
}
IMAGENET_64_TOLD = TOLD | {"input_size": 64, "num_classes": 1000, "label_dropout": 0.0}


def unet(size: dict, told: dict, routing: PartSettings, changes: dict) -> ADM:
    """Each change goes to the size or to the inputs, whichever has a setting of its name."""
    own = {name: value for name, value in changes.items() if name not in TOLD}
    given = {name: value for name, value in changes.items() if name in TOLD}
    return build_backbone(AdmSize(**(size | own)), Inputs(**(told | given)), routing)


def build(routing: PartSettings = NONE, **changes) -> ADM:
    torch.manual_seed(0)
    return unet(SMALL, TOLD, routing, changes).eval()


def randomised(model):
    """Last convolutions start at zero; give every parameter a value so that all paths count."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def inputs(count: int = 3):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(count, 3, 8, 8, generator=generator)
    return x, torch.tensor([0, 500, 999][:count]), torch.tensor([1, 10, 3][:count])


def on_meta(routing: PartSettings = NONE, **changes) -> ADM:
    with torch.device("meta"):
        return unet(IMAGENET_64, IMAGENET_64_TOLD, routing, changes)


def block_and_inputs(out_channels: int = 16, resample: str = "same"):
    torch.manual_seed(3)
    block = ResBlock(16, out_channels, 24, groups=8, dropout=0.1, resample=resample)
    block.in_layers[0].place = 0
    mask = torch.ones(2, 16, 1, 1)
    mask[0, :4] = mask[1, 12:] = 0  # whole groups of two channels
    return randomised(block).eval(), torch.randn(2, 16, 8, 8), torch.randn(2, 24), mask
