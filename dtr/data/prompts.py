"""The list of captions that prompt the samples: made by a rule, so that anybody has the same.

COCO's captions may not be passed on, the rule and the hash of what it gives may. With 40,504
validation images and 50,000 samples each image prompts once, and 9,496 of them a second time.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dtr.data.captions import evaluation_prompts, read_captions
from dtr.data.datasets import INDEX, ImageDataset
from dtr.support.errors import Refusal
from dtr.support.files import hash_file, read_json, write_json

COUNT, SEED = 50_000, 0
RULE = (
    "Images in the order of their file names, captions of an image in the order of their ids, "
    "runs of blanks made one. Round r = 0, 1, ... goes through all images in an order of its own "
    "and takes of each its caption number r in an order of that image's own; images that have no "
    "more captions are passed over. Both orders are numpy.random.Generator(Philox(key))"
    ".permutation(n), key the first 16 bytes, big-endian, of the SHA-256 of "
    "repr((seed, 'prompt order', r)) and repr((seed, 'prompt', i)), i the number of the image."
)


def prompt_facts(
    captions: Sequence[Sequence[str]], *, count: int = COUNT, seed: int = SEED
) -> dict[str, Any]:
    """How the list of these images' captions is made, and its hash, as JSON types.

    sha256: of the prompts in UTF-8, each followed by a line break. Of fewer captions than `count`
    all are on the list.
    """
    count = min(count, sum(map(len, captions)))
    chosen = evaluation_prompts(captions, count, seed=seed)
    digest = hashlib.sha256()
    for image, number in chosen:
        digest.update(captions[image][number].encode() + b"\n")
    return {"rule": RULE, "seed": seed, "count": count, "sha256": digest.hexdigest()}


def write_prompts(source: Path, out: Path, *, count: int, seed: int) -> dict[str, Any]:
    """Write the list of the captions of a file in COCO's format, or of a dataset's test images.

    source: captions_val2014.json, or the manifest.json of a prepared dataset. The same list if no
    image was left out when the dataset was prepared. Returns the facts, which are written too.
    """
    captions, images = _captions(source)
    chosen = evaluation_prompts(captions, count, seed=seed)
    facts = prompt_facts(captions, count=count, seed=seed)
    prompts = [{"image": images[i], "caption": captions[i][number]} for i, number in chosen]
    origin = {"file": source.name, "file_sha256": hash_file(source), "images": len(captions)}
    write_json(out, facts | origin | {"prompts": prompts})
    return facts


def _captions(source: Path) -> tuple[list[list[str]], list[str]]:
    """Captions and names of the images that may prompt, in the order of the rule."""
    content = read_json(source)
    if not (isinstance(content, dict) and INDEX in content.get("files", ())):
        listed = read_captions(source)
        return [listed[name].captions for name in sorted(listed)], sorted(listed)
    dataset = ImageDataset.open(source)
    if "captions" not in dataset.index:
        raise Refusal(f"{source}: the images of this dataset have no captions")
    rows = dataset.positions("test")
    names = dataset.index["path"].to_numpy()[rows].tolist()
    captions = [list(own) for own in dataset.index["captions"].to_numpy()[rows]]
    return captions, [name.rpartition("/")[2] for name in names]
