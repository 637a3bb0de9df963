"""What was sent, validated."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from conversations.web.calls import validated


class Asking(serializers.Serializer[Any]):
    """Has to be told something."""

    wanted = serializers.CharField()


class Assuming(serializers.Serializer[Any]):
    """Assumes what it is not told."""

    number = serializers.IntegerField(default=7)


class Content(serializers.Serializer[Any]):
    """Takes what it is told."""

    word = serializers.CharField(required=False)


def test_nothing_is_validated_as_anything_is() -> None:
    for _again in range(2):
        with pytest.raises(ValidationError, match="required"):
            validated(Asking, {})
        assert validated(Assuming, {}) == {"number": 7}
        assert validated(Content, {}) == {}
        assert validated(Content, {"word": "a"}) == {"word": "a"}


def test_nobody_is_given_anothers_nothing() -> None:
    validated(Content, {})["word"] = "mine"
    assert validated(Content, {}) == {}


def test_what_is_no_object_is_refused() -> None:
    nothing: Any
    for nothing in ([], ""):
        with pytest.raises(ValidationError):
            validated(Content, nothing)
