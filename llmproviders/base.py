"""What a backend has to be: one method that turns a request into deltas."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from .types import CompletionRequest, Delta, Endpoint

Turn: TypeAlias = Callable[[], Awaitable[None]]


async def at_once() -> None:
    """A turn that is always there."""


class Provider(ABC):
    """Talks one wire format to one endpoint. Cheap to make; holds no connection of its own.

    ``turn`` is set by whoever takes the deltas together with others': a stream that has yielded text awaits it
    before it reads more, so that what comes meanwhile is one delta. It may be left out: then each read is one.
    """

    turn: Turn = staticmethod(at_once)

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    @abstractmethod
    def stream(self, request: CompletionRequest) -> AsyncIterator[Delta]:
        """Yield deltas as they arrive and end with one ``CompletionFinished``.

        Raises a ``ProviderError`` for everything that goes wrong, also after some deltas. Closing the
        iterator (``aclose``, or cancelling the task that iterates) closes the upstream connection at once.
        """
