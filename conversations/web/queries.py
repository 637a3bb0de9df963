"""The queries that calls take: text, as it comes in a URL. What is not known is refused: a mistyped name would show
other things than those that were asked for.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from ..limits.budgets import today
from ..models import TITLE_LENGTH, USAGE_GROUPS
from .fields import (
    LINE_PATTERN,
    DayField,
    DigitsField,
    LineField,
    StrictSerializer,
    WordField,
    model_type_field,
    user_id_field,
)

MAX_SEARCH_LENGTH = 500
# Of usage that is told at once, and where nobody says how many.
MOST_DAYS, DEFAULT_DAYS = 366, 30
# A deleted conversation can be brought back for a day at most.
MOST_UNDO_SECONDS = 86_400


class UserQuerySerializer(StrictSerializer):
    """Whose model settings, in a query."""

    user_id = user_id_field(in_query=True)


@extend_schema_field({"type": "string", "maxLength": TITLE_LENGTH, "pattern": LINE_PATTERN})
class SearchField(LineField):
    """Words of a title."""


class ListQuerySerializer(UserQuerySerializer):
    """The query of `GET /conversations`: text as it comes in a URL."""

    search = SearchField(required=False, allow_blank=True, max_length=TITLE_LENGTH, trim_whitespace=True)
    archived = serializers.BooleanField(default=False)
    pinned = serializers.BooleanField(required=False, help_text="Only those that are pinned, or are not.")
    limit = DigitsField(default=500, min_value=1, max_value=500)
    cursor = WordField(required=False, allow_blank=True, max_length=200)


class MessagesQuerySerializer(StrictSerializer):
    """The query of `GET /conversations/{session_id}/messages`."""

    limit = DigitsField(default=100, min_value=1, max_value=500)
    cursor = WordField(required=False, allow_blank=True, max_length=200)
    leaf = DigitsField(required=False, help_text="Only the branch that ends in this message.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "leaf" in attrs and attrs.get("cursor"):
            raise serializers.ValidationError({"cursor": [_("A cursor belongs to the list of all branches.")]})
        return attrs


@extend_schema_field({"type": "string", "minLength": 1, "maxLength": MAX_SEARCH_LENGTH, "pattern": LINE_PATTERN})
class WordsField(LineField):
    """Words to look for."""


class MomentField(serializers.Field[Any, Any, Any, Any]):
    """A day (UTC), or a time in ISO 8601 with its offset; of a day as ``end`` its last moment counts."""

    default_error_messages = {"invalid": _("Write a day such as 2026-11-29, or a time such as 2026-11-29T12:00:00Z.")}

    def __init__(self, *, is_end: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._is_end = is_end

    def to_internal_value(self, data: Any) -> datetime:
        try:
            if len(data) <= 10:
                day = datetime.combine(date.fromisoformat(data), time(), tzinfo=UTC)
                return day + timedelta(days=1) if self._is_end else day
            moment = datetime.fromisoformat(data)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail("invalid")


class ListOfWordsField(serializers.Field[Any, Any, Any, Any]):
    """Some words of a few, by comma; or none."""

    default_error_messages = {"invalid": _("Use one or more of: %(words)s.")}

    def __init__(self, words: Collection[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._words = words

    def to_internal_value(self, data: Any) -> frozenset[str]:
        wanted = frozenset(str(data).split(",")) if data else frozenset()
        if not wanted <= set(self._words):
            message = self.error_messages["invalid"] % {"words": ", ".join(self._words)}
            raise serializers.ValidationError(message, "invalid")
        return wanted


@extend_schema_field(
    {"type": "string", "format": "date", "description": "A day (UTC); a time in ISO 8601 is taken, too."}
)
class SinceField(MomentField):
    """From when on."""


@extend_schema_field(
    {"type": "string", "format": "date", "description": "A day (UTC), which counts; a time in ISO 8601 is taken, too."}
)
class UntilField(MomentField):
    """Until when."""


@extend_schema_field({"type": "string", "pattern": "^((titles|messages)(,(titles|messages))*)?$"})
class PlacesField(ListOfWordsField):
    """Where to look."""


class SearchQuerySerializer(UserQuerySerializer):
    """The query of `GET /search`."""

    q = WordsField(
        max_length=MAX_SEARCH_LENGTH,
        help_text='Words that all have to be in one text, in any part of a word; "quotes" keep words together,'
        " -word excludes.",
    )
    model_type = model_type_field(required=False, allow_blank=True)
    archived = serializers.BooleanField(required=False, help_text="Left out: both.")
    limit = DigitsField(default=20, min_value=1, max_value=50)
    cursor = WordField(required=False, allow_blank=True, max_length=200)

    def get_fields(self) -> dict[str, Any]:
        fields = super().get_fields()
        fields["in"] = PlacesField(("titles", "messages"), required=False, help_text="Left out, or empty: in both.")
        fields["from"] = SinceField(required=False)
        fields["to"] = UntilField(is_end=True, required=False)
        return fields

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return _in_order(attrs)


@extend_schema_field({"type": "string", "pattern": "^((day|model)(,(day|model))*)?$"})
class GroupsField(ListOfWordsField):
    """By what sums are told apart."""


class UsageQuerySerializer(UserQuerySerializer):
    """The query of `GET /api/usage`."""

    by = GroupsField(tuple(USAGE_GROUPS), required=False, help_text="Left out: by both; empty: the total alone.")

    def get_fields(self) -> dict[str, Any]:
        fields = super().get_fields()
        fields["from"] = DayField(required=False, help_text="A day (UTC); left out: 30 days ago.")
        fields["to"] = DayField(required=False, help_text="A day (UTC), which counts; left out: today.")
        return fields

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs.setdefault("by", frozenset(USAGE_GROUPS))
        attrs.setdefault("to", today())
        attrs.setdefault("from", attrs["to"] - timedelta(days=min(DEFAULT_DAYS, (attrs["to"] - date.min).days)))
        if (attrs["to"] - attrs["from"]).days >= MOST_DAYS:
            raise serializers.ValidationError({"from": [_("At most %(limit)d days at once.") % {"limit": MOST_DAYS}]})
        return _in_order(attrs)


def _in_order(attrs: dict[str, Any]) -> dict[str, Any]:
    if "from" in attrs and "to" in attrs and attrs["from"] > attrs["to"]:
        raise serializers.ValidationError({"to": [_("This is before `from`.")]})
    return attrs


class DeleteQuerySerializer(StrictSerializer):
    """The query of `DELETE /conversations/{session_id}`."""

    undo = DigitsField(
        required=False,
        min_value=1,
        max_value=MOST_UNDO_SECONDS,
        help_text="So many seconds it can be brought back. Left out: it is gone at once.",
    )


class ResumeQuerySerializer(StrictSerializer):
    """The query of a call that streams: `Last-Event-ID` for clients that cannot set a header again."""

    lastEventId = WordField(required=False, allow_blank=True)


class StreamQuerySerializer(ResumeQuerySerializer):
    after = WordField(required=False, allow_blank=True)
