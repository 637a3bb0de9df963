"""The one way to ``llmproviders``: which model answers, and its answer as a stream of deltas."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from llmproviders import catalog
from llmproviders.base import Flowing, nobody_cares
from llmproviders.breaker import breaker
from llmproviders.exceptions import (
    ContextLengthExceeded,
    EmptyAnswer,
    InvalidEndpoint,
    ProviderError,
    UnknownModelType,
    UpstreamBadRequest,
    UpstreamTimeout,
)
from llmproviders.failures import PLAIN, UNANSWERED
from llmproviders.fields import DecryptionFailed, mask
from llmproviders.models import CUSTOM
from llmproviders.net.guard import MAX_MODEL_CHARS, validate_key, validate_model_name
from llmproviders.net.guard import validate_url as validate_url_of
from llmproviders.net.http import close_client
from llmproviders.registry import get_provider
from llmproviders.types import (
    ChatMessage,
    CompletionFinished,
    CompletionRequest,
    ContentDelta,
    Delta,
    Endpoint,
    Image,
    ReasoningDelta,
    SetBy,
    ThoughtSoFar,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)

from .. import conf
from ..exceptions import ImagesNotSupported, InvalidRequest, ToolsNotSupported, UnknownModel, UnreadableKey
from ..models import UserConfig

__all__ = [
    "CUSTOM",
    "MAX_MODEL_CHARS",
    "UNANSWERED",
    "ChatMessage",
    "CompletionFinished",
    "CompletionRequest",
    "ContentDelta",
    "ContextLengthExceeded",
    "Delta",
    "EmptyAnswer",
    "Endpoint",
    "Flowing",
    "Image",
    "InvalidEndpoint",
    "ProviderError",
    "ReasoningDelta",
    "ThoughtSoFar",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "Usage",
    "breaker",
    "check_abilities",
    "default_endpoint",
    "endpoint_for",
    "fallbacks_of",
    "is_endpoints_own",
    "is_silence",
    "known_model_types",
    "list_endpoints",
    "list_models",
    "mask",
    "own_endpoint",
    "shown_endpoint",
    "stream",
    "too_slow",
    "validate_key",
    "validate_model_name",
    "validate_url",
]

logger = logging.getLogger("conversations")

MOST_FALLBACKS = 5


def validate_url(url: str) -> str:
    """Return ``url`` if a user's own model may have it; else raise ``InvalidEndpoint`` for ``api_url``."""
    return validate_url_of(url, set_by=_set_by())


def _set_by() -> SetBy:
    """Whose a user's own URL is: the one person of an open server is its operator."""
    return "user" if conf.get().REQUIRE_LOGIN else "operator"


def default_endpoint() -> Endpoint | None:
    """Return the environment's model, None where there is none."""
    return catalog.default_endpoint()


def list_endpoints() -> list[Endpoint]:
    """Return the operator's endpoints, in the order in which they are offered. Reads the database."""
    return catalog.list_endpoints()


def known_model_types() -> set[str]:
    return {endpoint.model_type for endpoint in list_endpoints()} | {CUSTOM}


def endpoint_for(*, asked: str, conversation: str, config: UserConfig | None) -> Endpoint:
    """Return the endpoint that answers: the request's, else the conversation's, the user's, the default.

    Raises ``UnknownModel`` when the request asks for one that is not there. A saved choice whose preset is
    gone meanwhile is passed over, so that an old conversation still gets an answer; one whose key cannot be
    decrypted raises ``UnreadableKey``: it is still what was chosen.
    """
    if asked:
        try:
            return _endpoint(asked, config)
        except UnknownModel as error:
            raise UnknownModel.asked(error.detail) from error
    for saved in (conversation, config.current_model_type if config else ""):
        try:
            if saved:
                return _endpoint(saved, config)
        except UnreadableKey:
            raise
        except UnknownModel:
            continue
    try:
        return catalog.preferred_endpoint(conf.get().DEFAULT_MODEL_TYPE)
    except UnknownModelType as error:
        raise UnknownModel() from error


def own_endpoint_of(config: UserConfig | None) -> Endpoint | None:
    """Return a person's own endpoint, None where they have none that could answer."""
    try:
        return _own_endpoint(config)
    except UnknownModel:
        return None


def fallbacks_of(endpoint: Endpoint, request: CompletionRequest) -> tuple[Endpoint, ...]:
    """Return what answers instead where this endpoint does not begin to, of those that take all that is asked.

    Reads the database where there is any.
    """
    found = []
    for model_type in endpoint.fallbacks[:MOST_FALLBACKS]:
        try:
            found.append(catalog.get_endpoint(model_type))
        except (UnknownModelType, DecryptionFailed) as error:
            logger.error("preset %s cannot answer instead of %s: %s", model_type, endpoint.model_type, error)
    return tuple(other for other in found if request.lacking(other) is None)


