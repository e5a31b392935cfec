"""Image files of every kind become upright RGB squares, cut as ADM cuts them."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from dtr.data.crops import centre_crop, decode
from dtr.data.readable import Unreadable

ODD = [(5, 7), (7, 5), (8, 8), (9, 31), (16, 17), (33, 16), (67, 41), (3, 4), (129, 100)]


def noise(width: int, height: int) -> np.ndarray:
    draws = np.random.default_rng(width * 1000 + height)
    return draws.integers(0, 256, (height, width, 3), dtype=np.uint8)


def saved(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def adm(image: Image.Image, side: int) -> np.ndarray:
    """The recipe, spelled with explicit sizes: box halvings, one bicubic step, the centre."""
    width, height = image.size
    while min(width, height) >= 2 * side:
        width, height = width // 2, height // 2
        image = image.resize((width, height), resample=Image.BOX)
    scale = side / min(width, height)
    image = image.resize((round(width * scale), round(height * scale)), resample=Image.BICUBIC)
    pixels = np.array(image)
    y, x = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    return pixels[y : y + side, x : x + side]


@pytest.mark.parametrize("size", ODD)
@pytest.mark.parametrize("side", [4, 8, 11])
def test_the_crop_is_adms(size, side):
    image = Image.fromarray(noise(*size))
    found = centre_crop(image, side)
    assert (found.dtype, found.shape) == (np.uint8, (side, side, 3))
    np.testing.assert_array_equal(found, adm(image, side))
    np.testing.assert_array_equal(decode(saved(image), side), found)


def test_a_halving_is_the_mean_of_two_by_two():
    """Columns first, then rows, each rounded half up; bicubic to the same size is none."""
    pixels = noise(16, 16)
    columns = (pixels[:, ::2].astype(int) + pixels[:, 1::2] + 1) // 2
    squares = (columns[::2] + columns[1::2] + 1) // 2
    np.testing.assert_array_equal(centre_crop(Image.fromarray(pixels), 8), squares)


@pytest.mark.parametrize("across", [False, True])
def test_the_offset_of_the_centre_is_rounded_down(across):
    pixels = noise(4, 9) if not across else noise(9, 4)
    kept = pixels[2:6] if not across else pixels[:, 2:6]
    np.testing.assert_array_equal(centre_crop(Image.fromarray(pixels), 4), kept)


@pytest.mark.parametrize(("size", "side"), [((10, 13), 4), ((3, 3), 8), ((31, 64), 8)])
def test_a_constant_image_stays_constant(size, side):
    found = decode(saved(Image.new("RGB", size, (10, 200, 77))), side)
    assert (found == (10, 200, 77)).all()


def palette(transparent: bool) -> bytes:
    image = Image.new("P", (5, 5), 1)
    image.putpalette([0, 0, 0, 90, 60, 30])
    return saved(image, **({"transparency": 1} if transparent else {}))


def sixteen(value: int, kind: str, mode: str = "I;16") -> bytes:
    order = ">u2" if mode == "I;16B" else "<u2"
    raw = np.full((5, 5), value, dtype=order).tobytes()
    return saved(Image.frombytes(mode, (5, 5), raw), kind)


WHITE = (255, 255, 255)
MODES = {
    "grey": (saved(Image.new("L", (5, 5), 70)), (70, 70, 70)),
    "bits": (saved(Image.new("1", (5, 5), 1)), WHITE),
    "palette": (palette(False), (90, 60, 30)),
    "transparent palette": (palette(True), WHITE),
    "gif": (saved(Image.new("L", (5, 5), 70), "GIF"), (70, 70, 70)),
    "clear": (saved(Image.new("RGBA", (5, 5), (1, 2, 3, 0))), WHITE),
    "opaque": (saved(Image.new("RGBA", (5, 5), (1, 2, 3, 255))), (1, 2, 3)),
    # 51 of 255 is a fifth: a fifth of the colour on four fifths of white.
    "faint": (saved(Image.new("RGBA", (5, 5), (0, 100, 200, 51))), (204, 224, 244)),
    "faint grey": (saved(Image.new("LA", (5, 5), (100, 51))), (224, 224, 224)),
    "a transparent colour": (
        saved(Image.new("RGB", (5, 5), "red"), transparency=(255, 0, 0)),
        WHITE,
    ),
    "no ink": (saved(Image.new("CMYK", (5, 5), (0, 0, 0, 0)), "TIFF"), WHITE),
    "cyan": (saved(Image.new("CMYK", (5, 5), (255, 0, 0, 0)), "TIFF"), (0, 255, 255)),
    "black ink": (saved(Image.new("CMYK", (5, 5), (0, 0, 0, 255)), "JPEG"), (0, 0, 0)),
    "16 bits": (sixteen(0x80FF, "PNG"), (0x80,) * 3),
    "16 bits, white": (sixteen(0xFFFF, "PNG"), WHITE),
    "16 bits, little end first": (sixteen(0x1234, "TIFF"), (0x12,) * 3),
    "16 bits, big end first": (sixteen(0x1234, "TIFF", "I;16B"), (0x12,) * 3),
    "16 bits as 32": (saved(Image.new("I", (5, 5), 0x1234), "TIFF"), (0x12,) * 3),
    "pgm of 16 bits": (b"P5 5 5 65535\n" + b"\x12\x34" * 25, (0x12,) * 3),
    "webp": (saved(Image.new("RGB", (5, 5), (9, 8, 7)), "WEBP", lossless=True), (9, 8, 7)),
    "bmp": (saved(Image.new("RGB", (5, 5), (9, 8, 7)), "BMP"), (9, 8, 7)),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_becomes_rgb(name):
    content, colour = MODES[name]
    assert (decode(content, 5) == colour).all()


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda pixels: pixels),
        (2, lambda pixels: pixels[:, ::-1]),
        (3, lambda pixels: pixels[::-1, ::-1]),
        (6, lambda pixels: np.rot90(pixels, -1)),
        (8, np.rot90),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_pictures_of_a_turned_camera_are_upright(orientation, turned, kind):
    pixels = noise(6, 9)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(Image.fromarray(pixels), kind, exif=exif)
    upright = Image.fromarray(np.ascontiguousarray(turned(pixels)))
    np.testing.assert_array_equal(decode(content, 4), adm(upright, 4))


def test_a_colour_profile_is_not_applied():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    content = saved(Image.new("RGB", (4, 4), (9, 90, 200)), icc_profile=profile)
    assert (decode(content, 4) == (9, 90, 200)).all()


def unreadable(content: bytes, side: int = 8) -> str:
    with pytest.raises(Unreadable) as refused:
        decode(content, side)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_is_no_image_says_so():
    whole = saved(Image.fromarray(noise(40, 40)))
    assert unreadable(b"") == unreadable(b"hello") == "no image, or damaged"
    assert "truncated" in unreadable(whole[: len(whole) // 2])
    jpeg = saved(Image.fromarray(noise(40, 40)), "JPEG")
    assert "truncated" in unreadable(jpeg[: len(jpeg) // 2])
    assert unreadable(saved(Image.new("RGB", (5, 5)), "EPS")) == "no image, or damaged"
    assert "floating-point" in unreadable(saved(Image.new("F", (5, 5)), "TIFF"))
    assert "beyond 16 bits" in unreadable(saved(Image.new("I", (5, 5), 70000), "TIFF"))


def test_bombs_are_unreadable(monkeypatch):
    assert "too oblong" in unreadable(saved(Image.new("L", (3000, 1))), 256)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert "decompression bomb" in unreadable(saved(Image.new("L", (20, 20))))
