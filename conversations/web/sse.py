"""The events of an answer as Server-Sent Events."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from django.http import StreamingHttpResponse

from ..access.rules import Caller
from ..engine.events import CONTENT, AnswerIds, DoneEvent, ErrorEvent, Event, IdleEvent, LoadingEvent, Piece, payload
from ..engine.reader import Reader
from ..exceptions import InvalidPosition, NotAuthenticated
from .credential_watch import CredentialWatch
from .fields import MAX_DIGITS

# No blank line: clients in wide use fire an empty event for a block that has no data.
PING, LOADING = b": ping\n", b": loading\n"
# What a browser's EventSource waits before it reconnects, in milliseconds. It heads the block of the first event, and
# goes out before that: some servers send no headers before there is a body.
RETRY = b"retry: 2000\n"
END = "end"
# What ends a stream of other formats than ours.
DONE = b"data: [DONE]\n\n"
# These end a line in Python's `splitlines` (and in clients built on it), though not in SSE.
LINE_ENDS = {"\u0085": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}

encode_json = json.JSONEncoder(ensure_ascii=False).encode


def headers_of(ids: AnswerIds) -> dict[str, str]:
    """Return the headers that name an answer."""
    return {
        "X-Session-Id": str(ids.session_id),
        "X-Message-Id": str(ids.message_id),
        "X-Generation-Id": str(ids.generation_id),
    }


def encode(event: Event, generation_id: str) -> bytes:
    """Return one event in wire format."""
    if isinstance(event, IdleEvent):
        return LOADING if isinstance(event, LoadingEvent) else PING
    position = END if isinstance(event, DoneEvent) else event.position
    if isinstance(event, Piece) and event.call is None:
        name = "chunk" if event.kind == CONTENT else "reasoning"
        data = f'{{"{name}": {encode_json(event.text)}}}'
    else:
        data = encode_json(payload(event))
    return f"id: {generation_id}:{position}\n".encode() + line_of(data)


def line_of(data: str) -> bytes:
    """Return the end of an event in wire format: its JSON, on one line for every client."""
    if not data.isascii():
        for character, escape in LINE_ENDS.items():
            data = data.replace(character, escape)
    return f"data: {data}\n\n".encode()


def data_of(value: Any) -> bytes:
    """Return an event that has no id: ``value`` as its JSON."""
    return line_of(encode_json(value))


@dataclass(frozen=True, slots=True)
class EventEncoding:
    """How a door writes an answer as events: what goes out first, each event of a generation, and what ends a stream
    that is refused.
    """

    opening: bytes
    encode: Callable[[Event, str], bytes]
    closing: bytes = b""


OURS = EventEncoding(RETRY, encode)


async def encoded(reader: Reader, watch: CredentialWatch, encoding: EventEncoding) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of an answer's stream; events that are there at once go out together.

    A reader whose credential ended gets an error instead of the terminal event: the answer goes on without them.
    """
    generation_id, encode = str(reader.ids.generation_id), encoding.encode
    position = reader.position
    yield encoding.opening
    async with aclosing(reader.batches()) as batches:
        async for batch in batches:
            yield b"".join([encode(event, generation_id) for event in batch])
            last = batch[-1]
            if isinstance(last, DoneEvent):
                return  # whoever saw the end needs no credential any more
            if not isinstance(last, IdleEvent):
                position = last.position
            try:
                await watch.check()
            except NotAuthenticated as refusal:
                yield encode(ErrorEvent(position, refusal.code, str(refusal), None), generation_id) + encoding.closing
                return


STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
    # Compression would hand clients one gzip member a chunk.
    "Content-Encoding": "identity",
}


def stream_headers(ids: AnswerIds) -> dict[str, str]:
    """Return the headers of an answer's stream."""
    return {**STREAM_HEADERS, **headers_of(ids)}


class HeadResponse(StreamingHttpResponse):
    """The head of a stream and nothing more: nobody reads the answer for it."""

    def __init__(self, ids: AnswerIds) -> None:
        super().__init__(nothing(), headers=stream_headers(ids))


async def nothing() -> AsyncGenerator[bytes, None]:
    """A body of which only the head is wanted."""
    return
    yield b""


class ClosingStream(StreamingHttpResponse):
    """A stream that closes its iterator at once when the client leaves (Django leaves that to the collector)."""

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._iterator) as parts:  # type: ignore[attr-defined]
            async for part in parts:
                yield part


class EventStreamResponse(ClosingStream):
    """The events of an answer."""

    def __init__(self, reader: Reader, caller: Caller, encoding: EventEncoding = OURS) -> None:
        super().__init__(encoded(reader, CredentialWatch(caller), encoding), headers=stream_headers(reader.ids))


def parse_last_event_id(value: str, generation_id: str) -> int | None:
    """Return the position that an event id names, None for the end; raises ``InvalidPosition``."""
    whose, separator, position = value.strip().partition(":")
    if not separator or whose.lower() != generation_id:
        raise InvalidPosition()
    return None if position == END else parse_position(position)


def parse_position(value: str) -> int:
    """Return a count of characters; raises ``InvalidPosition`` unless it is written in plain digits."""
    if not (value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS):
        raise InvalidPosition()
    return int(value)
