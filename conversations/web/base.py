"""What all API views share. Set here, so that a host project's own ``REST_FRAMEWORK`` changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from rest_framework.metadata import SimpleMetadata
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from ..database import outages
from .authentication import CallerAuthentication
from .failures import error_from
from .parsers import JSONOnlyNegotiation, ReceivedRequest, StrictJSONParser
from .schema import ApiSchema


class Renderer(JSONRenderer):
    """JSON in one form, whatever `UNICODE_JSON`, `COMPACT_JSON` and `STRICT_JSON` of the project say."""

    ensure_ascii = False
    compact = True
    strict = True


class ApiView(APIView):
    """JSON in, JSON or problem+json out, for whom ``access`` lets in; ``access.rules.authorize`` decides the rest."""

    authentication_classes = [CallerAuthentication]
    permission_classes = []
    throttle_classes = []
    parser_classes = [StrictJSONParser]
    renderer_classes = [Renderer]
    content_negotiation_class = JSONOnlyNegotiation
    versioning_class = None
    metadata_class = SimpleMetadata
    schema = ApiSchema()
    # Whether unsafe calls that come at the same time may share a transaction (`db.write_together`).
    joins = False
    # How errors look here; another door's views have their own.
    render_error = staticmethod(error_from)

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> ReceivedRequest:
        """Return the framework's request, with the body that was received."""
        return ReceivedRequest(
            request,
            parsers=self.get_parsers(),
            authenticators=self.get_authenticators(),
            negotiator=self.get_content_negotiator(),
            parser_context=self.get_parser_context(request),
        )

    def handle_exception(self, exc: Exception) -> Response:
        """Answer an exception; but an outage of the database is the pool's first, which reads once more."""
        if outages.is_outage(exc):
            raise exc
        return super().handle_exception(exc)

    def get_exception_handler(self) -> Callable[..., Any]:
        return lambda error, _context: self.render_error(error)


class ApiViewSet(ApiView, ViewSet):
    """The same, for several calls on one kind of thing."""
