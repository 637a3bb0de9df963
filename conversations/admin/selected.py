"""Actions on selected conversations, a few or all: a form that confirms holds no field for each of them."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..models import Conversation
from ..services import selection
from . import charts
from .base import TextsAdmin

# So many are named; how long a request may delete (seconds), which is less than proxies wait.
NAMED = 10
SECONDS = 20.0


class SelectedAdmin(TextsAdmin):
    """Archive, delete and prune what is selected. All of a list are named by the list's own filters."""

    actions = ("archive_selected", "unarchive_selected", "prune_selected", "delete_selected")

    @admin.action(description=gettext_lazy("Archive selected conversations"), permissions=["change"])
    def archive_selected(self, request: HttpRequest, queryset: QuerySet[Conversation]) -> None:
        self._archive(request, queryset, archived=True)

    @admin.action(description=gettext_lazy("Take selected conversations out of the archive"), permissions=["change"])
    def unarchive_selected(self, request: HttpRequest, queryset: QuerySet[Conversation]) -> None:
        self._archive(request, queryset, archived=False)

    def _archive(self, request: HttpRequest, rows: QuerySet[Conversation], *, archived: bool) -> None:
        text = _("Archived.") if archived else _("Taken out of the archive.")

        def tell(changed: list[Conversation]) -> None:
            LogEntry.objects.log_actions(request.user.pk, changed, CHANGE, text)  # type: ignore[arg-type]

        changed = selection.archive_many(_ids(rows), archived=archived, tell=tell)
        told = _("Conversations archived: %(count)d") if archived else _("Conversations taken out: %(count)d")
        self.message_user(request, told % {"count": changed}, messages.SUCCESS)

    @admin.action(description=gettext_lazy("Delete selected conversations"), permissions=["delete"])
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[Conversation]) -> HttpResponse | None:
        return self._delete(request, queryset, spare=False)

    @admin.action(
        description=gettext_lazy("Prune selected conversations (pinned and running ones stay)"), permissions=["delete"]
    )
    def prune_selected(self, request: HttpRequest, queryset: QuerySet[Conversation]) -> HttpResponse | None:
        return self._delete(request, queryset, spare=True)

    def _delete(self, request: HttpRequest, rows: QuerySet[Conversation], *, spare: bool) -> HttpResponse | None:
        if "post" not in request.POST:
            return self._confirmation(request, rows, spare)
        ids = _ids(rows)
        if (bound := _number(request, "last_id")) is not None:
            ids = [pk for pk in ids if pk <= bound]  # not what came since it was confirmed
        if (confirmed := _number(request, "counted")) is not None and len(ids) > confirmed:
            self.message_user(request, _("More conversations are among them by now: look again."), messages.WARNING)
            return self._confirmation(request, rows, spare)
        log: Any = partial(self.log_deletions, request)
        removed = selection.delete_many(ids, spare=spare, seconds=SECONDS, tell=log)
        self.message_user(request, _("Conversations deleted: %(count)d") % {"count": removed.gone}, messages.SUCCESS)
        if removed.spared:
            text = _("Conversations that stayed, as they are pinned or being answered: %(count)d")
            self.message_user(request, text % {"count": removed.spared}, messages.WARNING)
        if removed.left:
            text = _("Conversations that are left, as this took long: %(count)d. Confirm again to go on.")
            self.message_user(request, text % {"count": removed.left}, messages.WARNING)
            return self._confirmation(request, rows, spare)
        return None

    def _confirmation(self, request: HttpRequest, rows: QuerySet[Conversation], spare: bool) -> HttpResponse:
        asked: Any = request
        asked.current_app = self.admin_site.name
        across = request.POST.get("select_across") == "1"
        named = list(rows.select_related(None).defer(None).only("pk", "session_id")[:NAMED])
        contents = selection.contents(rows)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Prune conversations") if spare else _("Delete conversations"),
            "opts": self.opts,
            "action": "prune_selected" if spare else "delete_selected",
            "spare": spare,
            "across": across,
            "contents": contents,
            "numbers": {
                name: charts.whole(getattr(contents, name))
                for name in ("conversations", "messages", "owners", "pinned", "running")
            },
            "named": named,
            "unnamed": charts.whole(more) if (more := contents.conversations - len(named)) > 0 else "",
            "checkbox": ACTION_CHECKBOX_NAME,
            # One stands for all of a list: no row is asked for by it then.
            "selected": ["all"] if across else request.POST.getlist(ACTION_CHECKBOX_NAME),
        }
        return TemplateResponse(request, "admin/conversations/conversation/confirm.html", context)


def _ids(rows: QuerySet[Conversation]) -> list[int]:
    return list(rows.order_by("pk").values_list("pk", flat=True))


def _number(request: HttpRequest, name: str) -> int | None:
    text = request.POST.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
