"""Ask each model for one word, and say which of them answer; or find out what they can do."""

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
from llmproviders.management.learning import Finding, Learned, learn_all, save
from llmproviders.management.trials import Report, ask_all
from llmproviders.types import Endpoint

COLUMNS = ("type", "model", "host", "result", "first token ms", "total ms")
LEARNED = ("type", "field", "now", "found", "outcome")


class Command(BaseCommand):
    help = (
        "Make a tiny call to each enabled model (or to those named) and report. Fails if one of them does not answer."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model_types", nargs="*", metavar="TYPE", help="a model type; none: all that are enabled")
        parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
        parser.add_argument("--timeout", type=_seconds, default=60.0, metavar="S", help="seconds a call (default 60)")
        parser.add_argument(
            "--learn", action="store_true", help="find out by some calls what each model can do, and say what to set"
        )
        parser.add_argument("--apply", action="store_true", help="with --learn: set it on the presets")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["apply"] and not options["learn"]:
            raise CommandError(_("--apply goes with --learn."))
        endpoints = _endpoints(options["model_types"])
        failed = self._learn(endpoints, options) if options["learn"] else self._check(endpoints, options)
        if failed:
            raise CommandError(_("No answer from: %(types)s.") % {"types": ", ".join(failed)})

    def _check(self, endpoints: Sequence[Endpoint], options: dict[str, Any]) -> list[str]:
        reports = asyncio.run(ask_all(endpoints, options["timeout"]))
        self.stdout.write(as_json(reports) if options["json"] else as_table(reports))
        return [report.type for report in reports if not report.ok]

    def _learn(self, endpoints: Sequence[Endpoint], options: dict[str, Any]) -> list[str]:
        all_learned = asyncio.run(learn_all(endpoints, options["timeout"]))
        for learned in all_learned:
            learned.saved = options["apply"] and save(learned)
        if options["json"]:
            shown = [learned.shown() for learned in all_learned]
            self.stdout.write(json.dumps(shown, indent=2, ensure_ascii=False))
        else:
            self.stdout.write(learned_table(all_learned))
            for learned in all_learned:
                self.stdout.write(_conclusion(learned, applies=options["apply"]))
        return [learned.endpoint.model_type for learned in all_learned if learned.code]


def as_json(reports: Sequence[Report]) -> str:
    """One JSON list, an object a model."""
    return json.dumps([asdict(report) for report in reports], indent=2, ensure_ascii=False)


def as_table(reports: Sequence[Report]) -> str:
    """Aligned columns, a line a model; the reason of a failure ends its line."""
    return _table(COLUMNS, [_row(report) for report in reports], [report.reason for report in reports])


def learned_table(all_learned: Sequence[Learned]) -> str:
    """Aligned columns, a line a field; what would be changed has a star."""
    rows, reasons = [], []
    for learned in all_learned:
        name = learned.endpoint.model_type
        if learned.code:
            rows.append((name, "", "", "", learned.code))
            reasons.append(learned.reason)
        for finding in learned.findings:
            rows.append((name, finding.field, _word(finding.now), _found(finding), finding.outcome))
            reasons.append(finding.reason)
    return _table(LEARNED, rows, reasons)


def _found(finding: Finding) -> str:
    return f"{_word(finding.found)}{' *' if finding.is_change else ''}"


def _word(value: Any) -> str:
    words = {None: "-", True: "yes", False: "no"}
    return words[value] if value is None or isinstance(value, bool) else json.dumps(value)


def _conclusion(learned: Learned, *, applies: bool) -> str:
    name = learned.endpoint.model_type
    if learned.saved:
        return _("%(type)s: set.") % {"type": name}
    if not learned.changes:
        return _("%(type)s: nothing to set.") % {"type": name}
    if applies:
        return _("%(type)s: not set: it has no preset, or another model by now.") % {"type": name}
    return _("%(type)s: nothing was changed; --apply sets what has a star.") % {"type": name}


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], ends: Sequence[str]) -> str:
    lines = [columns, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    shown = ("  ".join([*map(str.ljust, line, widths), end]) for line, end in zip(lines, ["", *ends], strict=True))
    return "\n".join(line.rstrip() for line in shown)


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
