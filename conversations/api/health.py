"""Health: `live` touches nothing, `ready` everything that an answer needs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from channels.layers import get_channel_layer
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from .. import db
from ..generation import supervisor
from .errors import problem_response
from .gate import json_response, read_only

logger = logging.getLogger("conversations.health")

CHECK_TIMEOUT = 3.0
PROBE = "conversations.health"

_migrated = False


@read_only
async def live(request: HttpRequest) -> HttpResponse:
    """Say that the process answers; touches neither database nor network."""
    return json_response({"status": "ok"})


@read_only
async def ready(request: HttpRequest) -> HttpResponse:
    """Say whether this process can answer chats; else 503 `not_ready` that names what is missing."""
    checks = {"database": _database, "channel_layer": _channel_layer, "process": _process}
    problems = await asyncio.gather(*(_outcome(name, check) for name, check in checks.items()))
    failed = {name: [problem] for name, problem in zip(checks, problems, strict=True) if problem}
    if failed:
        detail = _("Not ready to answer.")
        return problem_response(status=503, code="not_ready", detail=detail, errors=failed, retry_after=5)
    return json_response({"status": "ok"})


async def _outcome(name: str, check: Callable[[], Awaitable[str]]) -> str:
    """Return what is wrong, "" for nothing. The reason is logged; outsiders get a plain word."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            return await check()
    except Exception as error:
        logger.warning("not ready: %s: %s", name, str(error) or type(error).__name__)
        return _("does not answer")


async def _database() -> str:
    return await db.read(_migrations)


def _migrations() -> str:
    """Ask the database; its migrations once only, as they do not change under a running process."""
    global _migrated
    if not _migrated:
        executor = MigrationExecutor(connection)
        _migrated = not executor.migration_plan(executor.loader.graph.leaf_nodes())
        return "" if _migrated else _("not migrated")
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return ""


async def _channel_layer() -> str:
    layer = get_channel_layer()
    if layer is None:
        return ""
    channel = await layer.new_channel(PROBE)
    await layer.send(channel, {"type": "health.probe"})
    await layer.receive(channel)
    return ""


async def _process() -> str:
    return _("shutting down") if supervisor.current().draining else ""
