"""Static files, straight from the apps' folders: no step goes before, and the wire has them compressed."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from typing import Any, cast
from wsgiref.headers import Headers

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import parse_etags
from servestatic.middleware import ServeStaticMiddleware
from servestatic.responders import StaticFile
from servestatic.utils import parse_accept_encoding

# What is text. Fonts and pictures are packed already.
COMPRESSIBLE = ("text/", "application/javascript", "application/json", "image/svg+xml")


class StaticFilesMiddleware(ServeStaticMiddleware):  # type: ignore[misc]
    """Static files, with DEBUG off too. Looks for one below their path only: with DEBUG that takes a thread.

    A text is compressed when it is first asked for, and then stays in memory: the apps' folders may be read-only, and
    most files are never asked for. It has a tag of its own. With DEBUG files change, and go out as they are.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._packed: dict[str, bytes] = {}
        super().__init__(*args, **kwargs)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer with the file, or hand on."""
        if not request.path_info.startswith(self.static_prefix):
            return cast(HttpResponseBase, await self.get_response(request))
        file = None if self.autorefresh else self.files.get(request.path_info)
        if isinstance(file, StaticFile) and _takes_packed(file, request):
            return await self._pack(file, request)
        return cast(HttpResponseBase, await super().__call__(request))

    def add_mime_headers(self, headers: Headers, path: str, url: str) -> None:
        """Say what the file is, and where it is a text that its form depends on who asks."""
        super().add_mime_headers(headers, path, url)
        if str(headers["Content-Type"]).startswith(COMPRESSIBLE):
            headers["Vary"] = "Accept-Encoding"

    async def _pack(self, file: StaticFile, request: HttpRequest) -> HttpResponse:
        path, plain = file.get_path_and_headers(request.META)
        tag = f'{file.etag[:-1]}-gz"'
        if (known := _known(file, request, tag)) is not None:
            answer = HttpResponse(status=304, headers=dict(file.not_modified_response.headers) | {"ETag": known})
            del answer["Content-Type"]  # what the asker has keeps its own
            return answer
        if (content := self._packed.get(path)) is None:
            content = self._packed[path] = await asyncio.to_thread(_gzip, path)
        packed = {"Content-Encoding": "gzip", "Content-Length": str(len(content)), "ETag": tag}
        return HttpResponse(content if request.method == "GET" else b"", headers=dict(plain) | packed)


def _takes_packed(file: StaticFile, request: HttpRequest) -> bool:
    """Whether the whole of a text is asked for by one who takes gzip, or what is to be known of it."""
    _path, headers = file.get_path_and_headers(request.META)
    named = dict(headers)
    return (
        request.method in {"GET", "HEAD"}
        and bool(file.etag)
        and "Accept-Encoding" in str(named.get("Vary"))
        and "Content-Encoding" not in named
        and not _wants_part(file, request)
        and "gzip" in parse_accept_encoding(request.META.get("HTTP_ACCEPT_ENCODING", ""))
    )


def _wants_part(file: StaticFile, request: HttpRequest) -> bool:
    """Parts are of the file as it is: who has some of it packed gets the whole."""
    return "HTTP_RANGE" in request.META and not request.META.get("HTTP_IF_RANGE", "").endswith('-gz"')


def _known(file: StaticFile, request: HttpRequest, tag: str) -> str | None:
    """Return the tag of what the asker has already, packed or not, None where that is not what there is.

    What is on the way may weaken tags.
    """
    asked = request.META.get("HTTP_IF_NONE_MATCH")
    if asked is None:
        return tag if file.is_not_modified(request.META) else None
    had = {known.removeprefix("W/") for known in parse_etags(asked)}
    return next((ours for ours in (tag, file.etag) if ours in had), tag if "*" in had else None)


def _gzip(path: str) -> bytes:
    return gzip.compress(Path(path).read_bytes(), mtime=0)
