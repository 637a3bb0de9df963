"""Static files: compressed for those who take it, from the apps' folders, and as they are for all others."""

from __future__ import annotations

import ast
import gzip
import inspect
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.test.client import AsyncRequestFactory

from chatproject import static_files
from chatproject.static_files import StaticFilesMiddleware

SCRIPT = "/static/conversations/page/main.js"
FONT = "/static/conversations/vendor/Temml.woff2"


async def elsewhere(_request: HttpRequest) -> HttpResponseBase:
    raise AssertionError("there is such a file")


@pytest.fixture
def files() -> StaticFilesMiddleware:
    return StaticFilesMiddleware(elsewhere)


async def get(
    files: StaticFilesMiddleware, path: str, method: str = "GET", **headers: str
) -> tuple[HttpResponseBase, bytes]:
    request = AsyncRequestFactory().generic(method, path, headers={"Accept-Encoding": "gzip, br", **headers})
    answer = await files(request)
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


async def tags(files: StaticFilesMiddleware) -> tuple[str, str]:
    """The tags of a script, packed and as it is."""
    packed, _body = await get(files, SCRIPT)
    plain, _body = await get(files, SCRIPT, **{"Accept-Encoding": "identity"})
    return packed.headers["ETag"], plain.headers["ETag"]


async def test_each_of_its_forms_has_a_tag_of_its_own(files: StaticFilesMiddleware) -> None:
    packed, plain = await tags(files)
    assert packed == f'{plain[:-1]}-gz"'


@pytest.mark.parametrize("form", [0, 1], ids=["packed", "plain"])
@pytest.mark.parametrize("said", ["{}", "W/{}", '"another", {}'])
async def test_who_has_it_is_told_so(files: StaticFilesMiddleware, form: int, said: str) -> None:
    had = (await tags(files))[form]
    answer, body = await get(files, SCRIPT, **{"If-None-Match": said.format(had)})
    assert (answer.status_code, body) == (304, b"")
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert answer.headers["ETag"] == had
    assert "Content-Type" not in answer.headers, "it would be the one of what is had"


async def test_who_has_it_by_its_time_is_told_so(files: StaticFilesMiddleware) -> None:
    first, _body = await get(files, SCRIPT)
    answer, body = await get(files, SCRIPT, **{"If-Modified-Since": first.headers["Last-Modified"]})
    assert (answer.status_code, body) == (304, b"")
    assert answer.headers["ETag"] == first.headers["ETag"]


async def test_who_has_another_gets_it(files: StaticFilesMiddleware) -> None:
    answer, body = await get(files, SCRIPT, **{"If-None-Match": '"another"'})
    assert (answer.status_code, gzip.decompress(body)) == (200, found(SCRIPT))


async def test_who_has_it_packed_and_takes_it_as_it_is_gets_that(files: StaticFilesMiddleware) -> None:
    packed, _plain = await tags(files)
    answer, body = await get(files, SCRIPT, **{"If-None-Match": packed, "Accept-Encoding": "identity"})
    assert (answer.status_code, body) == (200, found(SCRIPT))


async def test_the_rest_of_what_is_packed_is_no_part_of_the_file(files: StaticFilesMiddleware) -> None:
    packed, plain = await tags(files)
    whole, body = await get(files, SCRIPT, **{"Range": "bytes=2-", "If-Range": packed})
    assert (whole.status_code, gzip.decompress(body)) == (200, found(SCRIPT))
    part, body = await get(files, SCRIPT, **{"Range": "bytes=2-", "If-Range": plain})
    assert (part.status_code, body) == (206, found(SCRIPT)[2:])


@pytest.mark.parametrize("accepted", ["gzip", "identity"])
@pytest.mark.parametrize("path", [SCRIPT, FONT])
async def test_head_tells_what_get_would(files: StaticFilesMiddleware, path: str, accepted: str) -> None:
    got, _body = await get(files, path, **{"Accept-Encoding": accepted})
    told, body = await get(files, path, "HEAD", **{"Accept-Encoding": accepted})
    assert body == b""
    assert (told.status_code, dict(told.headers)) == (got.status_code, dict(got.headers))


def test_the_module_can_be_taken_by_itself() -> None:
    """As docs/install-in-your-project.md says."""
    imports = [node for node in ast.walk(ast.parse(inspect.getsource(static_files))) if hasattr(node, "names")]
    assert not [node for node in imports if getattr(node, "level", 0)]
    names = {getattr(node, "module", None) or node.names[0].name for node in imports}
    assert not [name for name in names if name.startswith(("chatproject", "conversations", "llmproviders"))]


async def test_with_debug_files_change_and_go_out_as_they_are(settings: Any) -> None:
    settings.DEBUG = True
    answer, body = await get(StaticFilesMiddleware(elsewhere), SCRIPT)
    assert "Content-Encoding" not in answer.headers
    assert body == found(SCRIPT)