def is_endpoints_own(error: ProviderError) -> bool:
    """Whether a failure says something of the endpoint rather than of what it was asked."""
    if isinstance(error, UpstreamBadRequest):
        return error.status in (404, 405)  # no such model, or no such call
    return not isinstance(error, ContextLengthExceeded | EmptyAnswer)


def shown_endpoint(config: UserConfig | None) -> Endpoint:
    """Return what a user has chosen, else what answers them, the key masked: ``""`` where it cannot be decrypted."""
    try:
        return without_key(endpoint_for(asked="", conversation="", config=config))
    except UnreadableKey:
        if config is None:
            raise
        return _keyless(config)


def _keyless(config: UserConfig) -> Endpoint:
    if config.current_model_type == CUSTOM:
        return catalog.custom_endpoint(config.custom_api_url, config.custom_model, set_by=_set_by())
    return catalog.keyless_endpoint(config.current_model_type)


def _endpoint(model_type: str, config: UserConfig | None) -> Endpoint:
    if model_type == CUSTOM:
        return _own_endpoint(config)
    try:
        return catalog.get_endpoint(model_type)
    except UnknownModelType as error:
        raise UnknownModel() from error
    except DecryptionFailed as error:
        logger.error("preset %s cannot answer: %s", model_type, error)
        detail = _("The key of this model cannot be decrypted any more; whoever runs the server must enter it again.")
        raise UnreadableKey(detail) from error


def _own_endpoint(config: UserConfig | None) -> Endpoint:
    if config is None or not config.custom_api_url or not config.custom_model:
        raise UnknownModel()
    url, model = config.custom_api_url, config.custom_model
    try:
        return catalog.custom_endpoint(url, model, config.custom_api_key, set_by=_set_by())
    except InvalidEndpoint as error:  # saved under other rules than those in force now
        raise UnknownModel(error.message) from error
    except DecryptionFailed as error:
        raise UnreadableKey() from error


def stream(
    endpoint: Endpoint,
    request: CompletionRequest,
    flows: Callable[[Flowing], None] | None = None,
    loading: Callable[[], None] = nobody_cares,
) -> AsyncIterator[Delta]:
    """Yield the model's deltas, the last one a ``CompletionFinished``; raises ``ProviderError``.

    ``flows`` is given text that is to be taken rather than yielded, ``loading`` is called while the server loads its
    model: see ``Provider``.
    """
    provider = get_provider(endpoint)
    provider.flows, provider.loading = flows, loading
    return provider.stream(request)


def check_abilities(endpoint: Endpoint, request: CompletionRequest, *, images: str, results: str) -> None:
    """Raise ``ImagesNotSupported`` or ``ToolsNotSupported`` for what the model is known not to take.

    They name the field ``images``, and ``tools``, or ``results`` where there are but results of earlier ones.
    """
    lacking = request.lacking(endpoint)
    if lacking is None:
        return
    reason = _("Leave them out, or choose another model.")
    if lacking == "images":
        raise ImagesNotSupported(errors={images: [reason]})
    raise ToolsNotSupported(errors={"tools" if request.tools else results: [reason]})


def saved_key(config: UserConfig) -> str:
    """Return the key of a person's own endpoint; raises ``UnreadableKey``."""
    try:
        return config.custom_api_key
    except DecryptionFailed as error:
        raise UnreadableKey() from error


def own_endpoint(url: str, model: str, key: str) -> Endpoint:
    """Return a person's own endpoint; raises ``InvalidRequest`` where it cannot be one."""
    try:
        return catalog.custom_endpoint(validate_url(url), model, key, set_by=_set_by())
    except InvalidEndpoint as error:
        raise InvalidRequest(errors={f"custom_{error.field}": [error.message]}) from error


async def list_models(endpoint: Endpoint, *, seconds: float) -> list[str]:
    """Return the names of a server's models; raises ``ProviderError``."""
    return await get_provider(endpoint).list_models(seconds=seconds)


def is_silence(error: ProviderError) -> bool:
    """Whether a model answered, and said nothing."""
    return isinstance(error, EmptyAnswer)


def too_slow() -> ProviderError:
    """Return the error of an endpoint that took too long."""
    return UpstreamTimeout(PLAIN[UpstreamTimeout])


async def close() -> None:
    """Close what the running event loop holds towards models."""
    await close_client()


def without_key(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint as it may be shown: the key masked."""
    return replace(endpoint, api_key=mask(endpoint.api_key))


def validate_users_key(key: str) -> str:
    """Return ``key`` if it can be sent; raise ``InvalidEndpoint`` otherwise.

    ``env:NAME`` is refused: it would send a variable of the server's environment to a user's URL.
    """
    if key.startswith("env:"):
        raise InvalidEndpoint("api_key", gettext("Keys of the form env:NAME are for administrators."))
    return validate_key(key)
