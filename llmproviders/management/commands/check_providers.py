"""Ask each model for one word, and say which of them answer."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from llmproviders import catalog
from llmproviders.exceptions import UnknownModelType
from llmproviders.fields import DecryptionFailed
from llmproviders.management.trials import Report, ask_all
from llmproviders.types import Endpoint

COLUMNS = ("type", "model", "host", "result", "first token ms", "total ms")


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


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 86_400:
        raise ValueError(text)
    return value
