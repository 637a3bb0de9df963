"""What a model can do: told by its preset, and how requests look for those that can do less, in both wire formats."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import connection

from llmproviders.backends import anthropic, openai_compatible
from llmproviders.backends.anthropic import Anthropic
from llmproviders.backends.openai_compatible import OpenAICompatible
from llmproviders.dialect import memory
from llmproviders.exceptions import UpstreamBadRequest
from llmproviders.models import Preset
from llmproviders.roles import OPENING
from llmproviders.types import ChatMessage, CompletionRequest, Image, Tool, ToolCall
from llmproviders.validators import MAX_EXTRA_FIELDS
from tests.upstream import ScriptedUpstream, status
from tests.upstream.server import MESSAGES

from .conftest import endpoint

URL = "https://x.example/v1"
PICTURE = Image("data:image/png;base64,AA==")


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def asked(*messages: ChatMessage, **options: Any) -> CompletionRequest:
    return CompletionRequest(messages or (ChatMessage("user", "hi"),), **options)


def openai_messages(request: CompletionRequest, **abilities: Any) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = openai_compatible.request_body(endpoint(URL, **abilities), request)["messages"]
    return messages


# What a preset says -------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_a_preset_says_what_its_model_can_do() -> None:
    preset = Preset.objects.create(type="mine", name="Mine", api_url=URL, model="m")
    plain = Preset.objects.get(pk=preset.pk).endpoint()
    assert (plain.takes_images, plain.takes_tools, plain.reasons) == (None, None, None)
    assert (plain.takes_system, plain.alternates, plain.extra_fields) == (True, False, ())
    Preset.objects.filter(pk=preset.pk).update(
        takes_images=True, takes_tools=False, takes_system=False, alternates=True, extra_fields="top_k min_p"
    )
    told = Preset.objects.get(pk=preset.pk).endpoint()
    assert (told.takes_images, told.takes_tools, told.reasons) == (True, False, None)
    assert (told.takes_system, told.alternates, told.extra_fields) == (False, True, ("top_k", "min_p"))
    assert Preset(type="t", thinks_first=True).endpoint().reasons is True


@pytest.mark.django_db
def test_the_embedded_server_is_known_to_take_no_images() -> None:
    shipped = {preset.type: preset.takes_images for preset in Preset.objects.all()}
    assert shipped == {"codegeex": None, "glm4": None, "local": False}
    Preset.objects.update(takes_images=None)
    migration = import_module("llmproviders.migrations.0008_abilities")
    migration.know_of_the_embedded(apps, connection.schema_editor())
    assert {preset.type: preset.takes_images for preset in Preset.objects.all()} == shipped


@pytest.mark.django_db
@pytest.mark.parametrize(
    "fields",
    [
        "top_k  min_p",
        " top_k",
        "top_k,min_p",
        "messages",
        "top_k stream",
        "tool_choice",
        "a" * 65,
        " ".join(f"f{number}" for number in range(MAX_EXTRA_FIELDS + 1)),
    ],
)
def test_extra_fields_are_names_that_are_not_ours(fields: str) -> None:
    preset = Preset(type="mine", name="Mine", api_url=URL, model="m", extra_fields=fields)
    with pytest.raises(ValidationError) as caught:
        preset.full_clean()
    assert list(caught.value.message_dict) == ["extra_fields"]


@pytest.mark.django_db
def test_extra_fields_that_servers_have_are_taken() -> None:
    fields = "top_k min_p repetition_penalty chat_template_kwargs"
    Preset(type="mine", name="Mine", api_url=URL, model="m", extra_fields=fields).full_clean()


# What a request needs -----------------------------------------------------------------------------------------------
IMAGES = asked(ChatMessage("user", parts=("see", PICTURE)))
TOOLS = asked(tools=(Tool("f"),))
RESULT = asked(ChatMessage("tool", "20", tool_call_id="a"))


@pytest.mark.parametrize("request_", [IMAGES, TOOLS, RESULT])
@pytest.mark.parametrize("known", [None, True])
def test_what_is_not_known_to_be_missing_is_not_lacking(request_: CompletionRequest, known: bool | None) -> None:
    assert request_.lacking(endpoint(URL, takes_images=known, takes_tools=known)) is None


def test_what_a_model_does_not_take_is_lacking() -> None:
    blind, plain = endpoint(URL, takes_images=False), endpoint(URL, takes_tools=False)
    assert (IMAGES.lacking(blind), TOOLS.lacking(blind), RESULT.lacking(blind)) == ("images", None, None)
    assert (IMAGES.lacking(plain), TOOLS.lacking(plain), RESULT.lacking(plain)) == (None, "tools", "tools")


# Roles --------------------------------------------------------------------------------------------------------------
TOLD = asked(ChatMessage("system", "Be brief."), ChatMessage("user", "hi"))


def test_a_model_without_a_system_role_is_told_before_the_first_message() -> None:
    assert openai_messages(TOLD, takes_system=False) == [{"role": "user", "content": "Be brief.\n\nhi"}]
    body = anthropic.request_body(endpoint(URL, takes_system=False), TOLD)
    assert "system" not in body
    assert body["messages"] == [{"role": "user", "content": [text("Be brief."), text("hi")]}]


@pytest.mark.parametrize(
    ("system", "user", "content"),
    [
        (ChatMessage("system", "a"), ChatMessage("user", parts=("b", PICTURE)), [text("a"), text("b")]),
        (ChatMessage("system", parts=("a", PICTURE)), ChatMessage("user", "b"), [text("a"), "image", text("b")]),
    ],
)
def test_what_it_is_told_may_have_parts(system: ChatMessage, user: ChatMessage, content: list[Any]) -> None:
    (message,) = openai_messages(asked(system, user), takes_system=False)
    image = {"type": "image_url", "image_url": {"url": PICTURE.url}}
    wanted = [image if part == "image" else part for part in content]
    assert message["content"] == (wanted if image in wanted else [*wanted, image])


def test_what_it_is_told_is_the_user_s_where_the_assistant_spoke_first() -> None:
    greeted = asked(ChatMessage("system", "Be brief."), ChatMessage("assistant", "Hello!"), ChatMessage("user", "hi"))
    told = {"role": "user", "content": "Be brief."}
    assert openai_messages(greeted, takes_system=False)[:2] == [told, {"role": "assistant", "content": "Hello!"}]
    body = anthropic.request_body(endpoint(URL, takes_system=False), greeted)
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][0]["content"] == [text("Be brief."), text(OPENING)]


MANY = asked(
    ChatMessage("assistant", "Hello!"),
    ChatMessage("user", "a", name="ann"),
    ChatMessage("user", parts=("b", PICTURE), name="ben"),
    ChatMessage("system", "Be brief."),
    ChatMessage("assistant", "one"),
    ChatMessage("assistant", tool_calls=(ToolCall("t", "f", "{}"), ToolCall("u", "f", "{}"))),
    ChatMessage("tool", "1", tool_call_id="t"),
    ChatMessage("tool", "2", tool_call_id="u"),
    ChatMessage("system", "Be kind."),
    ChatMessage("user", "c"),
    ChatMessage("user", "d"),
)


def test_roles_take_turns_where_they_have_to() -> None:
    messages = openai_messages(MANY, alternates=True)
    assert [message["role"] for message in messages] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
        "user",
    ]
    assert messages[0] == {"role": "system", "content": "Be brief.\n\nBe kind."}
    assert messages[1] == {"role": "user", "content": OPENING}
    image = {"type": "image_url", "image_url": {"url": PICTURE.url}}
    assert messages[3] == {"role": "user", "content": [text("a"), text("b"), image]}
    assert (messages[4]["content"], len(messages[4]["tool_calls"])) == ("one", 2)
    assert messages[-1] == {"role": "user", "content": "c\n\nd"}


def test_else_they_stay_as_they_were_said() -> None:
    assert [message["role"] for message in openai_messages(MANY)] == [message.role for message in MANY.messages]


def test_in_turns_and_without_a_system_role() -> None:
    messages = openai_messages(MANY, alternates=True, takes_system=False)
    assert messages[0] == {"role": "user", "content": "Be brief.\n\nBe kind."}
    assert [message["role"] for message in messages[1:4]] == ["assistant", "user", "assistant"]


def test_in_anthropic_s_format_they_always_do() -> None:
    messages = anthropic.request_body(endpoint(URL), MANY)["messages"]
    roles = [message["role"] for message in messages]
    assert roles == ["user", "assistant", "user", "assistant", "user"]
    assert messages[0]["content"] == [text(OPENING)]


# Extra fields -------------------------------------------------------------------------------------------------------
EXTRA = asked(params={"top_p": 0.5}, extra={"top_k": 3, "min_p": 0.1, "evil": 1})


@pytest.mark.parametrize("build", [openai_compatible.request_body, anthropic.request_body])
def test_of_extra_fields_an_upstream_gets_those_that_it_lists(build: Callable[..., dict[str, Any]]) -> None:
    plain = build(endpoint(URL), EXTRA)
    assert plain["top_p"] == 0.5
    assert not {"top_k", "min_p", "evil"} & plain.keys()
    listed = build(endpoint(URL, extra_fields=("top_k", "mirostat")), EXTRA)
    assert (listed["top_k"], listed["top_p"]) == (3, 0.5)
    assert not {"min_p", "evil", "mirostat"} & listed.keys()


def test_what_the_preset_sends_with_every_call_counts_more() -> None:
    fixed = endpoint(URL, extra_fields=("top_k",), parameters={"top_k": 1})
    assert openai_compatible.request_body(fixed, EXTRA)["top_k"] == 1


@pytest.mark.parametrize(("backend", "path"), [(OpenAICompatible, "/v1"), (Anthropic, MESSAGES)])
async def test_an_extra_field_that_is_refused_is_not_left_out(
    upstream: ScriptedUpstream, backend: type[OpenAICompatible | Anthropic], path: str
) -> None:
    memory.forget()
    upstream.default = status(400, {"error": {"message": "Unrecognized request argument supplied: top_k"}})
    provider = backend(endpoint(f"{upstream.base_url}{path}", extra_fields=("top_k",)))
    with pytest.raises(UpstreamBadRequest):
        _ = [delta async for delta in provider.stream(EXTRA)]
    assert [sent.body["top_k"] for sent in upstream.requests] == [3]
