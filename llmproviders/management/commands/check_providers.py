"""Ask each model for one word, and say which of them answer."""

from __future__ import annotations

import asyncio
import json
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from llmproviders import catalog
from llmproviders.exceptions import ProviderError, UnknownModelType, UpstreamTimeout
from llmproviders.fields import DecryptionFailed
from llmproviders.http import close_client
from llmproviders.registry import get_provider
from llmproviders.types import ChatMessage, CompletionFinished, CompletionRequest, Endpoint

REQUEST = CompletionRequest((ChatMessage("user", "Say hello."),), temperature=0.0, max_tokens=8)
COLUMNS = ("type", "model", "host", "result", "first token ms", "total ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How one call went. ``code`` and ``reason`` are those of the error, ``""`` without one; times in ms."""

    type: str
    model: str
    host: str
    ok: bool
    code: str = ""
    reason: str = ""
    first_token_ms: int | None = None
    total_ms: int


class Command(BaseCommand):
    help = (
        "Make a tiny call to each enabled model (or to those named) and report. Fails if one of them does not answer."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model_types", nargs="*", metavar="TYPE", help="a model type; none: all that are enabled")
        parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
        parser.add_argument("--timeout", type=_seconds, default=60.0, metavar="S", help="seconds a call (default 60)")

    def handle(self, *args: Any, **options: Any) -> None:
        reports = asyncio.run(ask_all(_endpoints(options["model_types"]), options["timeout"]))
        self.stdout.write(as_json(reports) if options["json"] else as_table(reports))
        failed = [report.type for report in reports if not report.ok]
        if failed:
            raise CommandError(_("No answer from: %(types)s.") % {"types": ", ".join(failed)})


async def ask_all(endpoints: Sequence[Endpoint], timeout: float) -> list[Report]:
    """Ask all at once; ``timeout`` seconds for each."""
    try:
        return await asyncio.gather(*(ask(endpoint, timeout) for endpoint in endpoints))
    finally:
        await close_client()


async def ask(endpoint: Endpoint, timeout: float) -> Report:
    """Make one call and report on it; whatever the provider says is wrong is part of the report."""
    started = time.perf_counter()
    first: int | None = None
    error: ProviderError | UnknownModelType | None = None
    try:
        async with asyncio.timeout(timeout), aclosing(_deltas(endpoint)) as deltas:
            async for delta in deltas:
                if first is None and not isinstance(delta, CompletionFinished):
                    first = _milliseconds_since(started)
    except TimeoutError:
        error = UpstreamTimeout(_("No whole answer within %(seconds)g s.") % {"seconds": timeout})
    except (ProviderError, UnknownModelType) as failure:
        error = failure
    return Report(
        type=endpoint.model_type,
        model=endpoint.model,
        host=urlsplit(endpoint.api_url).hostname or "-",
        ok=error is None,
        code=error.code if error else "",
        reason=_(str(error)) if error else "",
        first_token_ms=first,
        total_ms=_milliseconds_since(started),
    )


def as_json(reports: Sequence[Report]) -> str:
    """One JSON list, an object a model."""
    return json.dumps([asdict(report) for report in reports], indent=2, ensure_ascii=False)


def as_table(reports: Sequence[Report]) -> str:
    """Aligned columns, a line a model; the reason of a failure ends its line."""
    rows = [COLUMNS, *(_row(report) for report in reports)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    reasons = ["", *(report.reason for report in reports)]
    lines = ("  ".join([*map(str.ljust, row, widths), reason]) for row, reason in zip(rows, reasons, strict=True))
    return "\n".join(line.rstrip() for line in lines)


def _row(report: Report) -> tuple[str, ...]:
    first = "-" if report.first_token_ms is None else str(report.first_token_ms)
    return (report.type, report.model, report.host, report.code or "ok", first, str(report.total_ms))


def _endpoints(model_types: Sequence[str]) -> list[Endpoint]:
    try:
        endpoints = [catalog.get_endpoint(name) for name in model_types] or catalog.list_endpoints()
    except (UnknownModelType, DecryptionFailed) as error:
        raise CommandError(str(error)) from error
    if not endpoints:
        raise CommandError(_("There is no enabled model to ask."))
    return endpoints


def _deltas(endpoint: Endpoint) -> Any:
    return get_provider(endpoint).stream(REQUEST)


def _milliseconds_since(started: float) -> int:
    return round((time.perf_counter() - started) * 1000)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 86_400:
        raise ValueError(text)
    return value
