"""From an endpoint to the code that speaks its wire format."""

from __future__ import annotations

from functools import cache

from django.utils.module_loading import import_string

from . import conf
from .base import Provider
from .exceptions import UnknownModelType
from .types import Endpoint


def get_provider(endpoint: Endpoint) -> Provider:
    """Return a provider for ``endpoint``. Raises ``UnknownModelType`` for a backend that nobody registered."""
    path = conf.get().BACKENDS.get(endpoint.backend)
    if path is None:
        raise UnknownModelType(f"{endpoint.model_type}: there is no backend named {endpoint.backend!r}.")
    return _backend(path)(endpoint)


@cache
def _backend(path: str) -> type[Provider]:
    backend: type[Provider] = import_string(path)
    return backend
