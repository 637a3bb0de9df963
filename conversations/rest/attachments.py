"""Attachments: images are sent here first, and named in a message then."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from functools import partial
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
from ..exceptions import ServerBusy
from ..files.images import CONTENT_TYPES, SUFFIXES
from ..models import Attachment
from ..services import attachments
from ..web import images
from ..web.base import ApiView
from ..web.calls import caller_of, uuid_of, validated
from ..web.errors import problem_response
from ..web.failures import error_from
from ..web.gate import Deferred, json_response, no_content
from ..web.serializers.attachments import AttachmentCreateSerializer, AttachmentSerializer, shown
from ..web.uploads import UploadParser

ATTACHMENT_ID = OpenApiParameter("attachment_id", uuid.UUID, OpenApiParameter.PATH)
# An image that is opened as a page can do nothing, and is nothing else to any browser, whose own style of such a page
# is let through: there is no other. It may be kept by its owner's browser alone, which asks each time whether it may
# still show it.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "Cache-Control": "private, no-cache",
    "Vary": "Authorization, Cookie",
}
# How long a storage may take to give a file (seconds).
READ_SECONDS = 20.0
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
            async with images.turn(caller):
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
        headers = {**HEADERS, "ETag": etag}
        response: HttpResponseBase | None = get_conditional_response(asked, etag=etag)
        if response is None:
            return Deferred(partial(_shown, attachment, headers, with_content=request.method == "GET"))
        return _with(headers, response)

    @extend_schema(parameters=[ATTACHMENT_ID], request=None, responses={204: None})
    def delete(self, request: Request, attachment_id: str) -> HttpResponse:
        """Delete an image that no message has."""
        attachments.delete_attachment(caller=caller_of(request), attachment_id=uuid_of(attachment_id))
        return no_content()


async def _shown(attachment: Attachment, headers: Mapping[str, str], *, with_content: bool) -> HttpResponseBase:
    """Wait for the storage where that holds up no other calls, and not for ever."""
    try:
        async with asyncio.timeout(READ_SECONDS):
            content = await db.files(attachments.content_of, attachment) if with_content else b""
    except TimeoutError:
        raise ServerBusy() from None
    return _with(headers, _image(attachment, content))


def _with(headers: Mapping[str, str], response: HttpResponseBase) -> HttpResponseBase:
    for name, value in headers.items():
        response[name] = value
    return response


def _image(attachment: Attachment, content: bytes) -> HttpResponse:
    name = f"{attachment.pk}.{SUFFIXES[attachment.content_type]}"
    headers = {"Content-Length": str(attachment.size), "Content-Disposition": f'inline; filename="{name}"'}
    return HttpResponse(content, content_type=attachment.content_type, headers=headers)
