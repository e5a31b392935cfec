"""The feature extractor: training, features, loading, and its use through torch-fidelity."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dtr.assets import extractor as extractors
from dtr.assets.extractor import DigitsCNN, extract, load_extractor, train_extractor
from dtr.config.stages import ExtractorSettings
from dtr.data.datasets import ImageDataset
from dtr.support.errors import Refusal

SETTINGS = ExtractorSettings(
    type="digits_cnn",
    dataset="blocks",
    width=4,
    features=12,
    steps=80,
    batch_size=32,
    learning_rate=5e-3,
    seed=0,
)


def blocks(count: int = 300, *, size: int = 32) -> ImageDataset:
    """Noise with a bright block whose place is the class, ten classes; every fifth is for test."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % 10
    images = random.integers(0, 60, size=(count, size, size, 3), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = 3 + 15 * (label // 5), 2 + 6 * (label % 5)
        image[row : row + 11, column : column + 4] = 255
    split = np.where(np.arange(count) // 10 % 5 == 0, "test", "train")
    index = pd.DataFrame({"index": np.arange(count), "label": labels, "split": split})
    return ImageDataset(images, index, {"content_hash": "0123abcd"})


def train(settings: ExtractorSettings, dataset: ImageDataset, folder: Path) -> None:
    """The extractor of `settings`, fitted to the training split, in `folder`."""
    parts = dataset.split("train"), dataset.split("test")
    train_extractor(settings, *parts, folder, dataset_hash=dataset.manifest["content_hash"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("assets") / "blocks-cnn"
    train(SETTINGS, blocks(), folder)
    return folder


@pytest.fixture
def copy(trained, tmp_path):
    for name in ("weights.safetensors", "record.json"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    return tmp_path


def test_training_learns_and_records_what_it_did(trained):
    record = json.loads((trained / "record.json").read_text())
    assert record["test_accuracy"] >= 0.95
    assert record["train_accuracy"] >= 0.95
    assert record["settings"] == SETTINGS.plain()
    assert record["dataset_hash"] == "0123abcd"
    assert record["wall_seconds"] > 0
    assert record["provenance"]["packages"]["torch"] == torch.__version__.split("+")[0]


def test_training_is_a_function_of_its_seed_and_leaves_torchs_generator_alone(tmp_path):
    few = SETTINGS.model_copy(update={"steps": 5})
    other = few.model_copy(update={"seed": 1})
    hashes = []
    for global_seed, settings in enumerate((few, few, other)):
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        train(settings, blocks(), tmp_path / str(global_seed))
        assert torch.equal(torch.get_rng_state(), state)
        record = json.loads((tmp_path / str(global_seed) / "record.json").read_text())
        hashes.append(record["weights_sha256"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_training_sees_only_the_train_split(tmp_path):
    few = SETTINGS.model_copy(update={"steps": 5})
    changed = blocks()
    changed.images[changed.positions("test")] = 0
    hashes = []
    for name, dataset in (("a", blocks()), ("b", changed)):
        train(few, dataset, tmp_path / name)
        hashes.append(json.loads((tmp_path / name / "record.json").read_text())["weights_sha256"])
    assert hashes[0] == hashes[1]


def test_shifted_images_keep_their_content_and_are_never_mirrored():
    image = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    image[0, 10:13, 10] = image[0, 12, 10:14] = 200  # an L
    seen = set()
    for step in range(40):
        moved = extractors._shifted(image, seed=0, step=step)
        matches = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if np.array_equal(moved, np.roll(image, (down, right), axis=(1, 2)))
        ]
        assert len(matches) == 1
        seen.update(matches)
    assert len(seen) > 10


def test_network_shapes_and_pixel_scaling():
    model = DigitsCNN(SETTINGS)
    features, logits = model(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    assert features.shape == (2, 12) and logits.shape == (2, 10)
    received = []
    model.body[0].register_forward_hook(lambda _, inputs, __: received.append(inputs[0]))
    model(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 32, 32))
    assert received[0][:, 0, 0, 0].tolist() == [-1.0, 1.0]


def test_features_do_not_depend_on_how_images_are_cut_into_files(trained, monkeypatch):
    monkeypatch.setattr(extractors, "EXTRACTION_BATCH", 64)
    model, images = load_extractor(trained), blocks().images
    whole = extract(model, images)
    assert whole["features"].shape == (300, 12) and whole["logits"].shape == (300, 10)
    assert {values.dtype for values in whole.values()} == {np.dtype(np.float32)}
    for size in (1, 70, 170):
        parts = [extract(model, images[at : at + size]) for at in range(0, 300, size)]
        for name, values in whole.items():
            assert np.array_equal(values, np.concatenate([part[name] for part in parts]))


def test_logits_are_the_head_applied_to_the_features(trained):
    model = load_extractor(trained)
    values = extract(model, blocks().images[:5])
    expected = model.head(torch.from_numpy(values["features"])).numpy()
    assert values["logits"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 32, 32, 3)), np.zeros((2, 3, 32, 32), np.uint8), np.zeros((0, 32, 32, 3), "u1")],
    ids=["float", "channels first", "empty"],
)
def test_other_images_are_refused(trained, images):
    with pytest.raises(Refusal, match=r"expected uint8 \[n, H, W, 3\]"):
        extract(load_extractor(trained), images)


def test_a_dataset_of_another_size_is_refused_before_training(tmp_path):
    with pytest.raises(Refusal, match="10 classes at 64 pixels"):
        train(SETTINGS, blocks(size=64), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def flip_last_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda folder: (folder / "weights.safetensors").unlink(), "weights.safetensors: missing"),
        (lambda folder: flip_last_byte(folder / "weights.safetensors"), "corrupted"),
        (lambda folder: (folder / "record.json").unlink(), "record.json: no such file"),
        (lambda folder: (folder / "record.json").write_text("{}"), "record.json"),
    ],
    ids=["no weights", "changed weights", "no record", "empty record"],
)
def test_missing_or_damaged_files_are_refused_in_one_line(copy, damage, message):
    load_extractor(copy)
    damage(copy)
    with pytest.raises(Refusal, match=message) as refusal:
        load_extractor(copy)
    assert "\n" not in str(refusal.value)


class Images(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


def test_torch_fidelity_computes_the_same_metrics_through_the_registered_name(trained):
    import torch_fidelity

    from dtr.metrics.fid import frechet
    from dtr.metrics.inception_score import inception_score
    from dtr.metrics.precision_recall import precision_recall
    from dtr.metrics.registration import register_extractor

    register_extractor("blocks-cnn")
    register_extractor("blocks-cnn")
    images = blocks().images
    first, second = images[:120], np.flip(images[120:], axis=2).copy()
    theirs = torch_fidelity.calculate_metrics(
        input1=Images(first),
        input2=Images(second),
        fid=True,
        isc=True,
        prc=True,
        isc_splits=1,
        samples_shuffle=False,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
        feature_extractor="blocks-cnn",
        feature_extractor_weights_path=str(trained / "weights.safetensors"),
    )
    model = load_extractor(trained)
    generated, real = extract(model, first), extract(model, second)
    sets = {"generated": generated["features"], "real": real["features"]}
    assert theirs["frechet_inception_distance"] == pytest.approx(frechet(**sets), rel=1e-3)
    score = inception_score(generated["logits"], split=5000)
    assert theirs["inception_score_mean"] == pytest.approx(score, rel=1e-4)
    assert (theirs["precision"], theirs["recall"]) == pytest.approx(
        precision_recall(**sets, neighbours=3), abs=0.01
    )


def test_a_name_torch_fidelity_already_has_is_refused():
    from dtr.metrics.registration import register_extractor

    with pytest.raises(Refusal, match="inception-v3-compat"):
        register_extractor("inception-v3-compat")


def test_the_registered_extractor_asks_for_its_weights():
    from dtr.metrics.registration import DigitsFeatures

    with pytest.raises(Refusal, match="feature_extractor_weights_path is missing"):
        DigitsFeatures("blocks-cnn", ["features"])
