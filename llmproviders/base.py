"""What a backend has to be, one method that turns a request into deltas; and what it may declare of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import ClassVar, Protocol

from django.core.checks import CheckMessage
from django.utils.translation import gettext_noop

from .dialect import Dialect
from .exceptions import UpstreamBadRequest
from .types import CompletionRequest, Delta, Endpoint


class Flowing(Protocol):
    """Text of one answer, and its thoughts and calls, that flow and are taken when it suits whoever takes them."""

    on_news: Callable[[], None]
    """Called each time that something has come. To be set by whoever takes it."""

    def take(self) -> Sequence[Delta]:
        """Return what has come since the last time, without waiting; raises nothing.

        As the answer ends, or too much comes, the stream that gave this goes on by itself: here is nothing any more.
        """


def nobody_cares() -> None:
    """What is called where nobody asked to be told."""


def nobody_learns(_dialect: Dialect) -> None:
    """The same, with what an endpoint wants otherwise."""


class Provider(ABC):
    """Talks one wire format to one endpoint. Cheap to make; holds no connection of its own.

    ``flows`` is set by whoever takes the deltas together with others': a stream that has yielded text may call it with
    what follows, and yields nothing until its end comes. So what came meanwhile is taken at once, and no
    task is woken for it. A provider need not: whatever it yields is taken too.
    """

    is_demo: ClassVar[bool] = False
    """Whether this is for a first try only: labelled so wherever it is shown, and never asked for a title."""
    needs_url: ClassVar[bool] = True
    """Whether a preset with this backend has to say where its server is."""

    flows: Callable[[Flowing], None] | None = None
    # Called, perhaps again and again, while the server says that it is loading its model.
    loading: Callable[[], None] = staticmethod(nobody_cares)
    # Called with how the request was put when the server took it: for whoever finds out what it wants.
    accepted: Callable[[Dialect], None] = staticmethod(nobody_learns)
    # Called where an answer began within a thought that nobody had opened, and that was not known of the model.
    unopened: Callable[[], None] = staticmethod(nobody_cares)

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    @classmethod
    def is_available(cls) -> bool:
        """Whether it can work on this machine; else its presets are not offered."""
        return True

    @classmethod
    def context_limit(cls) -> int | None:
        """The most tokens that a conversation may have here, whatever its preset says; None for no such bound."""
        return None

    @classmethod
    def check(cls) -> Iterable[CheckMessage]:
        """What Django's system checks shall say of the settings that this backend reads."""
        return ()

    @classmethod
    def adapted(cls, endpoint: Endpoint) -> Endpoint:
        """Return a preset's endpoint as this backend wants it, where it knows better."""
        return endpoint

    async def list_models(self, *, seconds: float) -> list[str]:
        """Return the names of the models that the server has; raises ``ProviderError``. Takes ``seconds`` at most."""
        raise UpstreamBadRequest(gettext_noop("This backend does not tell which models there are."))

    @abstractmethod
    def stream(self, request: CompletionRequest) -> AsyncIterator[Delta]:
        """Yield deltas as they arrive and end with one ``CompletionFinished``.

        Raises a ``ProviderError`` for everything that goes wrong, also after some deltas. Closing the
        iterator (``aclose``, or cancelling the task that iterates) closes the upstream connection at once.
        """
