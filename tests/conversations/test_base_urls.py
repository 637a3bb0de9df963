"""A base URL is called where its chat completions are, whoever gave it; what was given is what is shown."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from llmproviders.models import Preset
from tests.upstream import ScriptedUpstream

from .helpers import whole_chat

CALL = "/v1/chat/completions"


@pytest.fixture(params=["{base}", "{base}/", "{base}/v1", "{base}/v1/", "{base}/v1/chat/completions"])
def given(request: Any, model: ScriptedUpstream) -> str:
    """A way to write the URL of the scripted upstream."""
    url: str = request.param.format(base=model.base_url)
    return url


def answers(client: httpx.Client, model: ScriptedUpstream, **body: Any) -> bool:
    response = whole_chat(client, "hi", **body)
    assert response.status_code == 200, response.text
    return [request.path for request in model.requests] == [CALL]


def test_a_users_own(client: httpx.Client, model: ScriptedUpstream, given: str) -> None:
    own = {"user_id": "kim", "model_type": "custom", "custom_api_url": given, "custom_model": "m"}
    assert client.post("/api/config", json=own).json()["llm_api_url"] == given
    assert answers(client, model, user_id="kim")
    assert client.get("/api/config?user_id=kim").json()["llm_api_url"] == given


def test_the_environments(client: httpx.Client, model: ScriptedUpstream, given: str, settings: Any) -> None:
    settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, "API_URL": given}
    assert answers(client, model, model_type="default")
    assert client.get("/api/config").json()["llm_api_url"] == given


def test_a_presets(client: httpx.Client, model: ScriptedUpstream, given: str) -> None:
    preset = Preset(type="mine", name="Mine", api_url=given, model="m")
    preset.full_clean()
    preset.save()
    assert answers(client, model, model_type="mine")
    shown = client.get("/api/config").json()["preset_models"]
    assert [item["llm_api_url"] for item in shown if item["type"] == "mine"] == [given]


def test_a_path_of_its_own_stays(client: httpx.Client, model: ScriptedUpstream, settings: Any) -> None:
    settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, "API_URL": f"{model.base_url}/my/gateway"}
    response = whole_chat(client, "hi")
    assert (response.status_code, response.json()["code"]) == (502, "upstream_bad_request")
    assert [request.path for request in model.requests] == ["/my/gateway"]
