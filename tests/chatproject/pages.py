"""A URL configuration with one view of each kind, for the middleware's tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import include, path, re_path
from django.utils import translation
from django.views.decorators.csrf import csrf_exempt

from chatproject import views
from conversations.exceptions import request_id


@csrf_exempt
async def echo(request: HttpRequest) -> JsonResponse:
    return JsonResponse(
        {
            "method": request.method,
            "path": request.path,
            "request_id": request_id.get(),
            "language": translation.get_language(),
        }
    )


async def broken(_request: HttpRequest) -> HttpResponse:
    raise RuntimeError("a secret of the code")


async def cached(_request: HttpRequest) -> HttpResponse:
    return HttpResponse("x", headers={"Cache-Control": "max-age=9"})


async def own_headers(_request: HttpRequest) -> HttpResponse:
    return HttpResponse("x", headers={"x-frame-options": "SAMEORIGIN", "vary": "Cookie", "content-language": "de"})


async def stream(_request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[str]:
        yield "one "
        yield str(translation.get_language())

    return StreamingHttpResponse(parts())


# What the views that wait tell, in the test that asked them.
waiting_begun: asyncio.Queue[str] = asyncio.Queue()
waiting_ended: asyncio.Queue[str] = asyncio.Queue()


async def wait() -> None:
    """Wait until somebody cancels it, and tell so."""
    waiting_begun.put_nowait("begun")
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        waiting_ended.put_nowait("cancelled")
        raise


async def waiting(_request: HttpRequest) -> HttpResponse:
    await wait()
    return HttpResponse("waited")


async def endless(_request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[str]:
        yield "one "
        await wait()

    return StreamingHttpResponse(parts())


async def failing(_request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[str]:
        yield "one "
        raise RuntimeError("a secret of the stream")

    return StreamingHttpResponse(parts())


@csrf_exempt
async def body(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.body)


@csrf_exempt
async def form(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.POST.get("name", "nothing came"))


def sync(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(threading.get_ident()))


urlpatterns = [
    path("", include("conversations.pages.urls")),
    path("chat", echo),
    path("broken", broken),
    path("cached", cached),
    path("own-headers", own_headers),
    path("stream", stream),
    path("waiting", waiting),
    path("endless", endless),
    path("failing", failing),
    path("body", body),
    path("form", form),
    path("sync", sync),
    path("admin/broken", broken),
    path("admin/", admin.site.urls),
    path("", include("conversations.urls")),
    re_path("", views.unknown_path),
]
handler400 = views.bad_request
handler403 = views.permission_denied
handler404 = views.not_found
handler500 = views.server_error
