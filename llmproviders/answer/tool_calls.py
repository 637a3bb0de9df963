"""Calls of tools as they are streamed: by index, by id, by neither; in pieces, whole, several at once.

They are given one after the other, whatever the order in which their pieces came: a position in an answer counts the
characters of all that was before. A call that another overtakes is held for it until its arguments are whole JSON.
Arguments that may only keep the place of those to come are held, too, until something else follows: what was given is
not taken back.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.utils.translation import gettext_noop

from ..exceptions import AnswerTooLarge
from ..text import clean
from ..types import ToolCallDelta

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MARK = re.compile(r'\\.?|["{}\[\]]', re.DOTALL)
MAX_CALLS = 128
MAX_NAME_CHARS = 200
# What some servers begin a call with, before its true arguments.
_PLACEHOLDERS = frozenset({"{}", "null"})


class _Json:
    """Whether text that comes in pieces is a whole object or list of JSON by now. Each character is looked at once."""

    def __init__(self) -> None:
        self.is_whole = False
        self._depth = 0
        self._is_in_text = False
        self._held = ""

    def feed(self, piece: str) -> None:
        """Take the next piece."""
        piece, self._held = self._held + piece, ""
        for mark in _MARK.findall(piece):
            if mark == "\\":
                self._held = mark  # what it escapes is yet to come
            elif mark == '"':
                self._is_in_text = not self._is_in_text
            elif len(mark) == 1 and not self._is_in_text:
                self._depth += 1 if mark in "{[" else -1
                self.is_whole = self._depth == 0


class _Piece(NamedTuple):
    """What a delta says of a call; of what it leaves out None, or nothing."""

    place: int | None
    id: str
    name: str
    arguments: str

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> _Piece:
        index, function = said.get("index"), said.get("function")
        call: Mapping[str, Any] = function if isinstance(function, dict) else said
        arguments = call.get("arguments")
        if not isinstance(arguments, str):
            arguments = "" if arguments is None else json.dumps(arguments, ensure_ascii=False)
        by_index = index if type(index) is int and index >= 0 else None
        return cls(by_index, _word(said.get("id")), _word(call.get("name")), clean(arguments))


@dataclass(slots=True)
class _Call:
    number: int
    id: str = ""
    name: str = ""
    # The arguments that came, and how many pieces of them were given.
    came: list[str] = field(default_factory=list)
    given: int = 0
    size: int = 0
    json: _Json = field(default_factory=_Json)
    is_begun: bool = False
    # Whether all that came may keep the place of arguments to come: nothing of it was given yet.
    is_vague: bool = False
    # Whether it was told that no more comes.
    is_ended: bool = False

    @property
    def has_news(self) -> bool:
        """Whether there is something to give now; of one without a name there is nothing."""
        return bool(self.name) and (not self.is_begun or (self.given < len(self.came) and not self.is_vague))

    @property
    def is_whole(self) -> bool:
        """Whether no more comes of it, as far as can be told."""
        return self.is_ended or self.json.is_whole

    def add(self, arguments: str) -> None:
        """Take more of the arguments; what comes after whole ones is those once again."""
        if not arguments or (self.is_whole and not self.is_vague):
            return
        if self.is_vague:
            if arguments.strip() in ("", *_PLACEHOLDERS):
                return
            self.came, self.size, self.json, self.is_vague = [], 0, _Json(), False
        elif not self.came:
            self.is_vague = arguments.strip() in _PLACEHOLDERS
        self.came.append(arguments)
        self.size += len(arguments)
        self.json.feed(arguments)

    def end(self) -> None:
        """No more comes: what came are the arguments."""
        self.is_vague, self.is_ended = False, True

    def is_followed_by(self, piece: _Piece, *, beside: bool) -> bool:
        """Whether a piece that seems to belong here begins another call.

        Some servers number every call as the first, some send the name with each piece, some a new id. ``beside``: it
        stands in one list with a piece of this call, within which no server cuts a call.
        """
        if piece.id and piece.id == self.id:
            return False
        if piece.name and self.name and piece.name != self.name:
            return True
        if piece.name and beside:
            return piece.place is None or (self.is_whole and bool(piece.arguments))
        if piece.name and piece.id and self.id:
            return piece.place is None or self.is_whole or not self.came
        if self.is_vague and not piece.name:
            return False
        return self.is_whole and piece.arguments.lstrip().startswith("{") and not self._are_all(piece.arguments)

    def _are_all(self, arguments: str) -> bool:
        return len(arguments) == self.size and arguments == "".join(self.came)


class ToolCalls:
    """Feed what deltas say under ``tool_calls``, and get the deltas that are to be given; at the end ``flush``.

    ``by_index``: what has one index is one call, whatever is said of it.
    """

    def __init__(self, *, by_index: bool = False) -> None:
        self._is_by_index = by_index
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        # The one that is given now.
        self._current = 0
        # Those that are vague, and the last one that has arguments for sure.
        self._vague: set[int] = set()
        self._argued = -1

    @property
    def waits(self) -> bool:
        """Whether arguments are held that may be all of a call, or keep the place of others: see ``settle``."""
        return bool(self._vague)

    def feed(self, value: object) -> Iterator[ToolCallDelta]:
        """Take the pieces of one delta. Raises ``AnswerTooLarge`` for more calls than anybody makes."""
        beside: set[int] = set()
        for said in value if isinstance(value, list) else [value]:
            if isinstance(said, dict):
                beside.add(id(self._take(_Piece.of(said), beside)))
        yield from self._news()

    def settle(self) -> Iterator[ToolCallDelta]:
        """Something else follows: what may keep a place is all there is."""
        for number in sorted(self._vague):
            self._end(self._calls[number])
        yield from self._news()

    def end(self, place: int) -> Iterator[ToolCallDelta]:
        """No more comes of the call at this index."""
        self._end(self._by_index[place])
        yield from self._news()

    def flush(self) -> Iterator[ToolCallDelta]:
        """Give what was held; a call without a name is none."""
        for call in self._calls:
            call.end()
            if call.has_news:
                yield self._given(call)

    def _take(self, piece: _Piece, beside: Collection[int]) -> _Call:
        """Take a piece; return the call that it belongs to. ``beside``: the calls (by ``id``) of the same delta."""
        call = self._at(piece)
        if call is None or (not self._is_by_index and call.is_followed_by(piece, beside=id(call) in beside)):
            before, call = call, self._new(piece.place)
            # Of one that has arguments alone, the tool is the same.
            call.name = piece.name or (before.name if before else "")
        call.id = call.id or piece.id
        call.name = call.name or piece.name
        call.add(piece.arguments)
        self._note(call)
        return call

    def _end(self, call: _Call) -> None:
        call.end()
        self._note(call)

    def _note(self, call: _Call) -> None:
        if call.is_vague:
            self._vague.add(call.number)
        else:
            self._vague.discard(call.number)
            self._argued = max(self._argued, call.number if call.came else -1)

    def _at(self, piece: _Piece) -> _Call | None:
        """Return the call that a piece seems to belong to; None where it is the first of its own."""
        if piece.place is not None:
            return self._by_index.get(piece.place)
        known = next((call for call in self._calls if piece.id and call.id == piece.id), None)
        return known or (self._calls[-1] if self._calls else None)

    def _new(self, by_index: int | None) -> _Call:
        if len(self._calls) == MAX_CALLS:
            raise AnswerTooLarge(gettext_noop("The model's server sent more than it may."))
        call = _Call(len(self._calls))
        self._calls.append(call)
        if by_index is not None:
            self._by_index[by_index] = call
        return call

    def _news(self) -> Iterator[ToolCallDelta]:
        while self._current < len(self._calls):
            call = self._calls[self._current]
            if call.is_vague and self._argued > call.number:
                # Several may have begun so, before the arguments of any come.
                self._end(call)
            if call.has_news:
                yield self._given(call)
            if call.is_vague or not (call.name and call.is_whole) or self._current + 1 == len(self._calls):
                return
            self._current += 1

    def _given(self, call: _Call) -> ToolCallDelta:
        """Give what is new of a call."""
        arguments = ""
        if not call.is_vague:
            arguments, call.given = "".join(call.came[call.given :]), len(call.came)
        if call.is_begun:
            return ToolCallDelta(call.number, arguments=arguments)
        call.is_begun = True
        # Some have no ids, and some the name of the tool for one: results have to name one call.
        if not call.id or any(other.id == call.id for other in self._calls[: call.number]):
            call.id = new_id()
        return ToolCallDelta(call.number, call.id, call.name, arguments)


def new_id() -> str:
    """Return an id for a call that its server gave none."""
    return f"call_{secrets.token_hex(12)}"


def _word(value: object) -> str:
    return word(value)[:MAX_NAME_CHARS] if isinstance(value, str) else ""


def word(text: str) -> str:
    """Return a name or an id without what is no character of one."""
    return _CONTROL.sub("", clean(text))
