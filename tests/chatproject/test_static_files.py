"""Static files: compressed for those who take it, from the apps' folders, and as they are for all others."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.test.client import AsyncRequestFactory

from chatproject.static_files import StaticFilesMiddleware

SCRIPT = "/static/conversations/page/main.js"
FONT = "/static/conversations/vendor/Temml.woff2"


async def elsewhere(_request: HttpRequest) -> HttpResponseBase:
    raise AssertionError("there is such a file")


@pytest.fixture
def files() -> StaticFilesMiddleware:
    return StaticFilesMiddleware(elsewhere)


async def get(files: StaticFilesMiddleware, path: str, **headers: str) -> tuple[HttpResponseBase, bytes]:
    answer = await files(AsyncRequestFactory().get(path, headers={"Accept-Encoding": "gzip, br", **headers}))
    if not answer.streaming:
        return answer, answer.content  # type: ignore[attr-defined]
    parts = [part async for part in answer]  # type: ignore[attr-defined]
    return answer, b"".join(parts)


def found(path: str) -> bytes:
    file = finders.find(path.removeprefix("/static/"))
    assert file
    return Path(file).read_bytes()


async def test_a_text_is_compressed_for_those_who_take_it(files: StaticFilesMiddleware) -> None:
    for _again in range(2):
        answer, body = await get(files, SCRIPT)
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Content-Length"] == str(len(body))
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert answer.headers["Content-Type"].startswith("text/javascript")
        assert gzip.decompress(body) == found(SCRIPT)
        assert len(body) < len(found(SCRIPT)) / 2


@pytest.mark.parametrize("accepted", ["", "br", "gzip;q=0", "identity"])
async def test_others_get_it_as_it_is(files: StaticFilesMiddleware, accepted: str) -> None:
    answer, body = await get(files, SCRIPT, **{"Accept-Encoding": accepted})
    assert "Content-Encoding" not in answer.headers
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert body == found(SCRIPT)


async def test_a_font_is_packed_already(files: StaticFilesMiddleware) -> None:
    answer, body = await get(files, FONT)
    assert "Content-Encoding" not in answer.headers
    assert "Vary" not in answer.headers
    assert body == found(FONT)


async def test_a_part_is_one_of_the_file(files: StaticFilesMiddleware) -> None:
    answer, body = await get(files, SCRIPT, Range="bytes=2-9")
    assert answer.status_code == 206
    assert "Content-Encoding" not in answer.headers
    assert body == found(SCRIPT)[2:10]


async def test_who_has_it_is_told_so(files: StaticFilesMiddleware) -> None:
    first, _body = await get(files, SCRIPT)
    answer, body = await get(files, SCRIPT, **{"If-None-Match": first.headers["ETag"]})
    assert (answer.status_code, body) == (304, b"")
    assert answer.headers["Vary"] == "Accept-Encoding"


async def test_with_debug_files_change_and_go_out_as_they_are(settings: Any) -> None:
    settings.DEBUG = True
    answer, body = await get(StaticFilesMiddleware(elsewhere), SCRIPT)
    assert "Content-Encoding" not in answer.headers
    assert body == found(SCRIPT)
