"""What an endpoint was found to want otherwise: parameters renamed, left out or bounded, no stream, other messages.

A refusal that names what it does not take is met once with just that changed. What then was accepted is remembered
by endpoint and model, for a while: servers learn, too.
"""

from __future__ import annotations

import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from .overlong import answer_limit, asks_for_a_shorter_answer
from .reasons import Said, said_by
from .roles import Message, are_in_turns, in_turns, with_signatures, with_thoughts, without_system, without_thoughts

logger = logging.getLogger("llmproviders")

Body: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[str, str, str]

MAX_CHANGES = 6
_LONGER: Final = "max_completion_tokens"
ANSWER_BOUNDS = ("max_tokens", _LONGER)
# What has to be there, whatever a server says of it.
_NEEDED = frozenset({"model", "messages", "stream", "tools", *ANSWER_BOUNDS})
_REFUSES = re.compile(
    r"unsupported|not support|n't support|unrecogni[sz]ed|unknown|unexpected|not (be )?permitted|not allowed"
    r"|extra (inputs|field)|invalid|only the default|deprecated|instead|must be|should be|range|at most|less than"
    r"|不支持|无效|范围|参数",
    re.IGNORECASE,
)
_NO_STREAM = re.compile(
    r"verified to stream|(does not|doesn't|do not|cannot|not) support(ed)?( for)?[^.]{0,20}stream"
    r"|stream(ing)?[^.]{0,40}(is |are )?(not|un)[- ]?support|'stream' does not support|stream must be false"
    r"|only non-stream|不支持流式",
    re.IGNORECASE,
)
_NO_SYSTEM = re.compile(
    r"system (role|prompt|message)s?[^.]{0,20}not support|not support[^.]{0,20}['\"`]?system"
    r"|developer instruction is not enabled|unknown role:? ['\"`]?system"
    r"|role[^.]{0,30}['\"`]system['\"`][^.]{0,30}(not|invalid|unsupported)|不支持.{0,6}system",
    re.IGNORECASE,
)
_TURNS = re.compile(
    r"roles? (must|should)( be)? alternat|(must|should) (be )?alternat\w* (between|with|user|assistant)"
    r"|unexpected role ['\"`]?(user|assistant|system)['\"`]? after role",
    re.IGNORECASE,
)
_THOUGHTS = re.compile(
    r"reasoning_content[^.]{0,60}(must|missing|required)|(missing|requires?)[^.]{0,20}reasoning_content", re.IGNORECASE
)
_SIGNATURES = re.compile(r"(missing|without|requires?)[^.]{0,20}thought[_ ]?signature", re.IGNORECASE)
# What pydantic repeats of a request: words of anybody's, and no reason. It ends where the next field is refused.
_ECHO = re.compile(r"(['\"]input['\"]: ?|input_value=)['\"\[{].*?(?=['\"](?:loc|type)['\"]: |$)", re.DOTALL)
_RANGES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"[\[(]\s*(?P<least>\d{1,15}(?:\.\d{1,15})?)\s*,\s*(?P<most>\d{1,15}(?:\.\d{1,15})?)\s*[\])]",
        r"between (?P<least>\d{1,15}(?:\.\d{1,15})?) and (?P<most>\d{1,15}(?:\.\d{1,15})?)",
        r"(?P<least>\d{1,15}(?:\.\d{1,15})?) ?(?:to|~|<=?) ?(?:[a-z_]+ ?<=? ?)?(?P<most>\d{1,15}(?:\.\d{1,15})?)",
        r"(?:less than or equal to|at most|maximum(?: value)? (?:is|of)|<=|no more than|less than) `?"
        r"(?P<most>\d{1,15}(?:\.\d{1,15})?)",
        r"(?:greater than or equal to|at least|minimum(?: value)? (?:is|of)|>=|greater than|larger than) `?"
        r"(?P<least>\d{1,15}(?:\.\d{1,15})?)",
    )
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a request to one endpoint differs from ``request_body``."""

    longer_name: bool | None = None
    without: frozenset[str] = frozenset()
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    whole: bool = False
    no_system: bool = False
    in_turns: bool = False  # user and assistant in turn, the user first
    with_thoughts: bool = False  # what the assistant thought goes back with each of its messages
    with_signatures: bool = False  # calls of tools have something in place of the signature of a thought

    def also(self, other: Dialect) -> Dialect:
        """Return the dialect that differs in both ways, ``other``'s where they are about the same."""
        return Dialect(
            longer_name=self.longer_name if other.longer_name is None else other.longer_name,
            without=self.without | other.without,
            bounds={**self.bounds, **other.bounds},
            whole=self.whole or other.whole,
            no_system=self.no_system or other.no_system,
            in_turns=self.in_turns or other.in_turns,
            with_thoughts=self.with_thoughts or other.with_thoughts,
            with_signatures=self.with_signatures or other.with_signatures,
        )

    def spoken(self, body: Body) -> Body:
        """Return the body as this endpoint takes it."""
        said = {name: value for name, value in body.items() if name not in self.without}
        for name, (least, most) in self.bounds.items():
            if isinstance(value := said.get(name), int | float):
                said[name] = min(max(value, least), most)
        if self.longer_name is not None:
            old, new = ("max_tokens", _LONGER) if self.longer_name else (_LONGER, "max_tokens")
            said = {new if name == old else name: value for name, value in said.items()}
        if self.whole:
            said = {name: value for name, value in said.items() if name != "stream_options"} | {"stream": False}
        said["messages"] = self._messages(said["messages"])
        return said

    def _messages(self, messages: list[Message]) -> list[Message]:
        if self.no_system:
            messages = without_system(messages)
        if self.in_turns:
            messages = in_turns(messages)
        if self.with_signatures:
            messages = with_signatures(messages)
        return with_thoughts(messages) if self.with_thoughts else without_thoughts(messages)


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to change: once a call under each ``name``, as logs say it; ``lasts`` if for other prompts, too."""

    name: str
    wanted: Dialect
    lasts: bool = True


class Memory:
    """What endpoints were found to want: at most ``size`` of them, each for ``seconds``."""

    def __init__(
        self, *, size: int = 500, seconds: float = 3600.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._size = size
        self._seconds = seconds
        self._clock = clock
        self._known: OrderedDict[Key, tuple[float, Dialect]] = OrderedDict()

    def recall(self, key: Key) -> Dialect:
        since, dialect = self._known.get(key, (0.0, Dialect()))
        if key in self._known and self._clock() - since >= self._seconds:
            del self._known[key]
            return Dialect()
        return dialect

    def keep(self, key: Key, dialect: Dialect) -> None:
        self._known[key] = (self._clock(), dialect)
        self._known.move_to_end(key)
        while len(self._known) > self._size:
            self._known.popitem(last=False)

    def forget(self) -> None:
        self._known.clear()


memory = Memory()


class Wish:
    """What one call asks for, changed by refusals: each change at most once, and not too many."""

    def __init__(
        self,
        key: Key,
        body: Body,
        *,
        fixed: Collection[str] = (),
        told: Callable[[Dialect], None] | None = None,
    ) -> None:
        """``fixed`` names what whoever asks has chosen: it is not left out or bounded for them, nor for others.

        ``told`` is called with how it was asked, when that was accepted.
        """
        self._key = key
        self._told = told
        self._asked = body
        self._fixed = fixed
        self._known = self._dialect = memory.recall(key)
        self._changes: dict[str, Change] = {}
        # What was said before the newest change, and the changes after which the same was said again.
        self._heard = ("", "")
        self._of_no_use: set[str] = set()
        self.body = self._dialect.spoken(body)

    def refused(self, status: int, error_body: bytes) -> bool:
        """Change what the refusal names; whether there is something new to ask for."""
        said = said_by(error_body)
        said.reason = _ECHO.sub("", said.reason)
        if self._changes and self._heard == (said.names, said.reason):
            self._of_no_use.add(next(reversed(self._changes)))
        change = change_for(status, said, self.body, self._dialect, fixed=self._fixed)
        if change is None or change.name in self._changes or len(self._changes) >= MAX_CHANGES:
            return False
        self._changes[change.name] = change
        self._heard = (said.names, said.reason)
        self._dialect = self._dialect.also(change.wanted)
        self.body = self._dialect.spoken(self._asked)
        logger.info("model=%s refused; asked once more %s", self._asked["model"], change.name)
        return True

    def accepted(self) -> None:
        """Remember for later calls what made this one acceptable."""
        if self._told:
            self._told(self._dialect)
        dialect = self._known
        # A refusal may quote anybody. If one was of use, but only beside a later one, the next call is told so again.
        for change in self._changes.values():
            if change.lasts and change.name not in self._of_no_use:
                dialect = dialect.also(change.wanted)
        if dialect != self._known:
            memory.keep(self._key, dialect)


def change_for(status: int, said: Said, body: Body, dialect: Dialect, *, fixed: Collection[str] = ()) -> Change | None:
    """Return what to change so that a refusal of ``body`` does not apply any more; None if it names nothing."""
    text = f"{said.names} {said.reason}"
    if status in (400, 403, 404, 405, 422, 501) and body["stream"] and _streams_not(said, text):
        return Change("without a stream", Dialect(whole=True))
    if status not in (400, 422, 500):
        return None
    return (
        _shorter(said, body)
        or _renamed(text, body)
        or _roles(text, body["messages"], dialect)
        or _thoughts(text, body["messages"], dialect)
        or _bounded_or_left_out(status, said, {name: body[name] for name in body if name not in fixed}, dialect)
    )


def _streams_not(said: Said, text: str) -> bool:
    return bool(_NO_STREAM.search(text)) and not _names("stream_options", text)


def _shorter(said: Said, body: Body) -> Change | None:
    sent = next((body[name] for name in ANSWER_BOUNDS if name in body), None)
    if sent is None or not asks_for_a_shorter_answer(said) or (found := answer_limit(said, sent)) is None:
        return None
    most, lasts = found
    return Change("for a shorter answer", Dialect(bounds=dict.fromkeys(ANSWER_BOUNDS, (1, most))), lasts)


def _renamed(text: str, body: Body) -> Change | None:
    if "max_tokens" in body and _LONGER in text and _REFUSES.search(text) and _names("max_tokens", text):
        return Change(f"with {_LONGER}", Dialect(longer_name=True))
    if _LONGER in body and _names(_LONGER, text) and _REFUSES.search(text):
        return Change("with max_tokens", Dialect(longer_name=False))
    return None


def _roles(text: str, messages: list[Message], dialect: Dialect) -> Change | None:
    """A template that wants turns may mean the system prompt, too: its first turn is the user's."""
    wants_turns = _TURNS.search(text) is not None
    if wants_turns and not are_in_turns(messages):
        return Change("with roles in turn", Dialect(in_turns=True))
    has_system = any(message["role"] == "system" for message in messages)
    if (wants_turns or _NO_SYSTEM.search(text)) and has_system and not dialect.no_system:
        return Change("without the system role", Dialect(no_system=True))
    return None


