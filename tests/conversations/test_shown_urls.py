"""Whose URL is shown how much of: a query or a user name may be a key."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from llmproviders import conf
from llmproviders.models import Preset
from llmproviders.types import Endpoint

CANARY = "nobody-may-see-this"


@pytest.fixture
def default_url(settings: Any) -> None:
    url = f"https://me:{CANARY}@llm.example.com:8443/v1/chat?api-key={CANARY}"
    settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, "API_URL": url, "MODEL": "m"}


@pytest.mark.usefixtures("default_url")
def test_the_operator_s_urls_are_shown_without_query_and_user_name(api: APIClient) -> None:
    Preset.objects.create(type="mine", name="Mine", api_url=f"https://a.example.com/v1?key={CANARY}", model="m")
    response = api.get("/api/config")
    assert CANARY not in response.content.decode()
    shown = {preset["type"]: preset["llm_api_url"] for preset in response.json()["preset_models"]}
    assert shown["mine"] == "https://a.example.com/v1"
    assert shown["default"] == response.json()["llm_api_url"] == "https://llm.example.com:8443/v1/chat"
    assert shown["codegeex"] == "http://111.19.168.151:11551/v1/chat/completions"


@pytest.mark.usefixtures("default_url")
def test_one_s_own_url_is_shown_whole(api: APIClient) -> None:
    own = f"https://own.example.com/v1?api-key={CANARY}"
    body = {"model_type": "custom", "custom_api_url": own, "custom_model": "m"}
    response = api.post("/api/config", body, headers={"Host": "localhost"})
    assert response.json()["llm_api_url"] == own
    assert api.get("/api/config").json()["llm_api_url"] == own


@pytest.mark.usefixtures("default_url")
def test_reprs_hold_no_url(settings: Any) -> None:
    assert CANARY not in repr(conf.get())
    assert CANARY not in repr(Endpoint("t", "n", f"https://example.com?key={CANARY}", "m", api_key=CANARY))
