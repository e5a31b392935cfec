"""An image file as the paper's networks see it: upright, RGB, cut to a square as ADM does."""

import io

import numpy as np
from PIL import Image, ImageOps

from dtr.data.readable import Unreadable

# Others (PostScript, for one, starts a program) are not tried, whatever a file's name says.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")


def decode(content: bytes, side: int) -> np.ndarray:
    """The image in a file's bytes as uint8 [side, side, 3]; `Unreadable` says why it is not one.

    In this order: the first frame, turned upright as its EXIF orientation says (ADM's loader does
    not), `to_rgb`, `centre_crop`. More pixels than Pillow's limit (a decompression bomb) are
    unreadable.
    """
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]  # Pillow can be built without WebP
    try:
        with Image.open(io.BytesIO(content), formats=known) as image:
            image.load()
            return centre_crop(to_rgb(ImageOps.exif_transpose(image)), side)
    except Image.UnidentifiedImageError:  # its own text names an object in memory
        raise Unreadable("no image, or damaged") from None
    except Exception as error:  # whatever Pillow raises for a damaged file
        raise Unreadable(" ".join(str(error).split()) or type(error).__name__) from None


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as RGB of 8 bits.

    Grey becomes three equal channels, a palette its colours, CMYK what Pillow makes of it without
    colour profiles. Of 16 bits the upper 8 are kept, as Pillow does for colours. Whatever is
    transparent lies on white. Values of 32 bits and floating-point ones are refused (ValueError):
    nothing says which of them is white.
    """
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("grey values beyond 16 bits")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels")
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def centre_crop(image: Image.Image, side: int) -> np.ndarray:
    """ADM's crop (center_crop_arr of its image_datasets.py): uint8 [side, side, 3].

    While the smaller side is at least 2 x `side`, both are halved with a box filter; then the
    image is scaled bicubically so that the smaller one is `side`, and its centre is cut out.
    Smaller images are enlarged.
    """
    while min(image.size) >= 2 * side:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = side / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    if width * height > Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"too oblong: {width} x {height} pixels when scaled")
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side].copy()
