"""What the admins of this app share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_user_model
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin

# So many characters stand in a column of a list.
SHORT = 12


class LightList(ChangeList):
    """A list whose rows the admin's ``lighten`` relieves of what the list does not show."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        assert isinstance(self.model_admin, LightAdmin)
        return self.model_admin.lighten(super().get_queryset(request, exclude_parameters))


class LightAdmin(_ModelAdmin):
    """An admin with a ``LightList``, and no second count of all rows beside that of the rows found.

    ``date_hierarchy`` is for days alone: of moments a MySQL without tables of time zones tells none in another zone
    than UTC, and Django shows an error in place of the list.
    """

    show_full_result_count = False

    def lighten(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Defer what a list does not show."""
        return rows

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LightList


class OwnedAdmin(LightAdmin):
    """An admin of rows that are somebody's."""

    @admin.display(description=_("whose"), ordering="user_identifier")
    def whose(self, row: Any) -> str:
        """Return the account, or the label."""
        return one_line(row.owner or row.user_identifier or "-")


class ReadOnlyAdmin(LightAdmin):
    """For rows that the engine writes. They go with what they belong to, never by themselves."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        # Django asks this too when an account is deleted with all it owns; that must stay possible.
        name = f"{self.opts.app_label}_{self.opts.model_name}_"
        is_own_page = request.resolver_match is not None and (request.resolver_match.url_name or "").startswith(name)
        return not is_own_page and super().has_delete_permission(request, obj)


def link(item: Model | None, text: object) -> str | SafeString:
    """Return a link to the admin page of ``item``."""
    if item is None:
        return "-"
    name = f"admin:{item._meta.app_label}_{item._meta.model_name}_change"
    return format_html('<a href="{}">{}</a>', reverse(name, args=[item.pk]), text)


def one_line(text: object, whole: object = None) -> str:
    """Return ``text`` for a list, whose style cuts what is too long; a hint has the whole."""
    if whole is None and len(str(text)) <= SHORT:
        return str(text)
    return format_html('<span title="{}">{}</span>', text if whole is None else whole, text)


def short_id(identifier: UUID) -> str:
    """Return the beginning of an id, with the whole as its hint."""
    return one_line(f"{str(identifier)[:8]}…", identifier)


def owner_search_field(owner: str = "owner") -> str:
    """Return the lookup of an owner's user name, whatever the project's user model calls it."""
    return f"{owner}__{get_user_model().USERNAME_FIELD}"


def may_read(request: HttpRequest) -> bool:
    """Whether this member of the staff may read what was said, and what is made of it."""
    return request.user.has_perm("conversations.view_message")


class TextsAdmin(LightAdmin):
    """An admin of rows of which ``texts`` tell what was said: hidden from who may not read that."""

    texts: tuple[str, ...] = ()

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """A list filtered by a text, as any URL may ask, would tell it letter by letter."""
        hidden = lookup.partition("__")[0] in self.texts and not may_read(request)
        return not hidden and super().lookup_allowed(lookup, value, request)

    def readable(self, request: HttpRequest, names: Sequence[Any]) -> tuple[Any, ...]:
        """Leave out the texts where they may not be read."""
        return tuple(name for name in names if name not in self.texts or may_read(request))
