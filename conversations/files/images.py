"""What was sent as an image, decoded and written anew: only pixels pass.

Metadata, what stands behind the image, and what another program might take the file for stay behind. Needs the
processor for up to seconds and memory for all pixels: ``db.files`` has threads for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageOps

from .. import conf
from ..exceptions import ImageTooLarge, UnsupportedImage

# Those that are read, and as what each is kept: an animation is its first frame.
FORMATS = {"PNG": "PNG", "JPEG": "JPEG", "MPO": "JPEG", "WEBP": "WEBP", "GIF": "PNG"}
CONTENT_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
SUFFIXES = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
# How a GIF, a JPEG and so on begin: no decoder sees anything else.
BEGINNINGS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"RIFF")
# No side may be longer, whatever the other is.
LONGEST_SIDE = 32_768
# A decoder goes over all pixels once a scan of a JPEG. Cameras and programs write some ten.
SCAN, MOST_SCANS = b"\xff\xda", 200
# Model servers refuse larger ones (some from 5 MB of base64 on): what is, becomes a JPEG.
MOST_BYTES = 3_600_000
QUALITY = {"JPEG": 90, "WEBP": 90}


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as it is kept."""

    content_type: str
    width: int
    height: int
    content: bytes


def clean(upload: bytes) -> Picture:
    """Return an image as it is kept: upright, at most as large as the setting says, and nothing but pixels.

    Raises ``UnsupportedImage`` for what is no whole PNG, JPEG, WebP or GIF, and ``ImageTooLarge``.
    """
    if not upload.startswith(BEGINNINGS):
        raise UnsupportedImage()
    try:
        with Image.open(BytesIO(upload), formats=("PNG", "JPEG", "WEBP", "GIF")) as image:
            _check_size(image, upload)
            kind = FORMATS[str(image.format)]
            return _encoded(_in_size(image), kind)
    except (UnsupportedImage, ImageTooLarge):
        raise
    except Image.DecompressionBombError:
        raise ImageTooLarge() from None
    except Exception as error:  # decoders raise whatever they stumble over
        raise UnsupportedImage() from error


def _check_size(image: Image.Image, upload: bytes) -> None:
    """Refuse what would cost too much to decode; up to here only the head was read."""
    if image.width * image.height > conf.get().MAX_IMAGE_PIXELS or max(image.size) > LONGEST_SIDE:
        raise ImageTooLarge()
    if upload.startswith(b"\xff\xd8") and upload.count(SCAN) > MOST_SCANS:
        raise UnsupportedImage()


def _in_size(image: Image.Image) -> Image.Image:
    """Return the pixels: RGB, grey, or RGBA where some may be seen through."""
    side = conf.get().IMAGE_SIDE
    image.draft(None, (2 * side, 2 * side))  # a JPEG is decoded at a part of its size
    image.load()
    plain = _in_plain_mode(image)
    plain.thumbnail((side, side), Image.Resampling.LANCZOS)
    return ImageOps.exif_transpose(plain)


def _in_plain_mode(image: Image.Image) -> Image.Image:
    if image.mode in ("RGB", "RGBA", "L"):
        return image
    if image.mode.startswith("I"):  # 16 bits a pixel
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("L" if image.mode == "1" else "RGB")


def _encoded(image: Image.Image, kind: str) -> Picture:
    content = _written(image, kind)
    if len(content) > MOST_BYTES:
        kind = "JPEG"
        content = _written(_on_white(image), kind)
    return Picture(CONTENT_TYPES[kind], image.width, image.height, content)


def _written(image: Image.Image, kind: str) -> bytes:
    # A new image: what was read of the old one beside its pixels is not in it.
    plain = Image.new(image.mode, image.size)
    plain.paste(image)
    written = BytesIO()
    plain.save(written, kind, **({"quality": QUALITY[kind]} if kind in QUALITY else {}))
    return written.getvalue()


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image
    whole = Image.new("RGB", image.size, "white")
    whole.paste(image, mask=image.getchannel("A"))
    return whole
