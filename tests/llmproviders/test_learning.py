"""``manage.py check_providers --learn``: what a model can do, found out by asking scripted servers."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from llmproviders import dialect
from llmproviders.management import asking
from llmproviders.management.learning import Finding, Learned, save
from llmproviders.models import Preset
from llmproviders.types import Endpoint
from tests.upstream import Behaviour, ScriptedUpstream, answer, call, status

from .test_check_providers import KEY, only, run

pytestmark = pytest.mark.django_db
__all__ = ["only"]  # its fixture: one preset, at the scripted upstream

Body = dict[str, Any]
CALLED = answer(deltas=call(0, '{"city": "Paris"}', name="get_weather"), finish="tool_calls")
NO = {"error": {"message": "no"}}


def has_picture(body: Body) -> bool:
    return any(isinstance(message["content"], list) for message in body["messages"])


def roles(body: Body) -> list[str]:
    return [message["role"] for message in body["messages"]]


def able(body: Body) -> Behaviour:
    """A server whose model can do everything."""
    if has_picture(body):
        return answer("Orange.")
    return CALLED if "tools" in body else answer("Hello!", reasoning=["hm"])


def refusing(body: Body) -> Behaviour:
    """One that refuses everything, as servers of OpenAI's newest and oldest models do."""
    if "max_tokens" in body:
        text = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        return status(400, {"error": {"message": text, "param": "max_tokens"}})
    if "temperature" in body:
        text = "Unsupported value: 'temperature' does not support 0.3. Only the default (1) value is supported."
        return status(400, {"error": {"message": text, "param": "temperature"}})
    if "system" in roles(body):
        return status(400, {"error": {"message": "System role not supported"}})
    if roles(body) == ["user", "user"]:
        return status(500, {"error": {"message": "Conversation roles must alternate user/assistant/user/assistant"}})
    if has_picture(body):
        return status(500, {"error": {"message": "image input is not supported - hint: you may need the mmproj"}})
    if "tools" in body:
        return status(404, {"error": {"message": "No endpoints found that support tool use."}})
    return answer("Hello!")


@pytest.fixture
def serve(upstream_thread: ScriptedUpstream) -> Callable[[Callable[[Body], Behaviour]], None]:
    """Let the upstream behave so; nothing is known of it before."""

    def behave(behaviour: Callable[[Body], Behaviour]) -> None:
        dialect.memory.forget()
        upstream_thread.default = lambda request: behaviour(request.body)

    return behave


Serve = Callable[[Callable[[Body], Behaviour]], None]


def learned(*arguments: str) -> dict[str, Any]:
    output, _error = run("--learn", "--json", *arguments)
    (one,) = json.loads(output)
    assert isinstance(one, dict)
    return one


def outcomes(one: dict[str, Any]) -> dict[str, str]:
    return {finding["field"]: finding["outcome"] for finding in one["findings"]}


def stored() -> dict[str, Any]:
    row: dict[str, Any] = Preset.objects.filter(type="scripted").values().get()
    return row


def test_a_model_that_can_do_everything(serve: Serve, upstream_thread: ScriptedUpstream) -> None:
    serve(able)
    one = learned()
    assert one["changes"] == {"takes_images": True, "takes_tools": True, "reasons": True}
    assert set(outcomes(one).values()) == {"taken"}
    assert (one["ok"], one["saved"], one["type"], one["host"]) == (True, False, "scripted", "127.0.0.1")
    assert upstream_thread.calls == 6
    assert all(request.body["max_tokens"] <= 256 for request in upstream_thread.completions)


def test_a_model_that_can_do_nothing(serve: Serve) -> None:
    serve(refusing)
    one = learned()
    assert one["changes"] == {
        "takes_images": False,
        "takes_tools": False,
        "takes_system": False,
        "alternates": True,
        "parameters": {"max_tokens": "max_completion_tokens", "temperature": None},
        "reasons": False,
    }
    words = outcomes(one)
    refused = {"takes_images", "takes_tools", "takes_system", "alternates", "parameters"}
    assert {name for name, word in words.items() if word == "refused"} == refused
    assert "mmproj" in next(finding["reason"] for finding in one["findings"] if finding["field"] == "takes_images")


def test_asking_changes_nothing(serve: Serve) -> None:
    serve(refusing)
    before = stored()
    output, error = run("--learn")
    assert error is None
    assert stored() == before
    head, *lines, end = output.splitlines()
    assert head.split() == ["type", "field", "now", "found", "outcome"]
    assert [line.split()[:5] for line in lines if "takes_tools" in line] == [
        ["scripted", "takes_tools", "-", "no", "*"]
    ]
    assert "--apply" in end
    assert KEY not in output


def test_apply_sets_it_and_keeps_the_rest(serve: Serve) -> None:
    Preset.objects.update(parameters={"top_k": 3}, extra_fields="min_p")
    serve(refusing)
    one = learned("--apply")
    assert one["saved"] is True
    row = stored()
    assert row["parameters"] == {"top_k": 3, "max_tokens": "max_completion_tokens", "temperature": None}
    assert (row["takes_images"], row["takes_tools"], row["reasons"]) == (False, False, False)
    assert (row["takes_system"], row["alternates"], row["thinks_first"]) == (False, True, False)
    assert (row["extra_fields"], Preset.objects.get().api_key) == ("min_p", KEY)
    # What is known already is asked for again, and found the same.
    assert learned("--apply") == {**one, "changes": {}, "saved": False, "findings": learned()["findings"]}


