"""What a model can do, as callers see it: shown, refused by name, and fields of an upstream's own sent through."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from rest_framework.test import APIClient

from conversations.models import Relay
from conversations.services.relays import MAX_EXTRA_CHARS
from llmproviders.models import Preset
from tests.upstream import ScriptedUpstream, answer, run_upstream_in_thread, status

from .calling import until
from .test_openai import HI, TOOL, ask, nothing_runs

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
SEEN = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, IMAGE]}]
CALL = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
ANSWERED = [*HI, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "c", "content": "20"}]


def preset(model: ScriptedUpstream, **fields: Any) -> Preset:
    named = {"type": "mine", "name": "Mine", "model": "upstream-name", **fields}
    return Preset.objects.create(api_url=model.url, **named)


# Shown --------------------------------------------------------------------------------------------------------------
def test_models_say_what_they_can_do(client: httpx.Client, model: ScriptedUpstream) -> None:
    preset(model, takes_images=True, takes_tools=False, extra_fields="top_k min_p")
    mine = client.get("/v1/models/mine").json()
    assert mine["capabilities"] == {"images": True, "tools": False, "reasoning": None}
    assert mine["extra_fields"] == ["top_k", "min_p"]
    default = client.get("/v1/models/default").json()
    assert default["capabilities"] == {"images": None, "tools": None, "reasoning": None}
    assert default["extra_fields"] == []


@pytest.mark.django_db
def test_settings_show_what_presets_can_do(api: APIClient) -> None:
    Preset.objects.create(type="mine", name="M", api_url="https://x.example/v1", model="m", thinks_first=True)
    shown = {item["type"]: item for item in api.get("/api/config").json()["preset_models"]}
    abilities = ("takes_images", "takes_tools", "reasons")
    assert [shown["mine"][name] for name in abilities] == [None, None, True]
    assert [shown["local"][name] for name in abilities] == [False, None, None]


# Refused ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"messages": SEEN}, "images_not_supported", "messages"),
        ({"tools": [TOOL]}, "tools_not_supported", "tools"),
        ({"messages": ANSWERED}, "tools_not_supported", "messages"),
    ],
)
def test_what_a_model_is_known_not_to_take_is_refused_by_name(
    client: httpx.Client, model: ScriptedUpstream, body: dict[str, Any], code: str, param: str
) -> None:
    preset(model, takes_images=False, takes_tools=False)
    for stream in (True, False):
        refused = ask(client, model="mine", stream=stream, **body)
        error = refused.json()["error"]
        assert (refused.status_code, error["type"]) == (400, "invalid_request_error")
        assert (error["code"], error["param"]) == (code, param)
        assert "takes no" in error["message"]
        assert refused.headers["x-should-retry"] == "false"
    assert model.calls == 0
    assert not Relay.objects.exists()


@pytest.mark.parametrize("body", [{"messages": SEEN}, {"tools": [TOOL]}])
def test_what_is_not_known_is_the_model_s_to_say(
    client: httpx.Client, model: ScriptedUpstream, body: dict[str, Any]
) -> None:
    preset(model)
    model.script = [answer("ok")]
    assert ask(client, model="mine", **body).status_code == 200


def test_a_fallback_that_does_not_take_it_is_passed_over(client: httpx.Client, model: ScriptedUpstream) -> None:
    with run_upstream_in_thread(default=answer("blind")) as blind, run_upstream_in_thread() as seeing:
        preset(model, fallbacks="blind seeing")
        preset(blind, type="blind", takes_images=False)
        preset(seeing, type="seeing", takes_images=True)
        seeing.default = answer("a cat")
        model.default = status(401, {"error": {"message": "bad key"}})
        answered = ask(client, model="mine", messages=SEEN)
        assert answered.json()["choices"][0]["message"]["content"] == "a cat"
        assert answered.headers["x-model-type"] == "seeing"
        assert blind.calls == 0


# Extra fields -------------------------------------------------------------------------------------------------------
def test_each_upstream_gets_the_extra_fields_that_its_preset_lists(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    with run_upstream_in_thread(default=answer("ok")) as other:
        preset(model, extra_fields="top_k chat_template_kwargs", fallbacks="other")
        preset(other, type="other", extra_fields="min_p top_k")
        model.default = status(401, {"error": {"message": "bad key"}})
        sent = {"top_k": 3, "min_p": 0.1, "chat_template_kwargs": {"enable_thinking": False}, "mirostat": 2}
        assert ask(client, model="mine", **sent).status_code == 200
        first, second = model.requests[-1].body, other.requests[-1].body
        assert {name: first[name] for name in sent if name in first} == {
            "top_k": 3,
            "chat_template_kwargs": {"enable_thinking": False},
        }
        assert {name: second[name] for name in sent if name in second} == {"top_k": 3, "min_p": 0.1}


def test_no_field_is_sent_through_that_no_preset_lists(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("ok")]
    many = {f"field_{number}": "x" * 100 for number in range(500)}
    assert ask(client, top_k=3, user="u", **many).status_code == 200
    assert set(model.requests[-1].body) == {"model", "messages", "stream", "stream_options"}


def test_extra_fields_have_a_bound_and_are_part_of_the_prompt(client: httpx.Client, model: ScriptedUpstream) -> None:
    preset(model, extra_fields="guided_json min_p")
    refused = ask(client, model="mine", min_p=0.1, guided_json={"enum": "x" * MAX_EXTRA_CHARS})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "guided_json")
    assert model.calls == 0
    model.script = [answer("a", "b", gate="go", gate_at=1)]
    body = {"model": "mine", "messages": HI, "stream": True, "guided_json": {"enum": "word " * 1_000}}
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.iter_lines()  # kept: what nobody has any more closes the connection
        next(lines)
        assert Relay.objects.get().estimated_prompt_tokens > 400
        model.gate("go").open()
    until(nothing_runs)
