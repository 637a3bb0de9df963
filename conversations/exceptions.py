"""What the verbs of this app refuse, and why: each has a stable ``code`` and the HTTP status that fits it.

People and programs see each as `application/problem+json` (RFC 9457).

::

    ChatError
    ├── NotAuthenticated      401  login_required
    ├── PermissionRefused     403  forbidden / login_required
    ├── NotFound              404  not_found
    │   └── UnknownAttachment  404  unknown_attachment
    ├── InvalidRequest        400  invalid (errors by field)
    │   ├── UnknownModel      400  unknown_model_type
    │   │   └── UnreadableKey  400  unknown_model_type
    │   ├── PromptTooLong     400  context_length
    │   ├── ImagesNotSupported  400  images_not_supported
    │   ├── ToolsNotSupported  400  tools_not_supported
    │   ├── InvalidPosition   400  invalid_position
    │   ├── InvalidCursor     400  invalid_cursor
    │   ├── UnsupportedImage  400  unsupported_image
    │   └── ImageTooLarge     400  image_too_large
    ├── BodyTooSlow           408  request_timeout
    ├── ReplyInProgress       409  reply_in_progress
    ├── AnswerStopped         409  answer_stopped
    ├── TooManyKeys           409  too_many_keys
    ├── AttachmentInUse       409  attachment_in_use
    ├── BodyTooLarge          413  body_too_large
    ├── AttachmentQuota       413  attachment_quota
    ├── IdempotencyMismatch   422  idempotency_mismatch
    ├── RateLimited           429  rate_limited
    ├── TooManyAnswers        429  too_many_answers
    ├── BudgetExhausted       429  budget_exhausted
    ├── ServerBusy            503  server_busy
    ├── ShuttingDown          503  shutting_down
    ├── DatabaseBusy          503  database_busy
    └── UnfitForDatabase      500  unfit_for_database
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any, ClassVar, Self

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

Text = str | Promise


class ChatError(Exception):
    """A refusal. ``errors`` maps a field to its messages; ``retry_after`` is in seconds."""

    status: ClassVar[int] = 500
    code: str = "internal_error"
    detail: Text = _("Something went wrong on our side.")
    retry_after: int | None = None

    def __init__(
        self,
        detail: Text | None = None,
        *,
        code: str | None = None,
        errors: dict[str, Any] | None = None,
        retry_after: int | None = None,
    ) -> None:
        self.detail = detail or type(self).detail
        self.code = code or type(self).code
        self.errors = errors
        self.retry_after = type(self).retry_after if retry_after is None else retry_after
        super().__init__(str(self.code))

    def __str__(self) -> str:
        return str(self.detail)


class NotAuthenticated(ChatError):
    status = 401
    code = "login_required"
    detail = _("Log in first.")


class PermissionRefused(ChatError):
    status = 403
    code = "forbidden"
    detail = _("You may not do this.")


class NotFound(ChatError):
    status = 404
    code = "not_found"
    detail = _("There is no such thing, or it is not yours.")


class UnknownAttachment(NotFound):
    code = "unknown_attachment"
    detail = _("There is no such attachment, or it is not yours, or it stands in another conversation.")


class InvalidRequest(ChatError):
    status = 400
    code = "invalid"
    detail = _("The request is not valid.")


class UnknownModel(InvalidRequest):
    code = "unknown_model_type"
    detail = _("There is no such model type; GET /api/config lists them.")

    @classmethod
    def asked(cls, detail: Text | None = None) -> Self:
        """Return the refusal of a `model_type` that a request names."""
        return cls(detail, errors={"model_type": [detail or cls.detail]})


class UnreadableKey(UnknownModel):
    """The chosen model's key opens with no encryption key. It is still what was chosen: no other model answers."""

    detail = _("The key of your own model cannot be decrypted any more; enter it again.")


class PromptTooLong(InvalidRequest):
    code = "context_length"
    detail = _("The message and the system prompt do not fit into the model's context window; shorten them.")


class ImagesNotSupported(InvalidRequest):
    code = "images_not_supported"
    detail = _("This model takes no images.")


class ToolsNotSupported(InvalidRequest):
    code = "tools_not_supported"
    detail = _("This model takes no tools.")


class InvalidPosition(InvalidRequest):
    code = "invalid_position"
    detail = _("This position is malformed, belongs to another answer or lies beyond its text.")


