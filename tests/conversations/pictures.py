"""Images as people and attackers send them."""

from __future__ import annotations

import base64
import struct
import zlib
from io import BytesIO
from typing import Any

from PIL import Image

SCRIPT = b"*/=1;alert('canary')//<script>alert('canary')</script>"
JPEG_COMMENT = b"\xff\xfe"
ORIENTATION, CAMERA = 0x0112, 0x0110


def picture(kind: str = "PNG", size: tuple[int, int] = (8, 6), mode: str = "RGB", **options: Any) -> bytes:
    """An image of one colour."""
    written = BytesIO()
    Image.new(mode, size).save(written, kind, **options)
    return written.getvalue()


def data_url(content: bytes, kind: str = "png") -> str:
    """An image as those send it that send no form."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def noise(kind: str = "PNG", size: tuple[int, int] = (64, 64), **options: Any) -> bytes:
    """An image that no format makes small."""
    written = BytesIO()
    bands = [Image.effect_noise(size, 100) for _band in range(3)]
    Image.merge("RGB", bands).save(written, kind, **options)
    return written.getvalue()


def animated(kind: str) -> bytes:
    """Two frames: black, then white."""
    written = BytesIO()
    second = Image.new("RGB", (8, 6), "white")
    Image.new("RGB", (8, 6)).save(written, kind, save_all=True, append_images=[second], duration=100)
    return written.getvalue()


def with_exif(kind: str, size: tuple[int, int] = (8, 6)) -> bytes:
    """Taken by a camera that was held upright, and says where."""
    exif = Image.Exif()
    exif[CAMERA] = "canary camera"
    exif[ORIENTATION] = 6
    return picture(kind, size, exif=exif.tobytes())


def jpeg_with_html() -> bytes:
    """A JPEG whose comment is a page."""
    plain = picture("JPEG")
    page = b"<html>" + SCRIPT + b"</html>"
    return plain[:2] + JPEG_COMMENT + struct.pack(">H", len(page) + 2) + page + plain[2:]


def gif_with_script() -> bytes:
    """A GIF that a page can load as a script: the width begins a comment of the language."""
    plain = bytearray(picture("GIF", (0x2A2F, 1)))
    assert plain[6:8] == b"/*"
    return bytes(plain) + SCRIPT


def png_with_zip() -> bytes:
    """A PNG with the canary in a text chunk, and an archive behind it."""
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_text("Comment", SCRIPT.decode())
    return picture("PNG", pnginfo=texts) + b"PK\x03\x04" + SCRIPT + b"PK\x05\x06" + b"\0" * 18


def png_that_says(width: int, height: int) -> bytes:
    """A PNG of hardly any bytes whose head says how large it is."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def webp_that_says(width: int, height: int) -> bytes:
    """A WebP of hardly any bytes whose head says how large it is."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunk = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + size
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def jpeg_of_scans(scans: int) -> bytes:
    """A progressive JPEG with scans that bring nothing, each of which costs a pass over all pixels."""
    plain = picture("JPEG", progressive=True)
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x01\x01\x00"
    return plain[:-2] + scan * scans + plain[-2:]


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="6"><script>alert(1)</script></svg>'
