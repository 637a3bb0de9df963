"""Everything that can go wrong between us and a model.

::

    ProviderError                     upstream_error
    ├── UpstreamAuthenticationFailed  upstream_authentication   401, 403: the key is wrong
    ├── UpstreamRateLimited           upstream_rate_limit       429, with retry_after where it was given
    ├── UpstreamUnpaid                upstream_unpaid           402, no credit left: nothing that waiting mends
    ├── ContextLengthExceeded         context_length            the prompt does not fit the model
    ├── UpstreamBadRequest            upstream_bad_request      any other 4xx
    ├── UpstreamUnavailable           upstream_unavailable      no connection, 5xx
    │   ├── LocalModelMissing         local_model_missing       the embedded model is not installed
    │   ├── ModelLoading              upstream_unavailable      it answers that it is still loading
    │   └── AddressRefused            upstream_unavailable      the address may not be dialled
    ├── UpstreamTimeout               upstream_timeout          connect, first token, between tokens, total
    ├── EmptyAnswer                   empty_answer              the answer is complete, and says nothing
    └── UpstreamProtocolError         upstream_protocol         not the format that was expected
        ├── AnswerCut                 upstream_protocol         the stream ended before it was complete
        └── AnswerTooLarge            upstream_protocol         a line or the answer passed its cap
    UnknownModelType                  unknown_model_type        no such preset, or it is switched off
    InvalidEndpoint                   invalid_endpoint          a URL or key that cannot be used

``code`` is stable and documented; ``str(error)`` is short, cleaned of secrets and safe to show to the
person who asked.
"""

from __future__ import annotations

from typing import ClassVar

from .types import CompletionFinished


class ProviderError(Exception):
    """A model did not answer. ``retry_after`` is in seconds; ``status`` the upstream's HTTP status.

    ``finished`` is what the upstream said of the answer's end all the same: its finish reason, its counts.
    """

    code: ClassVar[str] = "upstream_error"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        finished: CompletionFinished | None = None,
    ) -> None:
        super().__init__(message)
        self.finished = finished
        self.message = message
        self.status = status
        self.retry_after = retry_after


class UpstreamAuthenticationFailed(ProviderError):
    code = "upstream_authentication"


class UpstreamRateLimited(ProviderError):
    code = "upstream_rate_limit"


class UpstreamUnpaid(ProviderError):
    """The account at the upstream has no credit, or its contract has ended."""

    code = "upstream_unpaid"


class ContextLengthExceeded(ProviderError):
    """The prompt is too long: for ``limit`` tokens, of which it took ``prompt_tokens``; None where nobody said."""

    code = "context_length"

    def __init__(
        self, message: str, *, status: int | None = None, limit: int | None = None, prompt_tokens: int | None = None
    ) -> None:
        super().__init__(message, status=status)
        self.limit = limit
        self.prompt_tokens = prompt_tokens


class UpstreamBadRequest(ProviderError):
    code = "upstream_bad_request"


class UpstreamUnavailable(ProviderError):
    code = "upstream_unavailable"


class LocalModelMissing(UpstreamUnavailable):
    code = "local_model_missing"


class ModelLoading(UpstreamUnavailable):
    """The server is there and loads the model; ``retry_after`` is its own estimate."""


class AddressRefused(UpstreamUnavailable):
    """The address may not be dialled. Users see the code and text of any missing connection; the log says why."""


class UpstreamTimeout(ProviderError):
    code = "upstream_timeout"


class EmptyAnswer(ProviderError):
    """The answer is complete and says nothing, or only what the model thought."""

    code = "empty_answer"


class UpstreamProtocolError(ProviderError):
    code = "upstream_protocol"


class AnswerCut(UpstreamProtocolError):
    """The stream ended before the upstream said that the answer is complete."""


class AnswerTooLarge(UpstreamProtocolError):
    """A line, an event or the whole answer passed its cap."""


class UnknownModelType(LookupError):
    """No enabled endpoint has this model type."""

    code = "unknown_model_type"


class InvalidEndpoint(ValueError):
    """A URL or key that cannot be used; ``field`` names which (``api_url``, ``api_key``, ``model``)."""

    code = "invalid_endpoint"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message
