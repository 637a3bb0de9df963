"""Server-sent events out of bytes, as WHATWG HTML 9.2 says, with no I/O.

Feed what the network gave, in pieces of any size, and get the events that it completes. What is malformed is
dropped or replaced as the standard says, so that only a passed cap is an error. An event that the stream's
end leaves without its blank line is given to who asks for it at a clean end, and to nobody else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from django.utils.translation import gettext_noop

from .exceptions import AnswerTooLarge

BOM = "\ufeff"
_COMMENTS = re.compile(rb"(?m)^:.*\n")


class Event(NamedTuple):
    """One dispatched event: its type (``message`` unless named), its data, and the last id seen so far."""

    event: str
    data: str
    id: str


# Half the cost of calling the class, once an event.
_event: Callable[[tuple[str, str, str]], Event] = partial(tuple.__new__, Event)


def _without_noise(lines: bytes) -> bytes:
    """Leave out what says nothing and may come by the thousand: comments, and blank lines after an event's end."""
    if b"\n:" in lines:
        lines = _COMMENTS.sub(b"", lines)
    while b"\n\n\n" in lines:
        lines = lines.replace(b"\n\n\n", b"\n\n")
    return lines


class SSEDecoder:
    """Decodes one stream.

    ``max_line_bytes`` bounds a line without its end, ``max_event_chars`` the data of one event.
    """

    def __init__(self, *, max_line_bytes: int = 1_048_576, max_event_chars: int = 4_194_304) -> None:
        self._max_line_bytes = max_line_bytes
        self._max_event_chars = max_event_chars
        self._unfinished = bytearray()  # of a line; appending to it is cheap, also a byte at a time
        self._after_cr = False
        self._at_start = True
        self._event = ""
        self._id = ""
        self._data: list[str] = []
        self._data_chars = 0

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that ``chunk`` completes. Use up each iterator before the next call.

        Raises ``AnswerTooLarge`` when a cap is passed, after the events before that place.
        """
        chunk = self._with_line_feeds(chunk)
        end = chunk.rfind(b"\n") + 1
        if not end:
            self._unfinished += chunk
        else:
            lines = bytes(self._unfinished) + chunk[:end] if self._unfinished else chunk[:end]
            self._unfinished = bytearray(chunk[end:])
            if len(lines) > self._max_line_bytes:
                yield from self._dispatched(self._decoded_one_by_one(lines))
            else:
                # A byte order mark counts at the very start only, so nothing is left out before that.
                lines = lines if self._at_start else _without_noise(lines)
                *blocks, rest = self._decoded(lines).split("\n\n")
                for block in blocks:
                    # Nearly every event is one line of data and nothing else, which is seen at a glance.
                    if (
                        block.startswith("data: ")
                        and "\n" not in block
                        and not self._data
                        and not self._event
                        and len(block) <= self._max_event_chars
                    ):
                        yield _event(("message", block[6:], self._id))
                    else:
                        yield from self._dispatched([*block.split("\n"), ""])
                if rest:
                    yield from self._dispatched(rest.split("\n")[:-1])
        if len(self._unfinished) > self._max_line_bytes:
            raise self._line_too_long()

    def end(self) -> Iterator[Event]:
        """Yield the event that lacks its blank line, where the stream ended. The standard drops it."""
        line, self._unfinished = bytes(self._unfinished), bytearray()
        yield from self._dispatched([self._decoded(line), ""])

    def _dispatched(self, lines: Iterable[str]) -> Iterator[Event]:
        """The events that ``lines`` end, as the standard says."""
        for line in lines:
            if line:
                self._field(line)
                continue
            if self._data:
                yield Event(self._event or "message", "\n".join(self._data), self._id)
                self._data.clear()
                self._data_chars = 0
            self._event = ""

    def _with_line_feeds(self, chunk: bytes) -> bytes:
        """``chunk`` with \\n for each line end; the \\n of a \\r\\n that was split between chunks is left out."""
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if b"\r" not in chunk:
            return chunk
        self._after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _decoded(self, lines: bytes) -> str:
        """The text of one or more lines. Malformed UTF-8 never reaches over a line's end."""
        at_start, self._at_start = self._at_start, False
        text = lines.decode("utf-8", "replace")
        return text.removeprefix(BOM) if at_start else text

    def _decoded_one_by_one(self, lines: bytes) -> Iterator[str]:
        for line in lines.split(b"\n")[:-1]:
            if len(line) > self._max_line_bytes:
                raise self._line_too_long()
            yield self._decoded(line)

    def _field(self, line: str) -> None:
        """Any line but a blank one; a comment is one whose field has no name."""
        name, _colon, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name:
            self._unknown(line, name, value)

    def _unknown(self, line: str, name: str, value: str) -> None:
        """A field without a meaning, which the standard ignores."""

    def _append(self, value: str) -> None:
        self._data_chars += len(value) + 1
        if self._data_chars > self._max_event_chars:
            raise AnswerTooLarge(gettext_noop("The model's server sent an event that is too large."))
        self._data.append(value)

    def _line_too_long(self) -> AnswerTooLarge:
        return AnswerTooLarge(gettext_noop("The model's server sent a line that is too long."))
