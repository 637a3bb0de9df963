"""The events of an answer as Server-Sent Events."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

from django.http import StreamingHttpResponse

from ..access import Caller
from ..exceptions import InvalidPosition, NotAuthenticated
from ..generation.events import CONTENT, AnswerIds, DoneEvent, ErrorEvent, Event, IdleEvent, Piece, payload
from ..generation.reader import Reader
from .watch import CredentialWatch

PING = b": ping\n\n"
# What a browser's EventSource waits before it reconnects, in milliseconds; said once, with the first event.
RETRY = b"retry: 2000\n\n"
END = "end"
# Of a position that a client names.
MAX_DIGITS = 12
# These end a line in Python's `splitlines` (and in clients built on it), though not in SSE.
LINE_ENDS = {"\u0085": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}

_encode_json = json.JSONEncoder(ensure_ascii=False).encode


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
        return PING
    position = END if isinstance(event, DoneEvent) else event.position
    if isinstance(event, Piece):
        name = "chunk" if event.kind == CONTENT else "reasoning"
        data = f'{{"{name}": {_encode_json(event.text)}}}'
    else:
        data = _encode_json(payload(event))
    if not data.isascii():
        for character, escape in LINE_ENDS.items():
            data = data.replace(character, escape)
    return f"id: {generation_id}:{position}\ndata: {data}\n\n".encode()


async def encoded(reader: Reader, watch: CredentialWatch) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of an answer's stream; events that are there at once go out together.

    A reader whose credential ended gets an error instead of the terminal event: the answer goes on without them.
    """
    generation_id = str(reader.ids.generation_id)
    position = 0
    yield RETRY
    async with aclosing(reader.batches()) as batches:
        async for batch in batches:
            yield b"".join([encode(event, generation_id) for event in batch])
            if not isinstance(batch[-1], IdleEvent):
                position = batch[-1].position
            try:
                await watch.check()
            except NotAuthenticated as refusal:
                yield encode(ErrorEvent(position, refusal.code, str(refusal), None), generation_id)
                return


class EventStreamResponse(StreamingHttpResponse):
    """A stream that closes its iterator at once when the client leaves (Django leaves that to the collector)."""

    def __init__(self, reader: Reader, caller: Caller) -> None:
        super().__init__(
            encoded(reader, CredentialWatch(caller)),
            content_type="text/event-stream; charset=utf-8",
            headers={
                **headers_of(reader.ids),
                "Cache-Control": "no-cache, no-transform",
                "X-Accel-Buffering": "no",
                # Compression would hand clients one gzip member a chunk.
                "Content-Encoding": "identity",
            },
        )

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._iterator) as parts:  # type: ignore[attr-defined]
            async for part in parts:
                yield part


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
