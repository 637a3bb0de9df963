"""Which model answers, and a model of one's own."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from ..access.rules import Action, authorize
from ..engine.completions import CUSTOM, Endpoint
from ..services import configuration, endpoints
from ..services.configuration import Configuration
from ..web import serializers as s
from ..web.base import ApiView
from ..web.calls import caller_of, request_example, validated
from ..web.gate import Deferred, json_response
from ..web.queries import UserQuerySerializer


class ConfigView(ApiView):
    """Which model answers."""

    @extend_schema(parameters=[UserQuerySerializer], responses=s.ConfigSerializer)
    def get(self, request: Request) -> Response:
        """Show what would answer now, and what else there is. The key is masked."""
        query = validated(UserQuerySerializer, request.query_params.dict())
        config = configuration.get_configuration(caller=caller_of(request), user_id=query.get("user_id"))
        return Response(shown(config))

    @extend_schema(
        request=s.ConfigUpdateSerializer,
        responses=s.ConfigSerializer,
        examples=[request_example({"model_type": "default", "max_tokens": 1000})],
    )
    def post(self, request: Request) -> Response:
        """Choose a model, or set an endpoint of one's own with `model_type: "custom"`."""
        changes = validated(s.ConfigUpdateSerializer, request.data)
        config = configuration.update_configuration(
            caller=caller_of(request),
            user_id=changes.pop("user_id", None),
            model_type=changes.pop("model_type"),
            changes=changes,
        )
        return Response(shown(config))


class ModelsView(ApiView):
    """What an endpoint of one's own offers."""

    @extend_schema(request=s.EndpointSerializer, responses=s.ModelsSerializer)
    def post(self, request: Request) -> Deferred:
        """List the models of an endpoint, saved or not."""
        endpoint = _endpoint(request, needs_model=False)

        async def resolve() -> HttpResponseBase:
            return json_response({"models": await endpoints.list_models(caller_of(request), endpoint)})

        return Deferred(resolve)


class TrialView(ApiView):
    """Whether an endpoint of one's own answers."""

    @extend_schema(request=s.EndpointSerializer, responses=s.TrialSerializer)
    def post(self, request: Request) -> Deferred:
        """Ask an endpoint's model for two words."""
        endpoint = _endpoint(request, needs_model=True)

        async def resolve() -> HttpResponseBase:
            return json_response(asdict(await endpoints.try_out(caller_of(request), endpoint)))

        return Deferred(resolve)


def _endpoint(request: Request, *, needs_model: bool) -> Endpoint:
    authorize(caller_of(request), Action.CONFIGURE)
    given = validated(s.EndpointSerializer, request.data)
    user_id = given.pop("user_id", None)
    return endpoints.endpoint_to_try(caller=caller_of(request), user_id=user_id, given=given, needs_model=needs_model)


def shown(config: Configuration) -> dict[str, Any]:
    """Return the settings as the API shows them."""
    return {
        "llm_api_url": _shown_url(config.endpoint),
        "llm_model": config.endpoint.model,
        "llm_api_key": config.endpoint.api_key,
        "preset_models": [
            {
                "type": item.model_type,
                "name": item.name,
                "llm_api_url": _shown_url(item),
                "llm_model": item.model,
                "is_demo": item.is_demo,
                "takes_images": item.takes_images,
                "takes_tools": item.takes_tools,
                "reasons": item.reasons,
            }
            for item in config.presets
        ],
        "current_model_type": config.endpoint.model_type,
        "max_tokens": config.max_tokens,
    }


def _shown_url(endpoint: Endpoint) -> str:
    """Return a person's own URL whole, the operator's without what may hold a key: user name and query."""
    if endpoint.model_type == CUSTOM:
        return endpoint.api_url
    parts = urlsplit(endpoint.api_url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
