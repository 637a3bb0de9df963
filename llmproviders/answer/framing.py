"""What an answer's bytes are: server-sent events, JSON, or neither. The first byte that is no blank decides.

What the content type says is not asked: servers and the proxies before them send each framing under each of them.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext_noop

from ..exceptions import AnswerTooLarge, UpstreamProtocolError
from ..sse import Event, SSEDecoder

# Types that no server can name itself: a field of an event ends with its line.
WHOLE = "\nwhole"  # all of a body that is JSON
PLAIN = "\nplain"  # the beginning of a body that is neither
LAST = "\nlast"  # an event that lacks its blank line, at a clean end

MAX_PLAIN_BYTES = 4_096
_BLANK = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b"error:", b":")


class AnswerFraming:
    """Feed what the network gave, in pieces of any size; at a clean end of the body ask for what is left."""

    def __init__(self, *, max_line_bytes: int, max_bytes: int) -> None:
        self._events = _Events(max_line_bytes=max_line_bytes)
        self._max_bytes = max_bytes
        self._begun = False
        self._bom = False
        self._held = b""
        self._json: bytearray | None = None
        self._plain = b""
        self._streams = False

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that ``chunk`` completes. Use up each iterator before the next call.

        Raises ``AnswerTooLarge``, and ``UpstreamProtocolError`` for a web page.
        """
        return self._events.feed(chunk) if self._streams else self._first(chunk)

    def _first(self, chunk: bytes) -> Iterator[Event]:
        """As ``feed``, until an event has shown that this is a stream of them."""
        if not self._begun:
            chunk = self._begin(self._held + chunk)
        if self._json is not None:
            self._json += chunk
            if len(self._json) > self._max_bytes:
                raise AnswerTooLarge(gettext_noop("The model's server sent more than it may."))
            return
        self._plain = (self._plain + chunk)[:MAX_PLAIN_BYTES]
        for event in self._events.feed(chunk):
            self._streams = True
            yield event

    @property
    def collects(self) -> bool:
        """Whether the answer is JSON, of which nothing is read before its end."""
        return self._json is not None

    def end(self) -> Iterator[Event]:
        """Yield what the clean end of the body completes. A connection that broke completes nothing."""
        if self._json is not None:
            yield Event(WHOLE, self._json.decode("utf-8", "replace"), "")
            return
        for event in self._events.end():
            self._streams = True
            yield event if event.event == "error" else event._replace(event=LAST)
        if self._plain and not self._streams and not self._plain.startswith(_FIELDS):
            yield Event(PLAIN, self._plain.decode("utf-8", "replace"), "")

    def _begin(self, start: bytes) -> bytes:
        """Decide what this is. Returns what is to be read of it, nothing while that is not sure."""
        start = start.lstrip(_BLANK)
        if not self._bom and start.startswith(_BOM):
            self._bom = True
            start = start[len(_BOM) :].lstrip(_BLANK)
        self._held = start if not self._bom and _BOM.startswith(start) else b""
        if not start or self._held:
            return b""
        self._begun = True
        if start[:1] in b"{[":
            self._json = bytearray()
        elif start[:1] == b"<":
            raise UpstreamProtocolError(gettext_noop("The model's server sent a web page instead of an answer."))
        return start


class _Events(SSEDecoder):
    """Server-sent events, and two things that the standard has no name for but some servers send."""

    def _unknown(self, line: str, name: str, value: str) -> None:
        if name == "error":  # llama.cpp until autumn 2025: an error is a field of its own
            self._event = "error"
            self._append(value)
        elif line.startswith(("{", "[{")):  # a proxy gave up in the middle, and its JSON has no field name
            self._append(line)