def _thoughts(text: str, messages: list[Message], dialect: Dialect) -> Change | None:
    """What models that think before they call tools want to have again: what they thought, or its signature."""
    if _THOUGHTS.search(text) and not dialect.with_thoughts and any(said["role"] == "assistant" for said in messages):
        return Change("with thoughts", Dialect(with_thoughts=True))
    if _SIGNATURES.search(text) and not dialect.with_signatures and any(said.get("tool_calls") for said in messages):
        return Change("with signatures", Dialect(with_signatures=True))
    return None


def _bounded_or_left_out(status: int, said: Said, body: Body, dialect: Dialect) -> Change | None:
    text = f"{said.names} {said.reason}"
    named = [name for name in body if name not in _NEEDED and _names(name, text)]
    if not named or (status == 500 and not _REFUSES.search(text)):
        return None
    if len(named) == 1 and (bounds := _range(said.reason, body[named[0]])) and named[0] not in dialect.bounds:
        return Change(f"with other {named[0]}", Dialect(bounds={named[0]: bounds}))
    return Change(f"without {', '.join(named)}", Dialect(without=frozenset(named)))


def _range(reason: str, value: Any) -> tuple[float, float] | None:
    """The bounds that a refusal names, if ``value`` is out of them. What excludes its end is held by a hundredth."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    for pattern in _RANGES:
        if found := pattern.search(reason):
            words, ends = found[0], found.groupdict()
            strict = "than" in words and "equal" not in words
            least = float(ends.get("least") or 0.0) + (0.01 if "(" in words or (strict and ends.get("least")) else 0.0)
            most = float(ends.get("most") or "inf") - (0.01 if ")" in words or (strict and ends.get("most")) else 0.0)
            return (least, most) if least <= most and not least <= value <= most else None
    return None


def _names(name: str, text: str) -> bool:
    return re.search(rf"(?<![A-Za-z_]){re.escape(name)}(?![A-Za-z_])", text) is not None
