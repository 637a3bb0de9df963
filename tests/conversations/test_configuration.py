"""Which model answers whom, over real sockets; and keys that nobody gets to see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.db import connection
from rest_framework.test import APIClient

from conversations.engine import prompts
from conversations.engine.completions import ChatMessage
from conversations.models import Conversation, UserConfig
from llmproviders.models import Preset
from tests.upstream import ScriptedUpstream, run_upstream_in_thread

from .helpers import whole_chat

KEY = "sk-own-key-0123456789"
URL = "http://127.0.0.1:9/v1/chat/completions"
OWN = {"model_type": "custom", "custom_api_url": URL, "custom_model": "own-model", "custom_api_key": KEY}


@pytest.fixture
def own() -> Iterator[ScriptedUpstream]:
    """A second upstream: a person's own server."""
    with run_upstream_in_thread() as server:
        yield server


def own_config(server: ScriptedUpstream) -> dict[str, Any]:
    return {**OWN, "custom_api_url": server.url}


def get(api: APIClient, **query: Any) -> dict[str, Any]:
    response = api.get("/api/config", query)
    assert response.status_code == 200, response.content
    body: dict[str, Any] = response.json()
    return body


def post(api: APIClient, **body: Any) -> dict[str, Any]:
    response = api.post("/api/config", body)
    assert response.status_code == 200, response.content
    shown: dict[str, Any] = response.json()
    return shown


def configure(client: httpx.Client, **body: Any) -> dict[str, Any]:
    response = client.post("/api/config", json=body)
    assert response.status_code == 200, response.text
    shown: dict[str, Any] = response.json()
    return shown


def preset(upstream: ScriptedUpstream, name: str, **fields: Any) -> Preset:
    """A preset whose calls are told by the name of its model."""
    return Preset.objects.create(type=name, name=name, api_url=upstream.url, model=f"{name}-model", **fields)


def answered(client: httpx.Client, **body: Any) -> dict[str, Any]:
    response = whole_chat(client, "hi", **body)
    assert response.status_code == 200, response.text
    reply: dict[str, Any] = response.json()
    return reply


def key_of(user_id: str = "") -> str:
    return UserConfig.objects.get(user_identifier=user_id).custom_api_key


# What is shown --------------------------------------------------------------------------------------------------
@pytest.fixture
def default_model(settings: Any) -> None:
    model = {"API_URL": URL, "MODEL": "big-model", "API_KEY": "sk-environment-ABCD"}
    settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, **model}


def test_it_shows_what_would_answer_now(api: APIClient, default_model: None) -> None:
    shown = get(api)
    presets = shown.pop("preset_models")
    assert shown == {
        "llm_api_url": URL,
        "llm_model": "big-model",
        "llm_api_key": "••••ABCD",
        "current_model_type": "default",
        "max_tokens": 2000,
    }
    not_known = {"is_demo": False, "takes_images": None, "takes_tools": None, "reasons": None}
    default = {"type": "default", "name": "big-model", "llm_api_url": URL, "llm_model": "big-model", **not_known}
    assert default in presets
    assert [preset["type"] for preset in presets if preset["is_demo"]] == ["local"]
    assert {
        "type": "glm4",
        "name": "GLM-4 32B",
        "llm_api_url": "http://111.19.168.151:11553/v1/chat/completions",
        "llm_model": "glm4_32B_chat",
        **not_known,
    } in presets


def test_posting_answers_what_getting_then_shows(api: APIClient) -> None:
    for body in ({"model_type": "glm4", "max_tokens": 300}, OWN, {"model_type": "codegeex"}):
        assert post(api, user_id="kim", **body) == get(api, user_id="kim")


def test_no_key_is_ever_shown(api: APIClient, default_model: None) -> None:
    answers = [api.post("/api/config", {"user_id": "kim", **OWN})]
    for model_type in ("custom", "glm4", "codegeex", "default"):
        answers.append(api.post("/api/config", {"user_id": "kim", "model_type": model_type}))
        answers.append(api.get("/api/config", {"user_id": "kim"}))
    answers.append(api.post("/api/config", {"user_id": "kim", **OWN, "custom_api_url": "nonsense"}))
    answers.append(api.post("/api/config", {"user_id": "kim", **OWN, "custom_api_key": f"{KEY} 密"}))
    for response in answers:
        for secret in (KEY, "sk-environment-ABCD", "glm432b"):
            assert secret not in response.content.decode()


@pytest.mark.parametrize(("key", "shown"), [(KEY, "••••6789"), ("short", "••••"), ("elevenchars", "••••"), ("", "")])
def test_a_key_is_masked_and_a_short_one_wholly(api: APIClient, key: str, shown: str) -> None:
    assert post(api, **{**OWN, "custom_api_key": key})["llm_api_key"] == shown


