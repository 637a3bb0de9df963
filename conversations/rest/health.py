"""Health: `live` touches nothing, `ready` everything that an answer needs."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable

from channels.layers import get_channel_layer
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from ..database import db, outages
from ..database.encoding import unfit
from ..engine import engines, hints
from ..models import Worker
from ..web.errors import problem_response
from ..web.gate import json_response, read_only

logger = logging.getLogger("conversations.health")

CHECK_TIMEOUT = 3.0
PROBE = "conversations.health"
NOBODY = uuid.UUID(int=0)
OUTAGES = {"database": outages.database, "channel_layer": outages.channel_layer}

_is_fit = False


@read_only
async def live(request: HttpRequest) -> HttpResponse:
    """Say that the process answers; touches neither database nor network."""
    return json_response({"status": "ok"})


@read_only
async def ready(request: HttpRequest) -> HttpResponse:
    """Say whether this process can answer chats; else 503 `not_ready` that names what is missing."""
    checks = {"database": _database, "channel_layer": _channel_layer, "process": _process, "engine": _engine}
    problems = await asyncio.gather(*(_outcome(name, check) for name, check in checks.items()))
    failed = {name: [problem] for name, problem in zip(checks, problems, strict=True) if problem}
    if not failed:
        return json_response({"status": "ok"})
    if failed.keys() == {"channel_layer"} and not hints.layer_is_needed():
        # Answers are made and read as ever: other processes learn by polling what they were not told.
        return json_response({"status": "degraded", "errors": failed})
    detail = _("Not ready to answer.")
    return problem_response(status=503, code="not_ready", detail=detail, errors=failed, retry_after=5)


async def _outcome(name: str, check: Callable[[], Awaitable[str]]) -> str:
    """Return what is wrong, "" for nothing. The reason is logged; outsiders get a plain word."""
    outage = OUTAGES.get(name)
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            problem = await check()
    except Exception as error:
        if outage is None:
            raise
        outage.report(str(error) or type(error).__name__)
        return _("does not answer")
    if outage:
        outage.recovered()
    return problem


async def _database() -> str:
    return await db.probe(_writable)


def _writable() -> str:
    """Ask whether the database takes a write, and leave none; what does not change under a process is asked once."""
    global _is_fit
    if not _is_fit:
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            return _("not migrated")
        if reason := unfit(connection):
            logger.error("not ready: %s", reason)
            return _("cannot hold every character")
        _is_fit = True
    # Also where it meets no row, a database that can only be read refuses it.
    Worker.objects.filter(pk=NOBODY).update(counter=0)
    return ""


async def _channel_layer() -> str:
    layer = get_channel_layer()
    if layer is None:
        return ""
    channel = await layer.new_channel(PROBE)
    await layer.send(channel, {"type": "health.probe"})
    await layer.receive(channel)
    return ""


async def _engine() -> str:
    return _("a part of it failed, and begins again") if engines.current().failed_tasks else ""


async def _process() -> str:
    return _("shutting down") if engines.current().leaving else ""
