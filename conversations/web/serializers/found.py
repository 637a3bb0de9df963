"""What was found."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from ...models import Message
from ..fields import TimeField
from .conversations import ConversationListItemSerializer

HIGHLIGHTS = "Pairs of (from, to) within the text, in code points."


class HighlightsField(serializers.ListField):
    child = serializers.ListField(child=serializers.IntegerField(), min_length=2, max_length=2)


class SnippetSerializer(serializers.Serializer[Any]):
    message_id = serializers.IntegerField()
    role = serializers.ChoiceField(choices=Message.Role.choices)
    created_at = TimeField()
    text = serializers.CharField(help_text="A part of the message's content, as it is stored.")
    offset = serializers.IntegerField(help_text="Where in the content that begins, in code points.")
    highlights = HighlightsField(help_text=HIGHLIGHTS)


class FoundSerializer(ConversationListItemSerializer):
    title_highlights = HighlightsField(help_text=HIGHLIGHTS)
    snippets = SnippetSerializer(many=True, help_text="Of the newest messages in which all was found, three at most.")

    class Meta(ConversationListItemSerializer.Meta):
        fields = [*ConversationListItemSerializer.Meta.fields, "is_archived", "title_highlights", "snippets"]


class FoundPageSerializer(serializers.Serializer[Any]):
    conversations = FoundSerializer(many=True)
    next = serializers.URLField(
        allow_null=True, help_text="Where the search goes on; there may be more also if nothing is here."
    )