def test_a_masked_key_that_comes_back_is_refused_and_changes_nothing(api: APIClient) -> None:
    masked = post(api, **OWN)["llm_api_key"]
    assert api.post("/api/config", {**OWN, "custom_api_key": masked}).status_code == 400
    assert key_of() == KEY


# What stays, what goes ------------------------------------------------------------------------------------------
def test_absent_fields_stay(api: APIClient) -> None:
    post(api, **OWN, max_tokens=77)
    post(api, model_type="glm4")
    shown = post(api, model_type="custom")
    assert (shown["llm_api_url"], shown["llm_model"], shown["max_tokens"]) == (URL, "own-model", 77)
    assert key_of() == KEY


def test_an_empty_field_is_cleared(api: APIClient) -> None:
    post(api, **OWN)
    assert post(api, model_type="custom", custom_api_key="")["llm_api_key"] == ""
    post(api, model_type="glm4", custom_api_url="", custom_model="")
    config = UserConfig.objects.get()
    assert (config.custom_api_url, config.custom_model, config.custom_api_key) == ("", "", "")


def test_a_new_url_without_a_key_clears_the_key(api: APIClient) -> None:
    post(api, **OWN)
    shown = post(api, model_type="custom", custom_api_url="http://127.0.0.1:10/v1/chat/completions")
    assert (shown["llm_api_key"], key_of()) == ("", "")


def test_a_new_url_with_a_key_takes_that_key(api: APIClient) -> None:
    post(api, **OWN)
    other = {"custom_api_url": "http://127.0.0.1:10/v1/chat/completions", "custom_api_key": "sk-another-9876543210"}
    assert post(api, model_type="custom", **other)["llm_api_key"] == "••••3210"


def test_the_same_url_again_keeps_the_key(api: APIClient) -> None:
    post(api, **OWN)
    post(api, model_type="custom", custom_api_url=URL)
    assert key_of() == KEY


def test_a_url_that_goes_takes_the_key_along(api: APIClient) -> None:
    """Else the key would wait for whatever URL comes next."""
    post(api, **OWN)
    post(api, model_type="glm4", custom_api_url="")
    post(api, model_type="custom", custom_api_url="http://127.0.0.1:10/v1/chat/completions")
    assert key_of() == ""


@pytest.mark.parametrize("missing", ["custom_api_url", "custom_model"])
def test_custom_needs_a_url_and_a_model(api: APIClient, missing: str) -> None:
    body = {name: value for name, value in OWN.items() if name != missing}
    response = api.post("/api/config", body)
    assert (response.status_code, response.json()["errors"].keys()) == (400, {missing})
    assert not UserConfig.objects.exists()


def test_clearing_what_custom_needs_is_refused_and_changes_nothing(api: APIClient) -> None:
    post(api, **OWN)
    assert api.post("/api/config", {"model_type": "custom", "custom_model": "", "max_tokens": 5}).status_code == 400
    config = UserConfig.objects.get()
    assert (config.custom_model, config.max_tokens, config.custom_api_key) == ("own-model", None, KEY)


@pytest.mark.parametrize(
    "url", ["https://xn--localhost/", "https://localhost/", "https://127.0.0.257/", "https://intranet/v1"]
)
def test_a_url_that_may_not_be_called_is_refused_and_changes_nothing(api: APIClient, settings: Any, url: str) -> None:
    settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, "ALLOW_PRIVATE_UPSTREAMS": False}
    response = api.post("/api/config", {"model_type": "custom", "custom_api_url": url, "custom_model": "m"})
    assert (response.status_code, response.json()["errors"].keys()) == (400, {"custom_api_url"})
    assert not UserConfig.objects.exists()


def test_max_tokens_can_be_handed_back(api: APIClient) -> None:
    assert post(api, model_type="glm4", max_tokens=77)["max_tokens"] == 77
    assert post(api, model_type="glm4")["max_tokens"] == 77
    assert post(api, model_type="glm4", max_tokens=None)["max_tokens"] != 77


def test_a_key_that_cannot_be_decrypted_is_said_so_and_can_be_entered_again(api: APIClient) -> None:
    post(api, **OWN)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE conversations_userconfig SET custom_api_key = 'no token'")
    shown = get(api)
    assert (shown["current_model_type"], shown["llm_api_url"], shown["llm_api_key"]) == ("custom", URL, "")
    for body in ({"model_type": "custom"}, {}):  # asked for or saved: never another model's answer
        refused_for_its_key(api.post("/chat", {"message": "hi", **body}))
    assert post(api, model_type="custom", max_tokens=7)["current_model_type"] == "custom"
    assert post(api, **OWN)["current_model_type"] == "custom"


