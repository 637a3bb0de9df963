"""A conversation as what was said in it: one branch, page by page, with the ways to the others. For who may read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlencode

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from ..models import BILLION, Conversation, Feedback, Generation, Message, whole_parts
from ..models.parts import TOOL_CALL, TOOL_RESULT
from ..services import transcripts
from . import charts
from .base import may_read

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

T = TypeVar("T")

PAGE = 50


class Tool(NamedTuple):
    """A call of a tool, by its name, or without one what came of a call."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A message, as it stands in a transcript; ``place`` is its number among those beside it."""

    message: Message
    generation: Generation | None
    feedback: Feedback | None
    usage: str
    tools: list[Tool]
    place: int
    before: int | None
    after: int | None

    @property
    def beside(self) -> int:
        """How many there are in its place."""
        return len(self.message.sibling_ids)


def transcript(model_admin: ModelAdmin[Conversation], request: HttpRequest, conversation_id: int) -> HttpResponse:
    """Show the branch that ends in ``leaf``, else the active one: up to the message ``end``, where that is given.

    ``through`` leads to the newest branch through a message.
    """
    conversation = Conversation.objects.select_related("owner").filter(pk=conversation_id).first()
    if conversation is None:
        raise Http404
    if not (may_read(request) and model_admin.has_view_permission(request, conversation)):
        raise PermissionDenied
    leaf = _asked(request, "leaf") or conversation.active_leaf_id
    end = _asked(request, "end") or leaf
    if through := _asked(request, "through"):
        leaf = _found(transcripts.leaf_through(conversation, through))
        return HttpResponseRedirect("?" + urlencode({"leaf": leaf}))
    page = _found(transcripts.page_up_to(conversation, end, limit=PAGE)) if end else None
    request_: Any = request
    request_.current_app = model_admin.admin_site.name
    context = {
        **model_admin.admin_site.each_context(request),
        "title": conversation.title or _("Conversation"),
        "opts": model_admin.opts,
        "conversation": conversation,
        "messages_shown": [_shown(message) for message in page.messages] if page else [],
        "before": page.before_leaf if page else None,
        "leaf": leaf,
        "is_active": leaf == conversation.active_leaf_id,
        "is_end": end == leaf,
        "may_change": model_admin.has_change_permission(request, conversation),
        "may_delete": model_admin.has_delete_permission(request, conversation),
    }
    return TemplateResponse(request, "admin/conversations/conversation/transcript.html", context)


def _found(item: T | None) -> T:
    if item is None:
        raise Http404
    return item


def _asked(request: HttpRequest, name: str) -> int | None:
    """Return the message that the page was asked for; raises ``Http404``."""
    text = request.GET.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Http404
    return int(text)


def _shown(message: Message) -> Shown:
    beside = message.sibling_ids
    place = beside.index(message.pk)
    generation = getattr(message, "generation", None)
    return Shown(
        message,
        generation,
        getattr(message, "feedback", None),
        _usage(generation),
        _tools(message),
        place + 1,
        beside[place - 1] if place else None,
        beside[place + 1] if place + 1 < len(beside) else None,
    )


def _tools(message: Message) -> list[Tool]:
    parts = whole_parts(message) if message.parts else ()
    return [
        Tool(part.get("name", ""), part["arguments" if part["type"] == TOOL_CALL else "content"])
        for part in parts
        if part["type"] in (TOOL_CALL, TOOL_RESULT)
    ]


def _usage(generation: Generation | None) -> str:
    if generation is None or generation.prompt_tokens is None or generation.completion_tokens is None:
        return ""
    numbers = charts.whole(generation.prompt_tokens), charts.whole(generation.completion_tokens)
    text = _("%(prompt)s tokens in, %(completion)s out") % dict(zip(("prompt", "completion"), numbers, strict=True))
    if generation.cost is not None:
        text += " · " + _("cost %(cost)s") % {"cost": charts.money(generation.cost / BILLION)}
    return text
