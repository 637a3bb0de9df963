"""What all API views share. Set here, so that a host project's own ``REST_FRAMEWORK`` changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rest_framework.renderers import JSONRenderer
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from .authentication import CallerAuthentication
from .errors import exception_handler
from .parsers import JSONOnlyNegotiation, StrictJSONParser


class ApiView(APIView):
    """JSON in, JSON or problem+json out, for whom ``access`` lets in; ``access.authorize`` decides the rest."""

    authentication_classes = [CallerAuthentication]
    permission_classes = []
    throttle_classes = []
    parser_classes = [StrictJSONParser]
    renderer_classes = [JSONRenderer]
    content_negotiation_class = JSONOnlyNegotiation

    def get_exception_handler(self) -> Callable[..., Any]:
        return exception_handler


class ApiViewSet(ApiView, ViewSet):
    """The same, for several calls on one kind of thing."""
