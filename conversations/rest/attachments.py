"""Attachments: images are sent here first, and named in a message then."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response
from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.request import Request

from ..access.rules import Action, Caller, authorize
from ..database import db
from ..files.images import CONTENT_TYPES, SUFFIXES
from ..models import Attachment
from ..services import attachments
from ..web.base import ApiView
from ..web.calls import caller_of, uuid_of, validated
from ..web.errors import problem_response
from ..web.failures import error_from
from ..web.gate import Deferred, json_response
from ..web.serializers.attachments import AttachmentCreateSerializer, AttachmentSerializer, shown
from ..web.turns import LoopTurns
from ..web.uploads import UploadParser

ATTACHMENT_ID = OpenApiParameter("attachment_id", uuid.UUID, OpenApiParameter.PATH)
# An image that is opened as a page can do nothing, and is nothing else to any browser. It may be kept by its owner's
# browser alone, which asks each time whether it may still show it.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, no-cache",
    "Vary": "Authorization, Cookie",
}
# Images are decoded as many at a time as there are threads for it, one of each caller, so that nobody's hold up all
# others'. How long one waits (seconds).
_turns = LoopTurns(lambda: db.FILE_THREADS, lambda: 1)
TURN_SECONDS = 60.0
IMAGE = OpenApiResponse(OpenApiTypes.BINARY, description="The image.")


def upload_error(error: Exception) -> HttpResponse:
    """Answer an exception; what is no form is told what to send."""
    if isinstance(error, UnsupportedMediaType):
        detail = _("Send the image as multipart/form-data, in the field “file”.")
        return problem_response(status=415, code="unsupported_media_type", detail=detail)
    return error_from(error)


class AttachmentsView(ApiView):
    """Images for messages."""

    parser_classes = [UploadParser]
    render_error = staticmethod(upload_error)

    @extend_schema(request={"multipart/form-data": AttachmentCreateSerializer}, responses={201: AttachmentSerializer})
    def post(self, request: Request) -> HttpResponseBase:
        """Store an image for a message. It is kept a day unless a message has it by then."""
        caller = caller_of(request)
        authorize(caller, Action.CREATE)

        async def resolve() -> HttpResponseBase:
            async with _turns.here().turn(caller.user_identifier, TURN_SECONDS):
                body = await db.files(_stored, request, caller)
            return json_response(body, status=201, headers={"Location": body["url"]})

        return Deferred(resolve, needs_body=True)


def _stored(request: Request, caller: Caller) -> dict[str, Any]:
    """Store what was sent. Here, where it holds up nobody's answers, it is parsed, too."""
    data = validated(AttachmentCreateSerializer, request.data)
    return shown(attachments.store_attachment(caller=caller, upload=data["file"], user_id=data.get("user_id")))


class AttachmentView(ApiView):
    """One image."""

    @extend_schema(
        parameters=[ATTACHMENT_ID],
        responses={
            **{(200, content_type): IMAGE for content_type in CONTENT_TYPES.values()},
            304: OpenApiResponse(description="The browser has it already."),
        },
    )
    def get(self, request: Request, attachment_id: str) -> HttpResponseBase:
        """Get an image: its owner alone does."""
        attachment = attachments.get_attachment(caller=caller_of(request), attachment_id=uuid_of(attachment_id))
        # Its content never changes.
        etag = f'"{attachment.pk}"'
        asked: Any = request
        response: HttpResponseBase | None = get_conditional_response(asked, etag=etag)
        if response is None:
            response = _image(attachment, with_content=request.method == "GET")
        for name, value in {**HEADERS, "ETag": etag}.items():
            response[name] = value
        return response

    @extend_schema(parameters=[ATTACHMENT_ID], request=None, responses={204: None})
    def delete(self, request: Request, attachment_id: str) -> HttpResponse:
        """Delete an image that no message has."""
        attachments.delete_attachment(caller=caller_of(request), attachment_id=uuid_of(attachment_id))
        return HttpResponse(status=204)


def _image(attachment: Attachment, *, with_content: bool) -> HttpResponse:
    content = attachments.content_of(attachment) if with_content else b""
    name = f"{attachment.pk}.{SUFFIXES[attachment.content_type]}"
    headers = {"Content-Length": str(attachment.size), "Content-Disposition": f'inline; filename="{name}"'}
    return HttpResponse(content, content_type=attachment.content_type, headers=headers)
