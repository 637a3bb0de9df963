"""The making of an answer: how far it is, and its stop."""

from __future__ import annotations

import uuid
from typing import Any

from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from .. import services
from ..access.rules import Action, Caller
from ..database import db
from ..engine import engines
from ..engine.answer_errors import describe
from ..models import Generation
from ..web import serializers as s
from ..web.base import ApiViewSet
from ..web.calls import GENERATION_ID, caller_of, uuid_of
from ..web.gate import Deferred, json_response


class GenerationViewSet(ApiViewSet):
    """The making of an answer."""

    @extend_schema(parameters=[GENERATION_ID], responses=s.GenerationSerializer)
    def retrieve(self, request: Request, generation_id: str) -> Response:
        """Show how far an answer is, or how it ended."""
        return Response(generation_state(caller_of(request), uuid_of(generation_id), Action.READ))

    @extend_schema(parameters=[GENERATION_ID], request=None, responses=s.GenerationSerializer)
    def stop(self, request: Request, generation_id: str) -> HttpResponseBase:
        """Stop an answer and keep its text; returns once that is stored. Idempotent."""
        caller, key = caller_of(request), uuid_of(generation_id)
        services.get_generation(caller=caller, generation_id=key, action=Action.STOP)

        async def resolve() -> HttpResponseBase:
            await engines.current().stop(key)
            return json_response(await db.read(generation_state, caller, key, Action.STOP))

        return Deferred(resolve)


def generation_state(caller: Caller, generation_id: uuid.UUID, action: Action) -> dict[str, Any]:
    """Return the state of an answer as the API shows it; raises ``NotFound``."""
    generation = services.get_generation(caller=caller, generation_id=generation_id, action=action)
    failed = generation.status == Generation.Status.FAILED
    return {
        "generation_id": str(generation.pk),
        "session_id": str(generation.message.conversation.session_id),
        "message_id": generation.message_id,
        "status": generation.status,
        "position": generation.position,
        "finish_reason": generation.finish_reason or None,
        "usage": generation.usage,
        "error": {
            "code": generation.error_code,
            "message": describe(generation.error_code, generation.error_message),
        }
        if failed
        else None,
    }
