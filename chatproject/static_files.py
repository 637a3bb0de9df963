"""Static files, straight from the apps' folders: no step goes before, and the wire has them compressed."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from typing import Any, cast
from wsgiref.headers import Headers

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from servestatic.middleware import ServeStaticMiddleware
from servestatic.responders import StaticFile
from servestatic.utils import parse_accept_encoding

from .asked import is_static

# What is text. Fonts and pictures are packed already.
COMPRESSIBLE = ("text/", "application/javascript", "application/json", "image/svg+xml")


class StaticFilesMiddleware(ServeStaticMiddleware):  # type: ignore[misc]
    """Static files, with DEBUG off too. Looks for one below their path only: with DEBUG that takes a thread.

    A text is compressed when it is first asked for, and then stays in memory: the apps' folders may be read-only, and
    most files are never asked for. With DEBUG files change, and go out as they are.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._packed: dict[str, bytes] = {}
        super().__init__(*args, **kwargs)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer with the file, or hand on."""
        if not is_static(request):
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
        path, headers = file.get_path_and_headers(request.META)
        if (content := self._packed.get(path)) is None:
            content = self._packed[path] = await asyncio.to_thread(_gzip, path)
        packed = {"Content-Encoding": "gzip", "Content-Length": str(len(content))}
        return HttpResponse(content, headers=dict(headers) | packed)


def _takes_packed(file: StaticFile, request: HttpRequest) -> bool:
    """Whether the whole of a text is asked for by one who takes gzip and does not have it."""
    _path, headers = file.get_path_and_headers(request.META)
    return (
        request.method == "GET"
        and ("Vary", "Accept-Encoding") in headers
        and "HTTP_RANGE" not in request.META
        and "gzip" in parse_accept_encoding(request.META.get("HTTP_ACCEPT_ENCODING", ""))
        and not file.is_not_modified(request.META)
    )


def _gzip(path: str) -> bytes:
    return gzip.compress(Path(path).read_bytes(), mtime=0)
