"""Messages in, a stream of deltas out: the public names of this package.

::

    async with aclosing(get_provider(endpoint).stream(request)) as deltas:
        async for delta in deltas:
            ...

Everything that goes wrong is a ``ProviderError`` (``exceptions.py``). ``net.http.close_client`` ends the
connections of the running event loop.
"""

from .base import Provider
from .exceptions import InvalidEndpoint, ProviderError, UnknownModelType
from .registry import get_provider
from .types import (
    ChatMessage,
    CompletionFinished,
    CompletionRequest,
    ContentDelta,
    Delta,
    Endpoint,
    ReasoningDelta,
    ThoughtSoFar,
    Usage,
)

__all__ = [
    "ChatMessage",
    "CompletionFinished",
    "CompletionRequest",
    "ContentDelta",
    "Delta",
    "Endpoint",
    "InvalidEndpoint",
    "Provider",
    "ProviderError",
    "ReasoningDelta",
    "ThoughtSoFar",
    "UnknownModelType",
    "Usage",
    "get_provider",
]
