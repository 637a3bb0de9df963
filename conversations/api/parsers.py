"""JSON in, JSON out: nothing else is taken, and nothing else is negotiated."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import IO, Any, NoReturn

from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ParseError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from ..exceptions import InvalidRequest

# No call of ours needs more; checks, errors and logs of a document need time and memory for all of it.
MAX_DEPTH = 20
MAX_LIST = 1000
TOO_DEEP = _("The JSON is nested too deeply.")


class StrictJSONParser(BaseParser):
    """Parses `application/json` in UTF-8 whose top level is an object. An empty body is an empty object."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        body = stream.read()
        return loads(body) if body.strip() else {}


def loads(body: bytes | str) -> dict[str, Any]:
    """Return the JSON object in ``body``.

    Raises ``ParseError`` for what is not JSON or is nested too deeply, ``InvalidRequest`` for what is no object or
    has too long a list.
    """
    try:
        data = json.loads(body if isinstance(body, str) else body.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError:
        raise ParseError(TOO_DEEP) from None
    except ValueError:
        raise ParseError(_("This is not valid JSON in UTF-8.")) from None
    if not isinstance(data, dict):
        raise InvalidRequest(_("The JSON must be an object."))
    _check_shape(data)
    return data


def _check_shape(data: dict[str, Any]) -> None:
    level: list[Any] = [data]
    for _depth in range(MAX_DEPTH):
        if any(isinstance(item, list) and len(item) > MAX_LIST for item in level):
            raise InvalidRequest(_("A list in the JSON has more than %(limit)d items.") % {"limit": MAX_LIST})
        children = (item.values() if isinstance(item, dict) else item for item in level)
        level = [child for items in children for child in items if isinstance(child, dict | list)]
        if not level:
            return
    raise ParseError(TOO_DEEP)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


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