def refused_for_its_key(response: Any) -> None:
    body = response.json()
    assert (response.status_code, body["code"]) == (400, "unknown_model_type")
    assert "cannot be decrypted any more" in body["detail"]


def test_a_presets_key_that_cannot_be_decrypted_is_said_so_wherever_it_was_chosen(
    api: APIClient, caplog: pytest.LogCaptureFixture
) -> None:
    Preset.objects.filter(type="glm4").update(api_key="sk-preset")
    post(api, model_type="glm4")
    saved = Conversation.objects.create(title="t", model_type="glm4")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE llmproviders_preset SET api_key = 'no token' WHERE type = 'glm4'")
    shown = get(api)
    assert (shown["current_model_type"], shown["llm_api_key"]) == ("glm4", "")
    bodies: list[dict[str, Any]] = [{}, {"model_type": "glm4"}, {"session_id": str(saved.session_id)}]
    for body in bodies:
        refused_for_its_key(api.post("/chat", {"message": "hi", **body}))
    assert "preset glm4 cannot answer" in caplog.text


def test_each_user_id_has_a_configuration_of_its_own(api: APIClient) -> None:
    post(api, user_id="kim", model_type="glm4", max_tokens=10)
    post(api, user_id="lee", model_type="codegeex")
    post(api, **OWN)
    assert (get(api, user_id="kim")["current_model_type"], get(api, user_id="kim")["max_tokens"]) == ("glm4", 10)
    assert (get(api, user_id="lee")["current_model_type"], get(api, user_id="lee")["max_tokens"]) == ("codegeex", 2000)
    assert get(api)["current_model_type"] == "custom"
    assert get(api, user_id="nobody yet")["current_model_type"] not in ("custom", "glm4")
    assert UserConfig.objects.count() == 3


# Secrets at rest ------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("model")
def test_the_key_is_not_in_the_database_file(client: httpx.Client) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("looks into the file of SQLite")
    configure(client, user_id="kim", **OWN)
    configure(client, user_id="kim", **{**OWN, "custom_api_key": "sk-second-key-0123456789"})
    path = str(connection.settings_dict["NAME"])
    stored = b"".join(file.read_bytes() for name in ("", "-wal") if (file := Path(path + name)).exists())
    assert b"own-model" in stored
    assert KEY.encode() not in stored
    assert b"sk-second-key" not in stored
    assert key_of("kim") == "sk-second-key-0123456789"


# Who answers ----------------------------------------------------------------------------------------------------
def test_a_custom_server_answers_with_its_own_key(
    client: httpx.Client, model: ScriptedUpstream, own: ScriptedUpstream
) -> None:
    configure(client, user_id="kim", **own_config(own))
    reply = answered(client, user_id="kim")
    assert reply["assistant_reply"] == "You said: hi (0 earlier messages)"
    assert (own.calls, model.calls) == (1, 0)
    assert own.requests[-1].body["model"] == "own-model"
    assert own.requests[-1].headers["authorization"] == f"Bearer {KEY}"
    history = client.get(f"/conversations/{reply['session_id']}/history").json()["messages"]
    assert history[-1]["model_type"] == "custom"


def test_a_custom_server_without_a_key_gets_none(
    client: httpx.Client, model: ScriptedUpstream, own: ScriptedUpstream
) -> None:
    configure(client, **{**own_config(own), "custom_api_key": ""})
    answered(client)
    assert "authorization" not in own.requests[-1].headers


def test_one_persons_server_answers_nobody_else(
    client: httpx.Client, model: ScriptedUpstream, own: ScriptedUpstream
) -> None:
    configure(client, user_id="kim", **own_config(own))
    answered(client, user_id="lee")
    answered(client)
    assert (own.calls, model.calls) == (0, 2)
    assert whole_chat(client, "hi", user_id="lee", model_type="custom").json()["code"] == "unknown_model_type"


def test_without_user_id_the_conversations_owner_decides(
    client: httpx.Client, model: ScriptedUpstream, own: ScriptedUpstream
) -> None:
    configure(client, user_id="kim", **own_config(own))
    session_id = client.post("/conversations", json={"user_id": "kim"}).json()["session_id"]
    answered(client, session_id=session_id)
    assert (own.calls, model.calls) == (1, 0)


def test_with_user_id_that_one_decides_also_in_anothers_conversation(
    client: httpx.Client, model: ScriptedUpstream, own: ScriptedUpstream
) -> None:
    configure(client, user_id="kim", **own_config(own))
    session_id = client.post("/conversations", json={"user_id": "lee"}).json()["session_id"]
    answered(client, session_id=session_id, user_id="kim")
    assert (own.calls, model.calls) == (1, 0)
    assert Conversation.objects.get().user_identifier == "lee"


