"""What becomes of an image that is sent: only its pixels are kept."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from conversations.exceptions import ImageTooLarge, UnsupportedImage
from conversations.files.images import MOST_BYTES, clean

from . import pictures


def opened(content: bytes) -> Image.Image:
    image = Image.open(BytesIO(content))
    image.load()
    return image


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp"), ("GIF", "image/png")],
)
def test_each_kind_is_kept_as_itself_and_a_gif_as_png(kind: str, content_type: str) -> None:
    kept = clean(pictures.picture(kind, mode="P" if kind == "GIF" else "RGB"))
    assert (kept.content_type, kept.width, kept.height) == (content_type, 8, 6)
    assert Image.MIME[str(opened(kept.content).format)] == content_type


@pytest.mark.parametrize(
    "upload",
    [
        pictures.gif_with_script(),
        pictures.jpeg_with_html(),
        pictures.png_with_zip(),
        *(pictures.with_exif(kind) for kind in ("PNG", "JPEG", "WEBP")),
        *(pictures.picture(kind) + pictures.SCRIPT for kind in ("PNG", "JPEG", "WEBP", "GIF")),
    ],
    ids=lambda upload: str(upload[:4]),
)
def test_nothing_but_pixels_is_kept(upload: bytes) -> None:
    assert b"canary" in upload
    kept = clean(upload)
    assert b"canary" not in kept.content
    for other in (b"PK\x03\x04", b"<html", b"<script", b"Exif", b"eXIf", b"ICC"):
        assert other not in kept.content
    assert not opened(kept.content).getexif()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_an_image_is_kept_upright(kind: str) -> None:
    kept = clean(pictures.with_exif(kind))
    assert (kept.width, kept.height) == opened(kept.content).size == (6, 8)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_kept(kind: str) -> None:
    kept = opened(clean(pictures.animated(kind)).content)
    assert getattr(kept, "n_frames", 1) == 1
    assert max(kept.convert("L").getextrema()) < 10  # type: ignore[type-var, operator]


@pytest.mark.parametrize(
    ("mode", "kind", "kept"),
    [
        ("RGBA", "PNG", "RGBA"),
        ("LA", "PNG", "RGBA"),
        ("RGBA", "WEBP", "RGBA"),
        ("L", "PNG", "L"),
        ("1", "PNG", "L"),
        ("I;16", "PNG", "L"),
        ("CMYK", "JPEG", "RGB"),
        ("L", "JPEG", "L"),
        ("P", "GIF", "RGB"),
    ],
)
def test_every_kind_of_pixel_is_read(mode: str, kind: str, kept: str) -> None:
    assert opened(clean(pictures.picture(kind, mode=mode)).content).mode == kept


def test_what_may_be_seen_through_may_still_be() -> None:
    upload = BytesIO()
    Image.new("P", (8, 6), 3).save(upload, "GIF", transparency=3)
    kept = opened(clean(upload.getvalue()).content)
    assert kept.mode == "RGBA"
    assert kept.getpixel((0, 0))[3] == 0  # type: ignore[index]


def test_sixteen_bits_become_eight_and_keep_their_light() -> None:
    upload = BytesIO()
    Image.new("I;16", (8, 6), 128 * 256).save(upload, "PNG")
    assert opened(clean(upload.getvalue()).content).getpixel((0, 0)) == 128


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_a_large_image_is_made_smaller(settings: Any, kind: str) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "IMAGE_SIDE": 100}
    kept = clean(pictures.picture(kind, (400, 300)))
    assert (kept.width, kept.height) == (100, 75)
    assert clean(pictures.picture(kind, (3, 3000))).width == 1


def test_what_models_would_refuse_for_its_bytes_becomes_a_jpeg() -> None:
    upload = pictures.noise("PNG", (1500, 1500))
    assert len(upload) > MOST_BYTES
    kept = clean(upload)
    assert (kept.content_type, kept.width) == ("image/jpeg", 1500)
    assert len(kept.content) < MOST_BYTES


@pytest.mark.parametrize(
    "upload",
    [
        pictures.png_that_says(60_000, 60_000),
        pictures.png_that_says(10_000, 5_001),
        pictures.png_that_says(40_000, 1),
        pictures.webp_that_says(16_000_000, 200),
    ],
    ids=["60000²", "just over", "long", "WebP"],
)
def test_too_many_pixels_are_refused_before_they_are_decoded(upload: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda _image: pytest.fail("it was decoded"))
    with pytest.raises(ImageTooLarge):
        clean(upload)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_how_many_pixels_are_too_many_is_a_setting(kind: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = pictures.picture(kind)
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "MAX_IMAGE_PIXELS": 48}
    assert clean(upload).width == 8
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "MAX_IMAGE_PIXELS": 47}
    monkeypatch.setattr(Image.Image, "load", lambda _image: pytest.fail("it was decoded"))
    with pytest.raises(ImageTooLarge):
        clean(upload)


def test_a_jpeg_of_endless_scans_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    upload = pictures.jpeg_of_scans(1_000)
    monkeypatch.setattr(Image.Image, "load", lambda _image: pytest.fail("it was decoded"))
    with pytest.raises(UnsupportedImage):
        clean(upload)


def test_a_progressive_jpeg_is_read() -> None:
    assert clean(pictures.noise("JPEG", progressive=True)).width == 64


TIFF, BMP, ICO = (pictures.picture(kind) for kind in ("TIFF", "BMP", "ICO"))


@pytest.mark.parametrize(
    "upload",
    [
        b"",
        b"GIF89a",
        b"not an image",
        pictures.SVG,
        b"\xef\xbb\xbf" + pictures.SVG,
        TIFF,
        BMP,
        ICO,
        b"%PDF-1.7\n",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n",
        b" " + pictures.picture("PNG"),
    ],
    ids=lambda upload: str(upload[:8]),
)
def test_anything_else_is_refused(upload: bytes) -> None:
    with pytest.raises(UnsupportedImage):
        clean(upload)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_half_an_image_is_none(kind: str, part: float) -> None:
    whole = pictures.noise(kind, (200, 200))
    with pytest.raises(UnsupportedImage):
        clean(whole[: int(len(whole) * part)])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_broken_images_are_refused_or_read_and_nothing_else(kind: str) -> None:
    """Each byte of the head, and some behind it, spoiled."""
    whole = pictures.noise(kind, (32, 32))
    for place in [*range(8, 64), *range(64, len(whole), 97)]:
        spoiled = bytearray(whole)
        spoiled[place] ^= 0xFF
        try:
            kept = clean(bytes(spoiled))
        except (UnsupportedImage, ImageTooLarge):
            continue
        assert opened(kept.content).size == (kept.width, kept.height)
