"""A URL configuration with one view of each kind, for the middleware's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path, re_path
from django.utils import translation
from django.views.decorators.csrf import csrf_exempt

from chatproject import views
from conversations.problems import request_id


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


async def stream(_request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[str]:
        yield "one "
        yield str(translation.get_language())

    return StreamingHttpResponse(parts())


urlpatterns = [
    path("", views.welcome, name="welcome"),
    path("chat", echo),
    path("broken", broken),
    path("cached", cached),
    path("stream", stream),
    path("admin/broken", broken),
    path("admin/", admin.site.urls),
    re_path("", views.unknown_path),
]
handler400 = views.bad_request
handler403 = views.permission_denied
handler404 = views.not_found
handler500 = views.server_error
