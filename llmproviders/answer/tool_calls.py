"""Calls of tools as they are streamed: by index, by id, by neither; in pieces, whole, several at once.

They are given one after the other, whatever the order in which their pieces came: a position in an answer counts the
characters of all that was before. A call that another overtakes is held for it until its arguments are whole JSON.
Arguments that may only keep the place of those to come are held, too: what was given is not taken back.
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
    id: str = ""
    name: str = ""
    # The arguments that came, and how many pieces of them were given.
    came: list[str] = field(default_factory=list)
    given: int = 0
    size: int = 0
    json: _Json = field(default_factory=_Json)
    is_begun: bool = False

    @property
    def has_news(self) -> bool:
        """Whether there is something to give now; of one without a name there is nothing."""
        return bool(self.name) and (not self.is_begun or (self.given < len(self.came) and not self.is_vague))

    @property
    def is_vague(self) -> bool:
        """Whether all that came may keep the place of arguments to come: nothing of it was given yet."""
        return len(self.came) == 1 and not self.given and self.came[0].strip() in _PLACEHOLDERS

    @property
    def is_argued(self) -> bool:
        """Whether there are arguments for sure."""
        return bool(self.came) and not self.is_vague

    def add(self, arguments: str) -> None:
        """Take more of the arguments, unless it is all of them once again, or none after all."""
        if self.json.is_whole and arguments.strip() in ("", *_PLACEHOLDERS):
            return
        if self.is_vague:
            self.came, self.size, self.json = [], 0, _Json()
        if arguments and not self._are_all(arguments):
            self.came.append(arguments)
            self.size += len(arguments)
            self.json.feed(arguments)

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
            return piece.place is None or (self.json.is_whole and bool(piece.arguments))
        if piece.name and piece.id and self.id:
            return piece.place is None or self.json.is_whole or not self.came
        if self.is_vague and not piece.name:
            return False
        return self.json.is_whole and piece.arguments.lstrip().startswith("{") and not self._are_all(piece.arguments)

    def _are_all(self, arguments: str) -> bool:
        return self.json.is_whole and len(arguments) == self.size and arguments == "".join(self.came)


class ToolCalls:
    """Feed what deltas say under ``tool_calls``, and get the deltas that are to be given; at the end ``flush``."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        # The one that is given now.
        self._current = 0

    def feed(self, value: object) -> Iterator[ToolCallDelta]:
        """Take the pieces of one delta. Raises ``AnswerTooLarge`` for more calls than anybody makes."""
        beside: set[int] = set()
        for said in value if isinstance(value, list) else [value]:
            if isinstance(said, dict):
                beside.add(id(self._take(_Piece.of(said), beside)))
        while (given := self._give()) is not None:
            yield given

    def flush(self) -> Iterator[ToolCallDelta]:
        """Give what was held; a call without a name is none."""
        for index, call in enumerate(self._calls):
            if call.has_news or (call.name and call.is_vague):
                yield self._given(index, call, at_end=True)

    def _take(self, piece: _Piece, beside: Collection[int]) -> _Call:
        """Take a piece; return the call that it belongs to. ``beside``: the calls (by ``id``) of the same delta."""
        call = self._at(piece)
        if call is None or call.is_followed_by(piece, beside=id(call) in beside):
            before, call = call, self._new(piece.place)
            # Of one that has arguments alone, the tool is the same.
            call.name = piece.name or (before.name if before else "")
        call.id = call.id or piece.id
        call.name = call.name or piece.name
        call.add(piece.arguments)
        return call

    def _at(self, piece: _Piece) -> _Call | None:
        """Return the call that a piece seems to belong to; None where it is the first of its own."""
        if piece.place is not None:
            return self._by_index.get(piece.place)
        known = next((call for call in self._calls if piece.id and call.id == piece.id), None)
        return known or (self._calls[-1] if self._calls else None)

    def _new(self, by_index: int | None) -> _Call:
        if len(self._calls) == MAX_CALLS:
            raise AnswerTooLarge(gettext_noop("The model's server sent more than it may."))
        call = _Call()
        self._calls.append(call)
        if by_index is not None:
            self._by_index[by_index] = call
        return call

    def _give(self) -> ToolCallDelta | None:
        while self._current < len(self._calls):
            call = self._calls[self._current]
            if call.has_news:
                return self._given(self._current, call)
            following = self._calls[self._current + 1 :]
            if not (following and call.name and call.json.is_whole):
                return None
            if call.is_vague:
                # Several may have begun so, before the arguments of any come.
                return self._given(self._current, call, at_end=True) if any(o.is_argued for o in following) else None
            self._current += 1
        return None

    def _given(self, index: int, call: _Call, *, at_end: bool = False) -> ToolCallDelta:
        """Give what is new of a call; ``at_end`` also what may have kept a place."""
        arguments = ""
        if at_end or not call.is_vague:
            arguments, call.given = "".join(call.came[call.given :]), len(call.came)
        if call.is_begun:
            return ToolCallDelta(index, arguments=arguments)
        call.is_begun = True
        # Some have no ids, and some the name of the tool for one: results have to name one call.
        if not call.id or any(other.id == call.id for other in self._calls[:index]):
            call.id = new_id()
        return ToolCallDelta(index, call.id, call.name, arguments)


def new_id() -> str:
    """Return an id for a call that its server gave none."""
    return f"call_{secrets.token_hex(12)}"


def _word(value: object) -> str:
    return word(value)[:MAX_NAME_CHARS] if isinstance(value, str) else ""


def word(text: str) -> str:
    """Return a name or an id without what is no character of one."""
    return _CONTROL.sub("", clean(text))
