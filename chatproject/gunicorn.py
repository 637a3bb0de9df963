"""gunicorn's configuration and worker: `gunicorn --config python:chatproject.gunicorn chatproject.asgi:application`.

Names of gunicorn's settings are read from here. Its workers are uvicorn's, with what `python -m chatproject` gives it.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import subprocess  # nosec B404
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from gunicorn.arbiter import Arbiter
from uvicorn_worker import UvicornWorker

# What follows needs the settings.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatproject.settings")

try:
    from . import server, settings
except ImproperlyConfigured as error:
    from .__main__ import BAD_SETTINGS, fail

    fail(BAD_SETTINGS, str(error))

# What the readers' last events may take, once the grace period is over.
END_SECONDS = 10

DRAIN: Any = settings.CONVERSATIONS
bind = f"[{settings.HOST}]:{settings.PORT}" if ":" in settings.HOST else f"{settings.HOST}:{settings.PORT}"
workers = int(os.environ.get("WEB_CONCURRENCY") or multiprocessing.cpu_count())
worker_class = "chatproject.gunicorn.Worker"
# A worker that drains goes on telling that it lives; this is for one that stands still.
timeout = 30
graceful_timeout = math.ceil(DRAIN["DRAIN_LISTEN_SECONDS"] + DRAIN["DRAIN_SECONDS"]) + END_SECONDS
# The project's own log has a line a request.
accesslog = None


def on_starting(server: object) -> None:
    """Look once what `python -m chatproject` looks at, and end as it does where it cannot work."""
    # In a process of its own: what this one imports, workers after a SIGHUP would have as it was.
    code = "from chatproject.__main__ import check; check()"
    if failed := subprocess.run([sys.executable, "-c", code], check=False).returncode:  # noqa: S603  # nosec B603
        sys.exit(failed)


Application = Callable[..., Awaitable[None]]


class Worker(UvicornWorker):
    """One process that drains at SIGTERM, and after ``--max-requests``."""

    wsgi: Application
    # uvicorn would end at the limit without telling gunicorn any more that it lives, and be killed with its streams.
    CONFIG_KWARGS = {**server.options(), "limit_max_requests": None}

    def load_wsgi(self) -> None:
        """Load the application, and count its requests where there is a limit."""
        super().load_wsgi()
        if self.cfg.max_requests:
            self.wsgi = counted(self.wsgi, self.max_requests)

    def run(self) -> None:
        """Serve until a signal ends it."""
        self.config.app = self.wsgi
        if not server.run(self.config, self.sockets).started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)


def counted(application: Application, requests: int) -> Application:
    """Return the application that begins a drain of its process with the last of so many requests."""
    left = requests

    async def count(scope: dict[str, Any], receive: Any, send: Any) -> None:
        nonlocal left
        if scope["type"] != "lifespan":
            left -= 1
            if left == 0:
                signal.raise_signal(signal.SIGTERM)
        await application(scope, receive, send)

    return count
