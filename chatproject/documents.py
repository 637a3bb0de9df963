"""The OpenAPI document: made once a process, language and format, since it takes a second."""

from __future__ import annotations

from functools import lru_cache
from threading import Lock
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.utils import translation
from django.utils.encoding import force_bytes
from django.utils.translation import gettext_lazy as _
from drf_spectacular.renderers import OpenApiJsonRenderer2
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework.negotiation import BaseContentNegotiation, DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from conversations.exceptions import InvalidRequest
from conversations.web.authentication import CountedByAddress
from conversations.web.parsers import JSONOnlyNegotiation

_turn = Lock()


class Schema(SpectacularAPIView):
    """The document, for everybody; YAML, or JSON where it is asked for. ``?lang=`` is one of ``LANGUAGES``."""

    authentication_classes = [CountedByAddress]
    permission_classes: list[Any] = []
    content_negotiation_class: type[BaseContentNegotiation] = DefaultContentNegotiation

    @extend_schema(exclude=True)
    def get(self, request: Request, *_args: Any, **_kwargs: Any) -> HttpResponse:
        """Return it. Raises ``InvalidRequest`` for another language: Django would keep each that it is asked for."""
        language = request.query_params.get("lang") or translation.get_language()
        if language not in dict(settings.LANGUAGES):
            raise InvalidRequest(errors={"lang": [_("There is no such language.")]})
        renderer: BaseRenderer = request.accepted_renderer
        makers: tuple[Any, Any] = (self.generator_class, type(renderer))
        with _turn:
            content = _document(*makers, language, settings.ROOT_URLCONF)
        answer = HttpResponse(content, content_type=renderer.media_type)
        answer["Content-Disposition"] = f'inline; filename="schema.{renderer.format}"'
        answer["Vary"] = "Accept"
        return answer


class SchemaAsJSON(Schema):
    """The same as JSON whatever `Accept` says, at the path where many tools look for it."""

    renderer_classes = [OpenApiJsonRenderer2]
    content_negotiation_class = JSONOnlyNegotiation


@lru_cache(maxsize=16)
def _document(generator: Any, renderer: Any, language: str, _urlconf: str) -> bytes:
    with translation.override(language):
        schema = generator().get_schema(request=None, public=True)
        return force_bytes(renderer().render(schema, renderer_context={}))
