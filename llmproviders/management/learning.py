"""What models can do, found out by asking them; and set on their presets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from django.db import transaction
from django.utils.translation import gettext as _

from llmproviders import catalog, dialect
from llmproviders.exceptions import ProviderError, UnknownModelType, UpstreamTimeout
from llmproviders.models import Preset
from llmproviders.net.http import close_client
from llmproviders.types import CompletionRequest, Endpoint

from . import asking
from .asking import Outcome

# How a question was answered.
TAKEN, REFUSED, FAILED, UNCLEAR = "taken", "refused", "failed", "unclear"


@dataclass(frozen=True, slots=True)
class Finding:
    """One field of a preset: ``found`` is what it would be, None where that was not found out.

    Of ``parameters`` only those that would be set are told. ``reason`` is what the server said.
    """

    field: str
    now: Any
    found: Any
    outcome: str
    reason: str = ""

    @property
    def is_change(self) -> bool:
        if self.field == "parameters":
            found = self.found or {}
            return any(name not in self.now or self.now[name] != value for name, value in found.items())
        return self.found is not None and self.found != self.now


@dataclass(slots=True)
class Learned:
    """What was found out of a model; ``code`` and ``reason`` where it did not answer at all.

    ``saved`` tells whether it was set on its preset.
    """

    endpoint: Endpoint = field(repr=False)
    code: str = ""
    reason: str = ""
    findings: list[Finding] = field(default_factory=list)
    saved: bool = False

    @property
    def changes(self) -> dict[str, Any]:
        """What would be set, by field."""
        return {finding.field: finding.found for finding in self.findings if finding.is_change}

    def shown(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "type": self.endpoint.model_type,
            "model": self.endpoint.model,
            "host": urlsplit(self.endpoint.api_url).hostname or "-",
            "ok": not self.code,
            "code": self.code,
            "reason": self.reason,
            "findings": [asdict(finding) for finding in self.findings],
            "changes": self.changes,
            "saved": self.saved,
        }


async def learn_all(endpoints: Sequence[Endpoint], timeout: float) -> list[Learned]:
    """Ask all at once, each its questions one after the other; ``timeout`` seconds a question."""
    dialect.memory.forget()
    try:
        return await asyncio.gather(*(_Learning(endpoint, timeout).learn() for endpoint in endpoints))
    finally:
        await close_client()


def save(learned: Learned) -> bool:
    """Set on its preset what was found out of a model; whether there was something to set.

    Not where the preset is another's by now, and not for the environment's model, which has none.
    """
    if not learned.changes:
        return False
    asked = learned.endpoint
    with transaction.atomic():
        found = Preset.objects.select_for_update().filter(type=asked.model_type).defer("api_key").first()
        if found is None or not _is_as_asked(asked):
            return False
        for name, value in learned.changes.items():
            setattr(found, name, {**found.parameters, **value} if name == "parameters" else value)
        found.save(update_fields=[*learned.changes, "updated_at"])
    return True


def _is_as_asked(asked: Endpoint) -> bool:
    try:
        now = catalog.keyless_endpoint(asked.model_type)
    except UnknownModelType:
        return False
    return (now.backend, now.api_url, now.model) == (asked.backend, asked.api_url, asked.model)


class _Learning:
    """The questions to one model."""

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        self._learned = Learned(endpoint)
        self._timeout = timeout
        # As if nothing were known: what is known would keep from asking.
        self._asked = replace(endpoint, takes_system=True, alternates=False, thinks_first=False)
        self._answered: list[Outcome] = []

    async def learn(self) -> Learned:
        """Ask all there is to ask; nothing more of a model that does not answer."""
        try:
            plain = await self._ask(asking.PLAIN)
        except UnknownModelType as error:
            return self._given_up(error)
        if plain.error is not None and not plain.taken:
            return self._given_up(plain.error)
        await self._images()
        await self._tools()
        await self._roles()
        await self._parameters(plain)
        self._thoughts(plain)
        return self._learned

    def _given_up(self, error: ProviderError | UnknownModelType) -> Learned:
        self._learned.code, self._learned.reason = error.code, _(str(error))
        return self._learned

    async def _ask(self, request: CompletionRequest) -> Outcome:
        try:
            async with asyncio.timeout(self._timeout):
                outcome = await asking.ask(self._asked, request)
        except TimeoutError:
            late = _("No whole answer within %(seconds)g s.") % {"seconds": self._timeout}
            outcome = Outcome(error=UpstreamTimeout(late))
        if outcome.taken:
            self._answered.append(outcome)
        return outcome

    def _note(self, name: str, outcome: Outcome, found: Any, *, otherwise: bool = False) -> None:
        """Note what an outcome says of a field: nothing, where it failed. ``otherwise``: taken when put otherwise."""
        word = REFUSED if outcome.refused or otherwise else TAKEN if outcome.taken else FAILED
        if word == FAILED:
            found = None
        elif found is None:
            word = UNCLEAR
        reason = "" if outcome.taken else _(str(outcome.error))
        self._learned.findings.append(Finding(name, getattr(self._learned.endpoint, name), found, word, reason))

    async def _images(self) -> None:
        """A server that passes over what it does not know takes a picture, too: the model has to see it."""
        seen = await self._ask(asking.SEEN)
        self._note("takes_images", seen, False if seen.refused else True if seen.saw else None)

    async def _tools(self) -> None:
        """Take for a yes what ends in a call: of its own accord, or made to."""
        called = await self._ask(asking.CALLED)
        found = False if called.refused else True if called.called else None
        if called.taken and found is None:
            forced = await self._ask(asking.MADE_TO_CALL)
            found = True if forced.called else None
        self._note("takes_tools", called, found)

    async def _roles(self) -> None:
        told = await self._ask(asking.SYSTEM)
        otherwise = told.dialect.no_system
        self._note("takes_system", told, told.taken and not otherwise, otherwise=otherwise)
        twice = await self._ask(asking.TWICE)
        otherwise = twice.dialect.in_turns
        self._note("alternates", twice, twice.refused or otherwise, otherwise=otherwise)

    async def _parameters(self, plain: Outcome) -> None:
        """What the server wants otherwise: another name for the bound, no temperature, no stream."""
        found: dict[str, Any] = dict.fromkeys(plain.dialect.without)
        if plain.dialect.longer_name is not None:
            found["max_tokens"] = "max_completion_tokens" if plain.dialect.longer_name else "max_tokens"
        if plain.dialect.whole:
            found["stream"] = None
        outcome = plain
        if "temperature" not in self._learned.endpoint.parameters:
            warm = await self._ask(asking.WARM)
            if warm.refused or "temperature" in warm.dialect.without or "temperature" in warm.dialect.bounds:
                found["temperature"] = None
            elif not warm.taken and not found:
                outcome = warm
        self._note("parameters", outcome, found, otherwise=bool(found))

    def _thoughts(self, plain: Outcome) -> None:
        """From all answers: whoever reasons does so in one of them, and whoever thinks first in each."""
        self._note("reasons", plain, any(outcome.reasoned for outcome in self._answered))
        began = {outcome.began_within_a_thought for outcome in self._answered} - {None}
        self._note("thinks_first", plain, began.pop() if len(began) == 1 else None)
