"""What a person gets to see."""

from __future__ import annotations

import re
import sys
from typing import TextIO

from django.utils.translation import gettext as _

from ...engine.events import COMPLETED, CONTENT, FAILED, DoneEvent, ErrorEvent, Event, Piece
from ...models import Generation

DIM, PLAIN = "\x1b[2m", "\x1b[0m"
# What a model writes must not steer the terminal; line ends and tabs are fine.
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Screen:
    """Writes answers to standard output and the rest to standard error, each at once."""

    def __init__(self, *, color: bool) -> None:
        self._out, self._err = sys.stdout, sys.stderr
        self._dim = color and self._err.isatty()
        self._mid_line: TextIO | None = None
        self._thought = 0  # characters of this answer that came as reasoning

    def say(self, text: str) -> None:
        """Write a line about the chat."""
        self._write(self._err, f"{self._safe(self._err, text)}\n")

    def tell(self, who: str, text: str) -> None:
        """Write a message of the history."""
        self._write(self._out, f"{who}: {self._safe(self._out, text)}\n")

    def show(self, event: Event) -> None:
        """Write what a reader yields; every answer ends with a line end."""
        if isinstance(event, Piece) and event.call is not None:
            if event.call.id:
                self.say(_("[asks for the tool %(name)s, which there is none of here]") % {"name": event.call.name})
        elif isinstance(event, Piece):
            stream = self._out if event.kind == CONTENT else self._err
            self._thought += len(event.text) if event.kind != CONTENT else 0
            text = self._safe(stream, event.text)
            self._write(stream, f"{DIM}{text}{PLAIN}" if stream is self._err and self._dim else text, ends=text)
        elif isinstance(event, ErrorEvent):
            self.say(" ".join(event.message.split()))
        elif isinstance(event, DoneEvent):
            self._end_line()
            mistaken, self._thought = event.reasoning_chars - self._thought, 0
            if mistaken > 0:
                self.say(_("[the first %(count)d characters of this answer were only thought]") % {"count": mistaken})
            if event.ending.status == COMPLETED and event.ending.finish_reason == "length":
                self.say(_("[cut at max_tokens]"))
            if event.ending.status not in (COMPLETED, FAILED):
                status = Generation.Status(event.ending.status).label
                self.say(_("[%(status)s; the text so far is kept]") % {"status": status})

    @staticmethod
    def _safe(stream: TextIO, text: str) -> str:
        """Return what can be written there: a terminal may have fewer characters than models write."""
        encoding = stream.encoding or "utf-8"
        text = text.encode(encoding, "replace").decode(encoding)
        return STEERING.sub("", text) if stream.isatty() else text

    def _write(self, stream: TextIO, text: str, *, ends: str | None = None) -> None:
        if self._mid_line not in (None, stream) or (ends is None and self._mid_line):
            self._end_line()
        stream.write(text)
        stream.flush()
        self._mid_line = None if (ends or text).endswith("\n") else stream

    def _end_line(self) -> None:
        if stream := self._mid_line:
            self._mid_line = None
            stream.write("\n")
            stream.flush()