def test_a_model_that_learned_is_known_to_have(serve: Serve) -> None:
    Preset.objects.update(
        takes_images=False, takes_tools=False, takes_system=False, alternates=True, thinks_first=True, reasons=True
    )
    serve(able)
    changes = learned("--apply")["changes"]
    assert changes == {
        "takes_images": True,
        "takes_tools": True,
        "takes_system": True,
        "alternates": False,
        "thinks_first": False,
    }


def test_an_outage_teaches_nothing(serve: Serve) -> None:
    """It answers at first, and then never again."""
    calls = 0

    def failing(body: Body) -> Behaviour:
        nonlocal calls
        calls += 1
        return answer("Hello!") if calls == 1 else status(503 if calls % 2 else 429, {"error": {"message": "busy"}})

    serve(failing)
    Preset.objects.update(takes_system=False)
    one = learned("--apply")
    words = outcomes(one)
    failed = {"takes_images", "takes_tools", "takes_system", "alternates", "parameters"}
    assert {name for name, word in words.items() if word == "failed"} == failed
    assert all(finding["found"] is None for finding in one["findings"] if finding["field"] in failed)
    assert one["changes"] == {"reasons": False}
    assert stored()["takes_system"] is False


@pytest.mark.parametrize("refusal", [status(401, NO), status(503, NO), status(400, NO), answer("x", stall="headers")])
def test_a_model_that_does_not_answer_is_asked_once(
    serve: Serve, upstream_thread: ScriptedUpstream, refusal: Behaviour
) -> None:
    serve(lambda _body: refusal)
    output, error = run("--learn", "--apply", "--json", "--timeout", "0.5")
    assert str(error) == "No answer from: scripted."
    (one,) = json.loads(output)
    assert (one["ok"], one["findings"], one["changes"]) == (False, [], {})
    assert one["code"]
    assert upstream_thread.calls == 1


def test_a_slow_answer_to_one_question_teaches_nothing(serve: Serve) -> None:
    serve(lambda body: answer("never", stall="headers") if has_picture(body) else able(body))
    one = learned("--timeout", "0.5")
    assert outcomes(one)["takes_images"] == "failed"
    assert "takes_images" not in one["changes"]
    assert one["changes"]["takes_tools"] is True


def test_a_picture_that_is_passed_over_is_not_seen(serve: Serve) -> None:
    serve(lambda _body: answer("I cannot see pictures."))
    one = learned()
    assert outcomes(one)["takes_images"] == outcomes(one)["takes_tools"] == "unclear"
    assert one["changes"] == {"reasons": False}


def test_who_calls_only_when_made_to_takes_tools(serve: Serve, upstream_thread: ScriptedUpstream) -> None:
    serve(lambda body: CALLED if "tool_choice" in body else answer("It is sunny."))
    assert learned()["changes"]["takes_tools"] is True
    forced = [request.body["tool_choice"] for request in upstream_thread.completions if "tool_choice" in request.body]
    assert forced == [{"type": "function", "function": {"name": "get_weather"}}]


def test_every_answer_begins_within_a_thought(serve: Serve) -> None:
    serve(lambda _body: answer("Let me see.\n</think>\n\nHello!"))
    assert learned("--apply")["changes"] == {"reasons": True, "thinks_first": True}
    assert Preset.objects.get().endpoint().thinks_first


def test_one_tag_among_many_answers_is_no_habit(serve: Serve) -> None:
    serve(lambda body: answer("hm\n</think>\nHello!") if len(roles(body)) == 2 else answer("Hello!"))
    one = learned()
    assert outcomes(one)["thinks_first"] == "unclear"
    assert "thinks_first" not in one["changes"]


def test_a_thought_that_used_all_tokens_says_nothing_of_the_begin(serve: Serve) -> None:
    serve(lambda _body: answer("Let me see. First", finish="length"))
    assert outcomes(learned())["thinks_first"] == "unclear"


def test_a_server_that_does_not_stream(serve: Serve) -> None:
    message = {"role": "assistant", "content": "Hello!"}
    whole = status(200, {"choices": [{"message": message, "finish_reason": "stop"}]})
    serve(lambda body: status(400, {"error": {"message": "stream is not supported"}}) if body["stream"] else whole)
    assert learned("--apply")["changes"]["parameters"] == {"stream": None}
    assert Preset.objects.get().parameters == {"stream": None}


def test_a_preset_that_is_another_s_by_now_is_left_alone() -> None:
    preset = Preset.objects.get()
    found = Learned(preset.endpoint(), findings=[Finding("takes_tools", None, True, "taken")])
    Preset.objects.update(model="another")
    assert save(found) is False
    assert Preset.objects.get().takes_tools is None
    Preset.objects.update(model=preset.model)
    assert save(found) is True


def test_the_environment_s_model_has_nothing_to_be_set_on(
    serve: Serve, upstream_thread: ScriptedUpstream, limits: Callable[..., None]
) -> None:
    serve(able)
    limits(API_URL=upstream_thread.url, MODEL="tiny")
    output, error = run("default", "--learn", "--apply")
    assert error is None
    assert "not set" in output


def test_apply_goes_with_learn(upstream_thread: ScriptedUpstream) -> None:
    assert "--learn" in str(run("--apply")[1])
    assert upstream_thread.calls == 0


def test_each_question_asks_for_one_thing() -> None:
    plain, endpoint = asking.PLAIN, Endpoint("t", "T", "https://x.example", "m")
    assert (plain.temperature, plain.tools, dict(plain.params)) == (None, (), {})
    assert plain.lacking(endpoint) is None
    data = base64.b64decode(asking.picture().partition(",")[2])
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    pixels = zlib.decompress(data[data.index(b"IDAT") + 4 : data.index(b"IEND") - 8])
    assert pixels[:4] == b"\x00\xff\x80\x00"
    assert len(pixels) == 32 * (32 * 3 + 1)
