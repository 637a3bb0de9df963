"""Where every connection comes in: two front doors for HTTP; WebSockets and the lifespan are the app's."""

from __future__ import annotations

import os
from collections.abc import Awaitable
from typing import Any

import django
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatproject.settings")
django.setup(set_prefix=False)

# After the line above, because these import models.
from conversations.asgi import Application  # noqa: E402
from conversations.web.asgi import Message, Receive, Send, path_in  # noqa: E402

from . import descriptors, text_encodings  # noqa: E402
from .asked import is_page  # noqa: E402
from .handler import ApiHandler, Handler  # noqa: E402

text_encodings.forget_others()
descriptors.raise_limit()
descriptors.tell_if_fewer(settings.MAX_ANSWERS_PER_PROCESS)
pages: Any = Handler()
api: Any = ApiHandler()


def http(scope: Message, receive: Receive, send: Send) -> Awaitable[None]:
    """Let pages with sessions through Django's own middleware, all else through a lean chain."""
    door = pages if is_page(path_in(scope)) else api
    answering: Awaitable[None] = door(scope, receive, send)
    return answering


# A body that is too large is refused like all else: SecurityMiddleware answers.
application = Application(http, refuse=http)
