"""Calls of tools as they are streamed: by index, by id, by neither; in pieces, whole, several at once.

They are given one after the other, whatever the order in which their pieces came: a position in an answer counts the
characters of all that was before. A call that another overtakes is held for it until its arguments are whole JSON.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext_noop

from ..exceptions import AnswerTooLarge
from ..text import clean
from ..types import ToolCallDelta

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
MAX_CALLS = 128
MAX_NAME_CHARS = 200


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    # What was not given yet, and what was.
    pending: str = ""
    given: list[str] = field(default_factory=list)
    is_begun: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether its arguments are JSON as they are. Of a call without any they may still come."""
        try:
            json.loads("".join([*self.given, self.pending]))
        except (ValueError, RecursionError):
            return False
        return bool(self.name)


class ToolCalls:
    """Feed what deltas say under ``tool_calls``, and get the deltas that are to be given; at the end ``flush``."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        # The one that is given now.
        self._current = 0

    def feed(self, value: object) -> Iterator[ToolCallDelta]:
        """Take the pieces of one delta. Raises ``AnswerTooLarge`` for more calls than anybody makes."""
        for piece in value if isinstance(value, list) else [value]:
            if isinstance(piece, dict):
                self._take(piece)
        while (given := self._give()) is not None:
            yield given

    def flush(self) -> Iterator[ToolCallDelta]:
        """Give what was held; a call without a name is none."""
        for index, call in enumerate(self._calls):
            if call.name and (call.pending or not call.is_begun):
                yield self._given(index, call)

    def _take(self, piece: Mapping[str, Any]) -> None:
        function = piece.get("function")
        said: Mapping[str, Any] = function if isinstance(function, dict) else piece
        name, identifier = _word(said.get("name")), _word(piece.get("id"))
        call = self._called(piece.get("index"), identifier, name)
        call.id = call.id or identifier
        call.name = call.name or name
        arguments = said.get("arguments")
        if isinstance(arguments, str):
            call.pending += clean(arguments)
        elif arguments is not None:
            call.pending += json.dumps(arguments, ensure_ascii=False)

    def _called(self, index: object, identifier: str, name: str) -> _Call:
        """Return the call that a piece belongs to."""
        by_index = index if type(index) is int and index >= 0 else None
        last = self._calls[-1] if self._calls else None
        if by_index is not None:
            call = self._by_index.get(by_index)
            # Some count each call as the first: another id is another call.
            if call is not None and not (identifier and call.id and identifier != call.id):
                return call
        elif identifier:
            if call := next((call for call in self._calls if call.id == identifier), None):
                return call
        elif last is not None and not name:
            return last
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
            if call.name and (call.pending or not call.is_begun):
                return self._given(self._current, call)
            if self._current + 1 == len(self._calls) or not call.is_whole:
                return None
            self._current += 1
        return None

    def _given(self, index: int, call: _Call) -> ToolCallDelta:
        arguments, call.pending = call.pending, ""
        call.given.append(arguments)
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
