"""Files in the formats of the paper's datasets, networks and references, made of noise.

Everything is small and means nothing; formats, file names and, but for widths and depths, the
architectures are the real ones. With them the paper's protocol runs from its first job to its page.
"""

import io
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from dtr.config.pretrained import CLEAN_FID, InceptionSettings
from dtr.support.errors import Refusal
from dtr.support.files import read_json, replacing, write_json

CLASSES = ("n01440764", "n01443537", "n01484850")  # of ImageNet, by their wnid
IMAGES, VALIDATION = 24, 12  # of each dataset for training; of COCO for prompts
CAPTIONS = 5  # of each image
# Side of the images in a published reference, if it has any, by its name.
REFERENCES = {
    "VIRTUAL_imagenet256_labeled.npz": 256,
    "VIRTUAL_imagenet64_labeled.npz": 64,
    "fid_stats_mscoco256_val.npz": None,
}
FEATURES = 192  # of an image in them
WORDS = ("red", "bus", "dog", "street", "two", "people", "left", "beside", "table", "sky")
DONE, REVISION = "made.json", 2  # 2: with clean-fid's network


def make_material(folder: Path) -> bool:
    """Write datasets, networks and references below `folder`; False where it was done before."""
    if (folder / DONE).is_file() and read_json(folder / DONE).get("revision") == REVISION:
        return False
    draws = np.random.default_rng(0)
    _ffhq(folder / "ffhq.zip", draws)
    _imagenet(folder / "ILSVRC2012_img_train.tar", draws)
    _coco(folder / "coco", draws)
    torch.manual_seed(0)
    _autoencoder(folder / "sd-vae-ft-ema")
    _clip(folder / "clip-vit-large-patch14")
    _inception(folder / "inception")
    _inception_clean(folder / "inception")
    for name, side in REFERENCES.items():
        _reference(folder / "references" / name, side, draws)
    write_json(folder / DONE, {"revision": REVISION, "images": IMAGES, "validation": VALIDATION})
    return True


def _picture(draws: np.random.Generator, mode: str = "RGB", side: int | None = None) -> Image.Image:
    """A few smooth waves in any mode; not square unless a side is given."""
    width, height = (side, side) if side else draws.integers(260, 600, size=2)
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    angles = draws.uniform(-12, 12, size=(3, 2))
    waves = [np.sin(a * x + b * y + draws.uniform(0, 6)) for a, b in angles]
    image = Image.fromarray((127.5 * (1 + np.stack(waves, axis=-1))).astype(np.uint8))
    return image.convert(mode)


def _encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _ffhq(path: Path, draws: np.random.Generator) -> None:
    """PNG files of 1024 pixels in folders of a thousand, in a zip."""
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for number in range(IMAGES):
            name = f"images1024x1024/{number // 1000 * 1000:05d}/{number:05d}.png"
            archive.writestr(name, _encoded(_picture(draws, side=1024), "PNG", compress_level=1))
        archive.writestr("LICENSE.txt", "not an image")


def _imagenet(path: Path, draws: np.random.Generator) -> None:
    """A tar of one tar per class, with the modes that ImageNet has: grey, CMYK, turned by EXIF."""
    with replacing(path) as temporary, tarfile.open(temporary, "w") as archive:
        for wnid in CLASSES:
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as own:
                for number in range(IMAGES // len(CLASSES)):
                    mode = ("RGB", "RGB", "L", "CMYK")[number % 4]
                    exif = Image.Exif()
                    exif[0x0112] = 1 + number % 8  # the orientation
                    content = _encoded(_picture(draws, mode), "JPEG", exif=exif)
                    _member(own, f"{wnid}_{number}.JPEG", content)
            _member(archive, f"{wnid}.tar", inner.getvalue())


def _member(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _coco(folder: Path, draws: np.random.Generator) -> None:
    """Folders of JPEG files and caption files, as of 2014."""
    for split, count in (("train2014", IMAGES), ("val2014", VALIDATION)):
        (folder / split).mkdir(parents=True, exist_ok=True)
        images, annotations = [], []
        for number in range(count):
            identity = 1000 * len(split) + number
            name = f"COCO_{split}_{identity:012d}.jpg"
            (folder / split / name).write_bytes(_encoded(_picture(draws), "JPEG"))
            images.append({"id": identity, "file_name": name})
            for _ in range(CAPTIONS):
                text = "A " + " ".join(draws.choice(WORDS, size=6)) + "."
                own = {"image_id": identity, "id": len(annotations), "caption": text}
                annotations.append(own)
        file = folder / "annotations" / f"captions_{split}.json"
        write_json(file, {"images": images, "annotations": annotations})


def _autoencoder(folder: Path) -> None:
    """An AutoencoderKL of Stable Diffusion's shape of latents, eight channels wide."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    AutoencoderKL(
        block_out_channels=(8,) * 4,
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    ).save_pretrained(folder)


def _clip(folder: Path) -> None:
    """A CLIP model with 77 tokens of width 768 as it is published, but of one layer."""
    try:
        from transformers import CLIPConfig, CLIPModel
        from transformers.utils import logging
    except ImportError:
        raise Refusal(
            "transformers is not installed, which writes and reads CLIP; install the extra `paper`"
        ) from None
    logging.disable_progress_bar()
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(c) for c in (*plain, *(256 + n for n in range(256 - len(plain))))]
    words = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    ends = {"bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}
    size = {"num_hidden_layers": 1, "hidden_size": 768, "num_attention_heads": 12}
    text = size | ends | {"vocab_size": 514, "intermediate_size": 768}
    image = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2,
             "intermediate_size": 16, "image_size": 32, "patch_size": 16}  # fmt: skip
    CLIPModel(CLIPConfig(text_config=text, vision_config=image)).save_pretrained(folder)
    write_json(folder / "vocab.json", {word: number for number, word in enumerate(words)})
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")


def _inception(folder: Path) -> None:
    """torch-fidelity's file, of the real architecture; activations neither vanish nor explode."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_, **__) -> None:
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight)

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    with replacing(folder / InceptionSettings.origin.files[0]) as temporary:
        torch.save(Untrained("rehearsal", ["2048"], empty).state_dict(), temporary)


class _Script(nn.Module):
    """What clean-fid's TorchScript file offers, of one layer of 64 features."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 64, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        self.output = nn.Linear(64, 1008)

    def forward(
        self,
        img: torch.Tensor,
        return_features: bool = False,
        use_fp16: bool = False,
        no_output_bias: bool = False,
    ) -> torch.Tensor:
        pixels = nn.functional.interpolate(img.float(), [299, 299], mode="bilinear")
        features = self.layers((pixels - 127.5) / 127.5).flatten(1)
        if return_features:
            return features
        return self.output(features).softmax(1)


def _inception_clean(folder: Path) -> None:
    with replacing(folder / CLEAN_FID) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is what clean-fid's file is
        torch.jit.save(torch.jit.script(_Script()), str(temporary))


def _reference(path: Path, side: int | None, draws: np.random.Generator) -> None:
    """Statistics and, for ADM's evaluator, labelled images, as in the published files."""
    arrays = {"mu": draws.normal(size=FEATURES), "sigma": np.eye(FEATURES)}
    if side is not None:
        pictures = [np.asarray(_picture(draws, side=side)) for _ in range(VALIDATION)]
        labels = draws.integers(len(CLASSES), size=VALIDATION)
        arrays |= {"arr_0": np.stack(pictures), "arr_1": labels}
    with replacing(path) as temporary:
        np.savez(temporary, **arrays)
