"""The chat page. It is a client of the public API like any other: the view gives it an address and its language."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.csrf import get_token
from django.middleware.gzip import GZipMiddleware
from django.shortcuts import render, resolve_url
from django.urls import reverse
from django.utils.translation import get_language, get_language_info, gettext
from django.views.decorators.csrf import csrf_exempt

from .. import conf
from ..web.gate import read_only
from .texts import TEXTS

# The scripts that the page needs before it can be used, loaded at once: found one by one they would take a round trip
# each. Those of the settings are loaded as those are opened.
MODULES = (
    "answer",
    "answering",
    "api",
    "asking",
    "calls",
    "composer",
    "config",
    "conversation",
    "dialogs",
    "dom",
    "drafts",
    "dropping",
    "empty",
    "feed",
    "i18n",
    "icons",
    "images",
    "keys",
    "leaving",
    "links",
    "listing",
    "main",
    "menu",
    "message",
    "models",
    "notices",
    "panel",
    "rendering",
    "search",
    "sidebar",
    "storage",
    "stream",
    "thumbnail",
    "title",
    "transcript",
    "tray",
    "uploads",
)
# What shows the first answer, loaded after them; the rest of vendor/ is loaded when a text needs it.
RENDERING = (
    "page/markdown",
    "page/markdown/code",
    "page/markdown/maths",
    "page/markdown/parser",
    "page/markdown/sanitize",
    "page/markdown/units",
    "vendor/markdown-it",
    "vendor/purify",
)
# The one secret in the page, its token, is another one each time: how short the page becomes tells nothing of it.
PACKING = GZipMiddleware(lambda _request: HttpResponse())


# The page takes no form; a POST is refused as on every page that can only be read.
@csrf_exempt
@read_only
async def chat(request: HttpRequest) -> HttpResponseBase:
    """Show the chat page; where everybody must log in, send strangers to the login page."""
    needs_login = conf.get().REQUIRE_LOGIN
    name = await _name_of_user(request)
    if needs_login and not name:
        return redirect_to_login(request.get_full_path())
    context = {
        "modules": [f"conversations/page/{module}.js" for module in MODULES],
        "rendering": [f"conversations/{module}.js" for module in RENDERING],
        "needs_login": needs_login,
        "user_name": name,
        "config": _config(request, name=name, needs_login=needs_login),
        "texts": {text: shown for text in TEXTS if (shown := gettext(text)) != text},
    }
    return PACKING.process_response(request, render(request, "conversations/chat.html", context))


async def _name_of_user(request: HttpRequest) -> str:
    """Return who is logged in; a host project without logins has no such thing."""
    if not hasattr(request, "auser"):
        return ""
    user = await request.auser()
    return str(user.get_username()) if user.is_authenticated else ""


def _config(request: HttpRequest, *, name: str, needs_login: bool) -> dict[str, Any]:
    return {
        "api": reverse("conversations:conversations").removesuffix("conversations"),
        "page": reverse("conversations_pages:chat"),
        "login": resolve_url(settings.LOGIN_URL) if needs_login else "",
        "user": name,
        # The cookie counts where scripts may read it: a login in another tab makes a new token.
        "csrf": {"cookie": settings.CSRF_COOKIE_NAME, "token": get_token(request)},
        "language": get_language() or settings.LANGUAGE_CODE,
        "languages": [[code, get_language_info(code)["name_local"]] for code, _name in settings.LANGUAGES],
        "languageCookie": {
            "name": settings.LANGUAGE_COOKIE_NAME,
            "path": settings.LANGUAGE_COOKIE_PATH,
            "secure": settings.LANGUAGE_COOKIE_SECURE,
        },
    }
