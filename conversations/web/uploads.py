"""One file in a form: read strictly, and never written anywhere before it was looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from django.core.exceptions import SuspiciousOperation
from django.core.files.uploadhandler import FileUploadHandler
from django.http.multipartparser import MultiPartParser, MultiPartParserError
from django.utils.translation import gettext_lazy as _
from rest_framework.parsers import BaseParser

from ..exceptions import InvalidRequest

FIELD = "file"
EMPTY = _("This file is empty.")
ONE_FILE = _("Send one file, in the field “file” of a form (multipart/form-data).")


def refusal() -> InvalidRequest:
    """Return the refusal of a form that is none, or has no file, or several."""
    return InvalidRequest(errors={FIELD: [ONE_FILE]})


class OneFile(FileUploadHandler):
    """Keeps the one file of a form in memory: the body is there already, and bounded."""

    content: bytes | None = None

    def new_file(self, field_name: str, *args: Any, **kwargs: Any) -> None:
        """Begin a file; raises ``InvalidRequest`` for a second one, and for one of another field."""
        if field_name != FIELD or self.content is not None:
            raise refusal()
        self.content = b""
        self._parts: list[bytes] = []
        super().new_file(field_name, *args, **kwargs)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self._parts.append(raw_data)

    def file_complete(self, file_size: int) -> None:
        self.content = b"".join(self._parts)


class UploadParser(BaseParser):
    """Parses a form with one file into a dict: its bytes as ``file``, and the texts of the other fields."""

    media_type = "multipart/form-data"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        body_size = stream.seek(0, 2)
        stream.seek(0)
        handler = OneFile()
        head: Any = {"CONTENT_TYPE": media_type, "CONTENT_LENGTH": body_size}
        body: Any = stream
        try:
            fields, _files = MultiPartParser(head, body, [handler], "utf-8").parse()
        except (MultiPartParserError, SuspiciousOperation, TypeError):
            # Broken, or more fields than any form of ours has. Python cannot sort some parameters of a part.
            raise refusal() from None
        if handler.content is None or any(len(values) > 1 for _name, values in fields.lists()):
            raise refusal()
        if not handler.content:
            raise InvalidRequest(errors={FIELD: [EMPTY]})
        return {**fields.dict(), FIELD: handler.content}