class InvalidCursor(InvalidRequest):
    code = "invalid_cursor"
    detail = _("This cursor is malformed; use the URL in `next` as it is.")


class UnsupportedImage(InvalidRequest):
    code = "unsupported_image"
    detail = _("This is no image that can be read: send a whole PNG, JPEG, WebP or GIF.")


class ImageTooLarge(InvalidRequest):
    code = "image_too_large"
    detail = _("The image has too many pixels; make it smaller.")


class BodyTooSlow(ChatError):
    status = 408
    code = "request_timeout"
    detail = _("The body did not come whole in time.")


class ReplyInProgress(ChatError):
    status = 409
    code = "reply_in_progress"
    detail = _("This conversation is still being answered; wait, or stop that answer first.")


class AnswerStopped(ChatError):
    """What is passed on and not stored was ended by somebody else."""

    status = 409
    code = "answer_stopped"
    detail = _("Whoever runs the server stopped this answer.")


class TooManyKeys(ChatError):
    status = 409
    code = "too_many_keys"
    detail = _("You have too many API keys; revoke one first.")


class AttachmentInUse(ChatError):
    status = 409
    code = "attachment_in_use"
    detail = _("This attachment stands in a conversation, and goes with its message.")


class BodyTooLarge(ChatError):
    status = 413
    code = "body_too_large"
    detail = _("The body is too large.")


class AttachmentQuota(ChatError):
    status = 413
    code = "attachment_quota"
    detail = _("Your attachments take as much room as they may; delete some, or conversations that have some.")


class IdempotencyMismatch(ChatError):
    status = 422
    code = "idempotency_mismatch"
    detail = _("This Idempotency-Key was used with another body.")


class RateLimited(ChatError):
    """``headers`` tell the count, as those of an answer do."""

    status = 429
    code = "rate_limited"
    detail = _("Too many requests; wait a moment.")

    def __init__(self, *, retry_after: int | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(retry_after=retry_after)
        self.headers = headers or {}


class TooManyAnswers(ChatError):
    status = 429
    code = "too_many_answers"
    detail = _("Too many of your answers are being made at this moment; wait for one to end, or stop one.")


class BudgetExhausted(ChatError):
    status = 429
    code = "budget_exhausted"
    detail = _("The tokens for today are spent; there are new ones at midnight UTC.")


class ServerBusy(ChatError):
    status = 503
    code = "server_busy"
    retry_after = 5
    detail = _("The server makes as many answers as it can; try again in a moment.")


class ShuttingDown(ChatError):
    status = 503
    code = "shutting_down"
    retry_after = ServerBusy.retry_after
    detail = _("The server is shutting down; try again in a moment.")


class DatabaseBusy(ChatError):
    status = 503
    code = "database_busy"
    retry_after = 2
    detail = _("The database does not answer right now; nothing was changed. Try again in a moment.")


class UnfitForDatabase(ChatError):
    """Trying again does not help: the database is set up wrongly, such as for another character set."""

    status = 500
    code = "unfit_for_database"
    detail = _("The database cannot hold this; nothing was changed. Whoever runs the server has to look.")


CONTENT_TYPE = "application/problem+json"

# The id of the request that is being served, for answers and logs; set by `web.asgi`.
request_id: ContextVar[str] = ContextVar("request_id", default="")


def problem(*, status: int, code: str, detail: str | Promise, **extra: Any) -> dict[str, Any]:
    """Return the body of a problem+json answer; ``extra`` members that are None are left out."""
    body: dict[str, Any] = {
        "type": f"urn:chatproject:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": _text(detail),
        "code": code,
        "request_id": request_id.get(),
    }
    return body | {name: _plain(value) for name, value in extra.items() if value is not None}


def _plain(value: Any) -> Any:
    """Translate what is translatable, however deep."""
    if isinstance(value, dict):
        return {_text(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return _text(value) if isinstance(value, Promise | str) else value


def _text(value: object) -> str:
    """Return a text that can be sent: some quote what was sent, in which half a character may be."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def problem_of(error: ChatError) -> dict[str, Any]:
    """Return the body of the problem that a refusal is."""
    return problem(
        status=error.status, code=error.code, detail=error.detail, errors=error.errors, retry_after=error.retry_after
    )
