"""JSON in, JSON out: nothing else is taken, and nothing else is negotiated."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from io import BytesIO
from typing import IO, Any, NoReturn

from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ParseError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from ..exceptions import ChatError, InvalidRequest
from . import bodies

# No call of ours needs more; checks, errors and logs of a document need time and memory for all of it.
MAX_DEPTH = 20
MAX_LIST = 1000
# The key in a request's `META` under which its body is kept: a job may run twice (`db.write_together`).
BODY = "conversations.body"
TOO_DEEP = _("The JSON is nested too deeply.")


class ReceivedRequest(Request):
    """A request whose body is what was received, whatever was said of its length.

    The framework takes a missing ``Content-Length`` for no body; chunks, and HTTP/2, need none.
    """

    @property
    def stream(self) -> IO[bytes] | None:
        """The body, None if there is none; raises ``BodyTooLarge``, or why it was not read."""
        intake = bodies.intake_of(self._request)
        if intake is not None and intake.parsed is not None:
            return ParsedStream(intake.parsed)
        body = received_body(self._request)
        return BytesIO(body) if body else None


def received_body(request: HttpRequest) -> bytes:
    """Return the body as it came; raises ``BodyTooLarge`` past the route's limit, or why it was not read."""
    unread: ChatError | None = getattr(request, "scope", {}).get(bodies.UNREAD)
    if unread is not None:
        raise unread
    if BODY in request.META:
        return bytes(request.META[BODY])
    limit = bodies.limit_of(request.resolver_match)
    # Not `request.body`: its limit is another one, a host's, and looks only at what was said of the length.
    body = request.read(limit + 1)
    if len(body) > limit:
        raise bodies.too_large(limit)
    if not bodies.takes_large(request.resolver_match):
        request.META[BODY] = body
    return body


class ParsedStream(BytesIO):
    """Stands for a body that was parsed."""

    def __init__(self, parsed: Future[Any]) -> None:
        super().__init__()
        self.parsed = parsed


class StrictJSONParser(BaseParser):
    """Parses `application/json` in UTF-8 whose top level is an object. An empty body is an empty object."""

    media_type = "application/json"
    max_depth = MAX_DEPTH
    max_list = MAX_LIST
    # Fields say themselves what is too large for them.
    parse_float: Callable[[str], float] | None = None

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        if isinstance(stream, ParsedStream):
            parsed: dict[str, Any] = stream.parsed.result()
            return parsed
        body = stream.read()
        if not body:
            return {}
        return loads(body, max_depth=self.max_depth, max_list=self.max_list, parse_float=self.parse_float)


def loads(
    body: bytes | str,
    *,
    max_depth: int = MAX_DEPTH,
    max_list: int = MAX_LIST,
    parse_float: Callable[[str], float] | None = None,
) -> dict[str, Any]:
    """Return the JSON object in ``body``.

    Raises ``ParseError`` for what is not JSON or is nested too deeply, ``InvalidRequest`` for what is no object or
    has too long a list.
    """
    try:
        data = json.loads(
            body if isinstance(body, str) else body.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_float=parse_float,
        )
    except RecursionError:
        raise ParseError(TOO_DEEP) from None
    except ValueError:
        raise ParseError(_("This is not valid JSON in UTF-8.")) from None
    if not isinstance(data, dict):
        raise InvalidRequest(_("The JSON must be an object."))
    _check_shape(data, max_depth, max_list)
    return data


def _check_shape(data: dict[str, Any], max_depth: int, max_list: int) -> None:
    level: list[Any] = [data]
    for _depth in range(max_depth):
        if any(isinstance(item, list) and len(item) > max_list for item in level):
            raise InvalidRequest(_("A list in the JSON has more than %(limit)d items.") % {"limit": max_list})
        children = (item.values() if isinstance(item, dict) else item for item in level)
        level = [child for items in children for child in items if isinstance(child, dict | list)]
        if not level:
            return
    raise ParseError(TOO_DEEP)


def finite(text: str) -> float:
    """Return a number that can be sent on as JSON; raises ``ValueError`` for what is beyond them."""
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is larger than a number can be")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class HistoryParser(StrictJSONParser):
    """Takes longer lists, and what is deeper: whole histories, and schemas of ten levels. All of it is sent on."""

    max_depth = 64
    max_list = 10_000
    parse_float = staticmethod(finite)


def parse_ahead(request: HttpRequest, parsers: Iterable[type[BaseParser]]) -> None:
    """Parse a large body of JSON before the view runs, which then gets what comes of it, or what is raised.

    It may take seconds: to be called through ``db.files``. Does nothing for any other body.
    """
    intake = bodies.intake_of(request)
    parser = next((parser for parser in parsers if parser.media_type == request.content_type), None)
    if intake is None or parser is None or not issubclass(parser, StrictJSONParser):
        return
    parsed: Future[Any] = Future()
    try:
        parsed.set_result(parser().parse(BytesIO(received_body(request))))
    except Exception as error:
        parsed.set_exception(error)
    intake.parsed = parsed


class JSONOnlyNegotiation(BaseContentNegotiation):
    """Answers JSON whatever `Accept` says: clients of the old service send all sorts of it."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        content_type = (request.content_type or "").split(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == content_type), None)

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, str(renderer.media_type)
