"""From an endpoint to the code that speaks its wire format."""

from __future__ import annotations

from functools import cache

from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from . import conf
from .base import Provider
from .exceptions import UnknownModelType
from .types import Endpoint


def get_provider(endpoint: Endpoint) -> Provider:
    """Return a provider for ``endpoint``. Raises ``UnknownModelType`` for a backend that nobody registered."""
    path = conf.get().BACKENDS.get(endpoint.backend)
    if path is None:
        names = {"type": endpoint.model_type, "backend": repr(endpoint.backend)}
        raise UnknownModelType(_("%(type)s: there is no backend named %(backend)s.") % names)
    return _backend(path)(endpoint)


def backend_class(name: str) -> type[Provider]:
    """Return the class of a backend, to be asked what it declares: ``Provider`` itself where there is none."""
    try:
        found = _backend(conf.get().BACKENDS[name])
    except (KeyError, ImportError):
        return Provider
    return found if isinstance(found, type) and issubclass(found, Provider) else Provider


@cache
def _backend(path: str) -> type[Provider]:
    backend: type[Provider] = import_string(path)
    return backend
