"""What a backend has to be: one method that turns a request into deltas."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator

from .types import CompletionRequest, Delta, Endpoint


class Provider(ABC):
    """Talks one wire format to one endpoint. Cheap to make; holds no connection of its own."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    @abstractmethod
    def stream(self, request: CompletionRequest) -> AsyncIterator[Delta]:
        """Yield deltas as they arrive and end with one ``CompletionFinished``.

        Raises a ``ProviderError`` for everything that goes wrong, also after some deltas. Closing the
        iterator (``aclose``, or cancelling the task that iterates) closes the upstream connection at once.
        """
