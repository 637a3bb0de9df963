"""HTTP/1.1 as uvicorn speaks it, with bounds on what a client may send before any application sees it.

uvicorn's own protocol keeps a head of any length, and waits for ever for the rest of one. ``python -m chatproject``
serves with this class; ``uvicorn --http chatproject.protocol:Protocol``, or a worker class of gunicorn's whose
``CONFIG_KWARGS`` say ``{"http": "chatproject.protocol:Protocol"}``, does too.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any, NamedTuple

import httptools
from django.conf import settings
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from websockets.http11 import MAX_LINE_LENGTH

from conversations.exceptions import CONTENT_TYPE, problem

# Of a request's head: its line and its fields. What follows a chunked body counts with them.
MAX_HEAD_BYTES = 65_536
MAX_FIELDS = 128
# Requests that wait behind the one that is being answered. Some megabytes are read at once: 50,000 small requests.
MOST_WAITING = 64
# How long a refused client may go on sending, so that it gets to read why, and the pause after each read meanwhile:
# a fast one would keep a processor busy with what nobody looks at.
LINGER_SECONDS, LINGER_PAUSE = 2.0, 0.05


class Refusal(NamedTuple):
    """Why a connection ends."""

    status: int
    code: str
    detail: str


MALFORMED = Refusal(400, code="bad_request", detail="This is no HTTP/1.1 request.")
TOO_LARGE = Refusal(
    431,
    code="head_too_large",
    detail=f"The request's head has more than {MAX_HEAD_BYTES} bytes or {MAX_FIELDS} fields; "
    f"or a handshake's field has more than {MAX_LINE_LENGTH} bytes.",
)
TOO_SLOW = Refusal(408, code="request_timeout", detail="The request did not come whole in time.")


class _RefusedError(Exception):
    """Ends the parser, inside one of its callbacks."""


class Protocol(HttpToolsProtocol):
    """Refuses heads that are too large (431), and requests that take too long to arrive (408).

    A head may take ``settings.REQUEST_HEAD_SECONDS``, counted from the connection's begin or from its first byte, a
    body ``settings.REQUEST_BODY_SECONDS``, each as a whole: a client that sends a byte now and then gains nothing. A
    body over ``settings.MAX_BODY_BYTES`` has that time anew after each such part, and how long all of it may take says
    who takes it in (``conversations.web.bodies``).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        # Bytes that came since the parser last had something whole: it keeps those of an unfinished field itself.
        self._unfinished = 0
        self._size = self._fields = self._body_size = 0
        self._refusal = MALFORMED
        self._deadline: asyncio.TimerHandle | None = None
        self._is_over = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await(settings.REQUEST_HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_over = True
        self._settle()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            self._read_slowly()
            return
        self._unfinished += len(data)
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self._refuse(self._refusal)
        except httptools.HttpParserUpgrade:
            self.handle_websocket_upgrade()
        if self._unfinished > MAX_HEAD_BYTES:
            self._refuse(TOO_LARGE)
        self._watch()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to the WebSocket protocol, which is told that it speaks HTTP/1.1, whatever came.

        The header `Via` is where HTTP has that a message was received in another version; `credentials` looks there.
        """
        self._is_over = True
        self._settle()
        version = self.parser.get_http_version()
        if version != "1.1":
            self.headers.append((b"via", f"{version} chatproject".encode()))
        super().handle_websocket_upgrade()
        # What is behind it lets a handshake that it cannot read wait for ever.
        if not getattr(self.transport.get_protocol(), "handshake_initiated", True):
            too_large = any(len(name) + len(value) > MAX_LINE_LENGTH - 4 for name, value in self.headers)
            self.transport.write(
                _encoded(TOO_LARGE if too_large or len(self.url) > MAX_LINE_LENGTH - 20 else MALFORMED)
            )
            self.transport.close()

    def _parse(self, data: bytes) -> None:
        """Have bytes taken apart. Raises ``HttpParserUpgrade`` where a WebSocket begins, and ``HttpParserError``.

        Who asks for another protocol gets an answer in this one (RFC 9110, 7.8): Java's client asks for HTTP/2. The
        parser takes the body for that protocol, so another one gets the head, without the wish, and what follows.
        """
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self._should_upgrade():
                    raise
                line = (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
                fields = [b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"]
                data = b"%b %b HTTP/%b\r\n%b\r\n%b" % (*line, b"".join(fields), data[upgrade.args[0] :])
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
            else:
                return

    # The parser's callbacks

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MOST_WAITING:
            raise _RefusedError  # it ends once those are answered; the rest is asked again
        super().on_message_begin()
        self._size = self._fields = self._body_size = 0

    def on_url(self, url: bytes) -> None:
        self._grow(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        self._grow(len(name) + len(value) + len(": \r\n"))
        # uvicorn would take a field that follows a chunked body for one of the head.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.get_method() == b"CONNECT":
            raise _RefusedError  # the parser would take what follows for what is to go through
        if self._wants_another_protocol():
            return  # the head comes again
        self._in_head = False
        self._settle()
        self._take_origin_form()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unfinished = 0
        parts = self._body_size // settings.MAX_BODY_BYTES
        self._body_size += len(body)
        if self._body_size // settings.MAX_BODY_BYTES > parts:
            self._settle()
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._wants_another_protocol():
            return
        super().on_message_complete()
        self._in_head = True
        self._settle()

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MAX_HEAD_BYTES or self._fields > MAX_FIELDS:
            self._refusal = TOO_LARGE
            raise _RefusedError

    def _wants_another_protocol(self) -> bool:
        """Whether the parser ends with this head, and it is no WebSocket that is asked for."""
        return bool(self.parser.should_upgrade() and not self._should_upgrade())

    def _take_origin_form(self) -> None:
        """Turn ``http://host/path``, as proxies are asked, into path and Host (RFC 9112, 3.2.2)."""
        if self.url.startswith(b"/"):
            return
        if not self.url.lower().startswith((b"http://", b"https://")):
            raise _RefusedError  # `OPTIONS *` asks nothing that can be answered here
        url = httptools.parse_url(self.url)
        authority, path = b"[%b]" % url.host if b":" in url.host else url.host, url.path or b"/"
        if url.port:
            authority += b":%d" % url.port
        self.url = path + (b"?" + url.query if url.query else b"")
        self.headers[:] = [(name, value) for name, value in self.headers if name != b"host"] + [(b"host", authority)]

    # Time

    def _await(self, seconds: float) -> None:
        self._deadline = self.loop.call_later(seconds, self._time_is_up)

    def _settle(self) -> None:
        """Something came whole: count anew."""
        self._unfinished = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _watch(self) -> None:
        if self._deadline is not None or self._is_over:
            return
        if not self._in_head:
            self._await(settings.REQUEST_BODY_SECONDS)
        elif self._unfinished:
            self._await(settings.REQUEST_HEAD_SECONDS)

    def _time_is_up(self) -> None:
        self._deadline = None
        if self._answers_an_earlier_one():
            self._watch()
        elif self._in_head and not self._unfinished:
            self.transport.close()  # a browser that connected in advance would take a 408 for its next answer
        else:
            self._refuse(TOO_SLOW)

    def _answers_an_earlier_one(self) -> bool:
        """Whether the answer that is being sent is not the one of the request that is being read."""
        is_answering = self.cycle is not None and not self.cycle.response_complete
        return bool(self.pipeline) or (self._in_head and is_answering)

    # The end

    @property
    def is_waiting(self) -> bool:
        """Whether its first request is still to come, or the latest one's answer has not begun."""
        if self.transport.is_closing():
            return False
        return self.cycle is None or not (self.cycle.response_started or self.cycle.disconnected)

    def retire(self) -> None:
        """Close the connection once what is asked on it is answered: at once, where nothing is.

        One on which nothing was asked yet waits for its first request: it may be on its way.
        """
        if self.cycle is None:
            return
        if self.cycle.response_complete and self._in_head and not self._unfinished:
            self.transport.close()
        else:
            self.cycle.keep_alive = False

    def _refuse(self, refusal: Refusal) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._settle()
        if self._in_head and self._answers_an_earlier_one():
            self.cycle.keep_alive = False  # closes once that answer is complete
            return
        if self.pipeline or (not self._in_head and self.cycle is not None and self.cycle.response_started):
            self.transport.close()
            return
        self.transport.write(_encoded(refusal))
        # Closed with bytes of the client's still unread, the connection would be reset before it reads the answer.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._deadline = self.loop.call_later(LINGER_SECONDS, self.transport.close)
        self._read_slowly()

    def _read_slowly(self) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()
            self.loop.call_later(LINGER_PAUSE, self._read_on)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()


def _encoded(refusal: Refusal) -> bytes:
    request_id = uuid.uuid4().hex
    body = {**problem(**refusal._asdict()), "request_id": request_id}
    content = json.dumps(body).encode()
    head = (
        f"HTTP/1.1 {refusal.status} {body['title']}\r\n"
        f"content-type: {CONTENT_TYPE}\r\ncontent-length: {len(content)}\r\n"
        f"cache-control: no-store\r\nx-request-id: {request_id}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + content
