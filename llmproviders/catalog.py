"""Which models can answer: the enabled presets, and the environment's model as type ``default``."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from django.utils.translation import gettext as _

from . import conf
from .exceptions import InvalidEndpoint, UnknownModelType
from .fields import ENVIRONMENT, DecryptionFailed
from .models import CUSTOM, DEFAULT, Preset
from .net.guard import validate_model_name
from .registry import backend_class
from .types import Endpoint, SetBy

logger = logging.getLogger("llmproviders")

# What answers where nobody chose, best first.
PREFERRED = (DEFAULT, "local", "codegeex")


def list_endpoints() -> list[Endpoint]:
    """Return what can be chosen: presets in their order, then the environment's model. One query.

    A preset whose backend cannot work here (the embedded model without its packages) is left out, and so is
    one whose key cannot be decrypted, which goes to the log.
    """
    endpoints = [endpoint for endpoint in _preset_endpoints() if is_available(endpoint)]
    default = default_endpoint()
    return [*endpoints, default] if default else endpoints


def get_endpoint(model_type: str) -> Endpoint:
    """Return the endpoint of a model type, also one whose backend still lacks something. At most one query.

    Raises ``UnknownModelType``, and ``DecryptionFailed`` for a preset whose key no encryption key opens.
    """
    if model_type == DEFAULT:
        endpoint = default_endpoint()
    else:
        preset = Preset.objects.enabled().filter(type=model_type).first()
        endpoint = preset.endpoint() if preset else None
    if endpoint is None:
        raise UnknownModelType(_("There is no model type %(type)s.") % {"type": repr(model_type)})
    return endpoint


def keyless_endpoint(model_type: str) -> Endpoint:
    """Return the endpoint of a preset whose key cannot be decrypted, to be shown: without a key. One query.

    Raises ``UnknownModelType``.
    """
    preset = Preset.objects.enabled().filter(type=model_type).defer("api_key").first()
    if preset is None:
        raise UnknownModelType(_("There is no model type %(type)s.") % {"type": repr(model_type)})
    preset.api_key = ""
    return preset.endpoint()


def preferred_endpoint(preferred: str = "") -> Endpoint:
    """Return the endpoint that answers where nobody chose: that of type ``preferred`` if it can.

    Else ``default`` if it is configured, ``local`` if it is installed, ``codegeex``, the first that there is. No query
    where that is the environment's model. Raises ``UnknownModelType`` when there is none.
    """
    default = default_endpoint()
    if default is not None and preferred in ("", DEFAULT):
        return default
    endpoints = {endpoint.model_type: endpoint for endpoint in list_endpoints()}
    for model_type in (preferred, *PREFERRED, *endpoints):
        if model_type in endpoints:
            return endpoints[model_type]
    raise UnknownModelType(
        _("No model can answer: set LLM_API_URL and LLM_MODEL, enable a preset, or `make install-local-model`.")
    )


def default_endpoint() -> Endpoint | None:
    """Return the environment's model (``LLMPROVIDERS``: ``API_URL``, ``MODEL``, ``API_KEY``), None without a URL."""
    settings = conf.get()
    if not settings.API_URL:
        return None
    return Endpoint(
        model_type=DEFAULT,
        name=settings.MODEL or DEFAULT,
        api_url=settings.API_URL,
        model=settings.MODEL,
        api_key=settings.API_KEY,
        context_window=settings.CONTEXT_WINDOW,
    )


def custom_endpoint(
    api_url: str, model: str, api_key: str = "", *, name: str = "", set_by: SetBy = "user"
) -> Endpoint:
    """Return a user's own endpoint (type ``custom``). ``set_by`` is ``operator`` where that user is the operator.

    URL and key were judged when they were saved and are judged again by the call. Raises ``InvalidEndpoint``
    for the model's name and for ``env:NAME`` keys: they would send the server's secrets to the user's URL.
    """
    validate_model_name(model)
    if api_key.startswith(ENVIRONMENT):
        raise InvalidEndpoint("api_key", _("Only presets may take their key from the server's environment."))
    return Endpoint(
        model_type=CUSTOM,
        name=name or model,
        api_url=api_url,
        model=model,
        api_key=api_key,
        context_window=conf.get().CONTEXT_WINDOW,
        set_by=set_by,
    )


def is_available(endpoint: Endpoint) -> bool:
    """Whether the endpoint's backend has what it needs on this machine."""
    return backend_class(endpoint.backend).is_available()


def _preset_endpoints() -> list[Endpoint]:
    try:
        return [preset.endpoint() for preset in Preset.objects.enabled()]
    except DecryptionFailed:
        return list(_readable_endpoints())


def _readable_endpoints() -> Iterator[Endpoint]:
    """One query a preset, so that one unreadable key does not hide the others."""
    for preset in Preset.objects.enabled().defer("api_key"):
        try:
            yield preset.endpoint()
        except DecryptionFailed as error:
            logger.error("preset %s is left out: %s", preset.type, error)
