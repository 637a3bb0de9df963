"""What Django's error reports may hold: the page that DEBUG shows, and mails to ``ADMINS``."""

from __future__ import annotations

from collections.abc import ItemsView
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from django.http import HttpRequest, QueryDict
from django.views.debug import SafeExceptionReporterFilter


class NoValues(SafeExceptionReporterFilter):
    """Shows where an error happened, and no value of a variable, form or cookie, DEBUG or not.

    Django hides what a function declares sensitive, and nothing at all with DEBUG. A key has too many names
    in too many functions, of libraries too, for a list of them to be complete.
    """

    def cleanse_setting(self, key: Any, value: Any) -> Any:
        """Hide by name, as Django does, and what a URL may hold: ``redis://:password@host``, ``?api-key=``."""
        cleansed = super().cleanse_setting(key, value)
        return self.cleansed_substitute if isinstance(cleansed, str) and _may_hold_a_key(cleansed) else cleansed

    def get_traceback_frame_variables(self, request: HttpRequest | None, tb_frame: FrameType) -> ItemsView[str, Any]:
        return {name: _Kind(value) for name, value in tb_frame.f_locals.items()}.items()

    def get_post_parameters(self, request: HttpRequest | None) -> Any:
        return self._without_values(request.POST) if request is not None else {}

    def get_safe_cookies(self, request: HttpRequest) -> dict[str, Any]:
        return dict.fromkeys(getattr(request, "COOKIES", {}), self.cleansed_substitute)

    def _without_values(self, form: QueryDict) -> QueryDict:
        cleansed = QueryDict(mutable=True)
        for name in form:
            cleansed[name] = self.cleansed_substitute
        return cleansed


class _Kind:
    """Stands in for a value: says of what class it is."""

    def __init__(self, value: object) -> None:
        self._name = type(value).__qualname__

    def __repr__(self) -> str:
        return f"<{self._name}>"


def _may_hold_a_key(text: str) -> bool:
    if "://" not in text:
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return True
    return "@" in parts.netloc or bool(parts.query)
