"""What was sent, validated."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import translation
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from conversations.exceptions import InvalidRequest
from conversations.openai.asked import parsed
from conversations.web.calls import checked, validated


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


def refusal_in(language: str, call: Any) -> str:
    """The first reason why a call is refused to somebody of this language."""
    with translation.override(language), pytest.raises(InvalidRequest) as refused:
        call()
    return str(next(iter((refused.value.errors or {}).values()))[0])


def test_a_field_is_refused_in_the_language_that_is_asked_for() -> None:
    """Whoever asked first: the framework keeps a message as it was first told."""
    word, number = serializers.CharField(max_length=1), serializers.IntegerField(min_value=5, max_value=5)
    wrong: Any
    for field, wrong in ((word, "long"), (number, 1), (number, 9)):
        spoken = [refusal_in(language, lambda f=field, w=wrong: checked(f, w, "x")) for language in ("zh-hans", "en")]
        assert spoken[0] != spoken[1]
        assert spoken[1].isascii()
        assert not spoken[0].isascii()


def test_what_a_completion_may_say_at_most_is_told_in_each_language() -> None:
    body = {"model": "x", "messages": [{"role": "user", "content": "x"}], "max_tokens": 10**9}
    spoken = [refusal_in(language, lambda: parsed(body)) for language in ("zh-hans", "en", "zh-hans")]
    assert [text.isascii() for text in spoken] == [False, True, False]
