"""The one door to ``llmproviders``: which model answers, and its answer as a stream of deltas."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from django.utils.translation import gettext_lazy as _

from llmproviders import catalog
from llmproviders.base import Turn, at_once
from llmproviders.exceptions import ContextLengthExceeded, InvalidEndpoint, ProviderError, UnknownModelType
from llmproviders.fields import DecryptionFailed, mask
from llmproviders.guard import MAX_MODEL_CHARS, validate_key, validate_model_name
from llmproviders.guard import validate_url as validate_url_of
from llmproviders.http import close_client
from llmproviders.registry import get_provider
from llmproviders.types import (
    ChatMessage,
    CompletionFinished,
    CompletionRequest,
    ContentDelta,
    Delta,
    Endpoint,
    ReasoningDelta,
    SetBy,
)

from . import conf
from .exceptions import UnknownModel
from .models import UserConfig

__all__ = [
    "CUSTOM",
    "MAX_MODEL_CHARS",
    "ChatMessage",
    "CompletionFinished",
    "CompletionRequest",
    "ContentDelta",
    "ContextLengthExceeded",
    "Delta",
    "Endpoint",
    "InvalidEndpoint",
    "ProviderError",
    "ReasoningDelta",
    "Turn",
    "endpoint_for",
    "known_model_types",
    "list_endpoints",
    "mask",
    "stream",
    "validate_key",
    "validate_model_name",
    "validate_url",
]

# The model type of a user's own endpoint.
CUSTOM = "custom"


def validate_url(url: str) -> str:
    """Return ``url`` if a user's own model may have it; else raise ``InvalidEndpoint`` for ``api_url``."""
    return validate_url_of(url, set_by=_set_by())


def _set_by() -> SetBy:
    """Whose a user's own URL is: the one person of an open server is its operator."""
    return "user" if conf.get().REQUIRE_LOGIN else "operator"


def list_endpoints() -> list[Endpoint]:
    """Return the operator's endpoints, in the order in which they are offered. Reads the database."""
    return catalog.list_endpoints()


def known_model_types() -> set[str]:
    return {endpoint.model_type for endpoint in list_endpoints()} | {CUSTOM}


def endpoint_for(*, asked: str, conversation: str, config: UserConfig | None) -> Endpoint:
    """Return the endpoint that answers: the request's, else the conversation's, the user's, the default.

    Raises ``UnknownModel`` when the request asks for one that is not there. A saved choice whose preset is
    gone meanwhile is passed over, so that an old conversation still gets an answer.
    """
    if asked:
        return _endpoint(asked, config)
    for saved in (conversation, config.current_model_type if config else ""):
        try:
            if saved:
                return _endpoint(saved, config)
        except UnknownModel:
            continue
    try:
        return catalog.preferred_endpoint(conf.get().DEFAULT_MODEL_TYPE)
    except UnknownModelType as error:
        raise UnknownModel() from error


def _endpoint(model_type: str, config: UserConfig | None) -> Endpoint:
    if model_type == CUSTOM:
        if config is None or not config.custom_api_url or not config.custom_model:
            raise UnknownModel()
        try:
            return catalog.custom_endpoint(
                config.custom_api_url, config.custom_model, config.custom_api_key, set_by=_set_by()
            )
        except InvalidEndpoint as error:  # saved under other rules than those in force now
            raise UnknownModel(error.message) from error
        except DecryptionFailed as error:
            raise UnknownModel(_("The key of your own model cannot be decrypted any more; enter it again.")) from error
    try:
        return catalog.get_endpoint(model_type)
    except UnknownModelType as error:
        raise UnknownModel() from error


def stream(endpoint: Endpoint, request: CompletionRequest, turn: Turn = at_once) -> AsyncIterator[Delta]:
    """Yield the model's deltas, the last one a ``CompletionFinished``; raises ``ProviderError``.

    ``turn`` is awaited between text and the reading of more: see ``Provider``.
    """
    provider = get_provider(endpoint)
    provider.turn = turn
    return provider.stream(request)


async def close() -> None:
    """Close what the running event loop holds towards models."""
    await close_client()


def without_key(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint as it may be shown: the key masked."""
    return replace(endpoint, api_key=mask(endpoint.api_key))
