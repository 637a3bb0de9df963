"""Django REST framework's side of ``access``: ``request.user`` is a ``Caller``."""

from __future__ import annotations

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from ..access import Caller, Connection, identify


class CallerAuthentication(BaseAuthentication):
    """Identifies the caller by what ``access`` says; a refusal is its problem+json."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        return identify(Connection.from_meta(request.META)), None