def test_request_conversation_user_setting_environment_decide_in_this_order(
    client: httpx.Client, model: ScriptedUpstream, settings: Any
) -> None:
    for name in ("asked", "conversations", "users", "settings"):
        preset(model, name)
    body: dict[str, Any] = {"user_id": "kim"}

    def who(**more: Any) -> str:
        answered(client, **body, **more)
        return str(model.requests[-1].body["model"])

    assert who() == "scripted"
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "DEFAULT_MODEL_TYPE": "settings"}
    assert who() == "settings-model"
    configure(client, user_id="kim", model_type="users")
    assert who() == "users-model"
    chosen = client.post("/conversations", json={"user_id": "kim", "model_type": "conversations"}).json()
    body["session_id"] = chosen["session_id"]
    assert who() == "conversations-model"
    assert who(model_type="asked") == "asked-model"
    assert who() == "conversations-model"
    client.patch(f"/conversations/{chosen['session_id']}", json={"model_type": ""})
    assert who() == "users-model"


def test_a_choice_whose_preset_was_disabled_is_passed_over(client: httpx.Client, model: ScriptedUpstream) -> None:
    """Of a conversation, of a user and of the settings alike; a request that names it is refused."""
    gone = preset(model, "gone")
    configure(client, user_id="kim", model_type="gone")
    session_id = client.post("/conversations", json={"user_id": "kim", "model_type": "gone"}).json()["session_id"]
    answered(client, session_id=session_id)
    Preset.objects.filter(pk=gone.pk).update(is_enabled=False)
    answered(client, session_id=session_id)
    assert [request.body["model"] for request in model.completions] == ["gone-model", "scripted"]
    assert client.get("/api/config", params={"user_id": "kim"}).json()["current_model_type"] == "default"
    assert whole_chat(client, "hi", model_type="gone").json()["code"] == "unknown_model_type"


def test_a_default_of_the_settings_that_is_not_there_is_passed_over(
    client: httpx.Client, model: ScriptedUpstream, settings: Any
) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "DEFAULT_MODEL_TYPE": "nope"}
    answered(client)
    assert model.requests[-1].body["model"] == "scripted"


def test_a_conversation_that_chose_custom_is_answered_when_that_is_gone(
    client: httpx.Client, model: ScriptedUpstream, own: ScriptedUpstream
) -> None:
    configure(client, user_id="kim", **own_config(own))
    session_id = client.post("/conversations", json={"user_id": "kim", "model_type": "custom"}).json()["session_id"]
    answered(client, session_id=session_id)
    configure(client, user_id="kim", model_type="default", custom_api_url="", custom_model="")
    answered(client, session_id=session_id)
    assert (own.calls, model.calls) == (1, 1)


# How much, how warm ---------------------------------------------------------------------------------------------
def test_max_tokens_of_request_user_preset_and_settings_count_in_this_order(
    client: httpx.Client, model: ScriptedUpstream, settings: Any
) -> None:
    preset(model, "limited", max_tokens=300)

    def sent(**body: Any) -> int:
        answered(client, user_id="kim", **body)
        return int(model.requests[-1].body["max_tokens"])

    assert sent() == 2000
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "MAX_TOKENS": 1500}
    assert sent() == 1500
    assert sent(model_type="limited") == 300
    assert configure(client, user_id="kim", model_type="limited")["max_tokens"] == 300
    assert configure(client, user_id="kim", model_type="limited", max_tokens=200)["max_tokens"] == 200
    assert sent() == 200
    assert sent(max_tokens=100) == 100
    assert sent(max_tokens=1000) == 1000


def test_max_tokens_are_lowered_to_what_the_context_leaves(client: httpx.Client, model: ScriptedUpstream) -> None:
    preset(model, "small", context_window=500, max_tokens=131_072)
    answered(client, model_type="small")
    prompt = prompts.estimate_prompt([ChatMessage("user", "hi")])
    assert model.requests[-1].body["max_tokens"] == 500 - prompt


def test_temperature_of_request_preset_and_settings_count_in_this_order(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    preset(model, "warm", temperature=1.5)
    preset(model, "cold", temperature=0.0)

    def sent(**body: Any) -> float:
        answered(client, **body)
        return float(model.requests[-1].body["temperature"])

    assert sent() == 0.7
    assert sent(model_type="warm") == 1.5
    assert sent(model_type="cold") == 0.0
    assert sent(model_type="warm", temperature=0) == 0.0
