"""What was used is counted as answers end, exactly or as an estimate, and stays when they are deleted."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.test import Client
from rest_framework.test import APIClient

from conversations.access.rules import identifier_of
from conversations.admin.usage import as_cell
from conversations.limits import usage
from conversations.limits.budgets import today
from conversations.models import BILLION, DailyUsage, Generation
from llmproviders.models import Preset
from tests.upstream import ScriptedUpstream, answer, raw, status

from .accounts import key_of, make_user, require_login
from .helpers import chat, streaming

HALF = (
    b'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {"choices":[{"delta":{"content":"half"}}]}\n\n'
)
USAGE = {"prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140}


@pytest.fixture
def priced(model: ScriptedUpstream) -> Preset:
    return Preset.objects.create(
        type="priced",
        name="Priced",
        api_url=model.url,
        model="m",
        input_price=Decimal("2.5"),
        output_price=Decimal("10"),
    )


def of(client: httpx.Client, **query: str) -> dict[str, Any]:
    response = client.get("/api/usage", params=query)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def test_a_whole_answer_counts_what_its_server_counted(
    client: httpx.Client, model: ScriptedUpstream, priced: Preset
) -> None:
    told = {**USAGE, "completion_tokens_details": {"reasoning_tokens": 30}}
    model.script = [answer("A", usage=told), answer("B", usage=told)]
    done = chat(client, "one", model_type="priced").done
    cost = (100 * 2.5 + 40 * 10) / 1_000_000
    assert done["usage"] == {**USAGE, "reasoning_tokens": 30, "cost": cost}
    assert client.get(f"/generations/{done['generation_id']}").json()["usage"] == done["usage"]
    chat(client, "two", session_id=done["session_id"], model_type="priced")
    body = of(client)
    zero = {"requests": 0, "prompt_tokens": 0, "completion_tokens": 0, "cost": 0}
    counts = {
        "requests": 2,
        "prompt_tokens": 200,
        "completion_tokens": 80,
        "reasoning_tokens": 60,
        "cost": 2 * cost,
        "estimated": zero,
    }
    assert body == {"usage": [{"day": str(today()), "model_type": "priced", **counts}], "total": counts}
    client.delete(f"/conversations/{done['session_id']}")
    assert of(client) == body


def test_everything_else_is_estimated_and_none_is_missing_or_doubled(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    model.script = [
        answer("whole, and not counted", usage=None),
        status(400, "broken"),
        raw(HALF),
        answer("stopped", "never", gate="g", gate_at=1),
    ]
    for message in ("one", "two", "three"):
        chat(client, message)
    with streaming(client, "POST", "/chat", json={"message": "four"}) as (stream, blocks):
        next(blocks)
        stopped = client.post(f"/generations/{stream.headers['x-generation-id']}/stop").json()
        assert stopped["status"] == "stopped"
        client.post(f"/generations/{stream.headers['x-generation-id']}/stop")
    total = of(client)["total"]
    assert (total["requests"], total["prompt_tokens"]) == (0, 0)
    assert total["estimated"]["requests"] == 4
    estimated = list(Generation.objects.values_list("estimated_prompt_tokens", flat=True))
    failed_at_once = Generation.objects.get(error_code="upstream_bad_request").estimated_prompt_tokens
    assert total["estimated"]["prompt_tokens"] == sum(estimated) - failed_at_once


def test_a_running_answer_that_is_deleted_is_counted(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("some text", "never", gate="g", gate_at=1)]
    with streaming(client, "POST", "/chat", json={"message": "one"}) as (stream, blocks):
        next(blocks)
        client.delete(f"/conversations/{stream.headers['x-session-id']}")
    assert of(client)["total"]["estimated"]["requests"] == 1


def test_sums_by_what_is_asked(api: APIClient) -> None:
    for days, model_type in ((0, "a"), (0, "b"), (1, "a"), (40, "a")):
        DailyUsage.objects.create(day=today() - timedelta(days=days), model_type=model_type, requests=1, cost=BILLION)
    rows = api.get("/api/usage").json()["usage"]
    assert [(row["day"], row["model_type"], row["requests"]) for row in rows] == [
        (str(today() - timedelta(days=1)), "a", 1),
        (str(today()), "a", 1),
        (str(today()), "b", 1),
    ]
    by_model = api.get("/api/usage", {"by": "model"}).json()
    assert [(row["model_type"], row["cost"]) for row in by_model["usage"]] == [("a", 2), ("b", 1)]
    assert "day" not in by_model["usage"][0]
    whole = api.get("/api/usage", {"by": "", "from": str(today() - timedelta(days=60))}).json()
    assert (whole["usage"], whole["total"]["requests"]) == ([], 4)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"by": "week"}, "by"),
        ({"from": "2026-02-30"}, "from"),
        ({"from": "2026-01-02", "to": "2026-01-01"}, "to"),
        ({"from": "2020-01-01", "to": "2026-01-01"}, "from"),
        ({"to": "0001-01-01", "from": "0001-01-02"}, "to"),
    ],
)
def test_a_query_that_means_nothing_is_refused(api: APIClient, query: dict[str, str], field: str) -> None:
    response = api.get("/api/usage", query)
    assert (response.status_code, list(response.json().get("errors", ()))) == (400, [field])


def test_the_first_day_of_all(api: APIClient) -> None:
    assert api.get("/api/usage", {"to": "0001-01-01"}).status_code == 200


def test_usage_is_ones_own(api: APIClient, settings: Any) -> None:
    require_login(settings)
    kim, lee = make_user("kim"), make_user("lee")
    DailyUsage.objects.create(day=today(), user_identifier=identifier_of(kim), requests=3)
    api.credentials(HTTP_AUTHORIZATION=key_of(lee)["Authorization"])
    assert api.get("/api/usage").json()["total"]["requests"] == 0
    api.credentials(HTTP_AUTHORIZATION=key_of(kim)["Authorization"])
    assert api.get("/api/usage").json()["total"]["requests"] == 3
    api.credentials(HTTP_AUTHORIZATION=key_of(kim, ["chat"])["Authorization"])
    assert api.get("/api/usage").json()["code"] == "scope_missing"


@pytest.mark.parametrize("field", ["input_price", "output_price"])
def test_prices_are_not_below_zero(db: None, field: str) -> None:
    preset = Preset(type="p", name="P", api_url="https://example.com/v1", model="m", **{field: Decimal(-1)})
    with pytest.raises(ValidationError) as refusal:
        preset.full_clean()
    assert list(refusal.value.message_dict) == [field, "__all__"] or list(refusal.value.message_dict) == [field]


def test_costs_are_whole_billionths() -> None:
    assert usage.cost(None, None, 1, 1) is None
    assert usage.cost(Decimal("0.15"), None, 1, 10**6) == 150
    assert usage.cost(Decimal(3), Decimal(15), 1_000_000, 1_000_000) == 18 * BILLION
    assert usage.cost(Decimal("999999.999999"), Decimal(1), 2**31, 0) == usage.MOST_COST


def test_what_a_name_used_becomes_the_accounts(in_transaction: None) -> None:
    kim = make_user("kim")
    own = {"user_identifier": identifier_of(kim), "day": today(), "model_type": "a"}
    DailyUsage.objects.create(**own, requests=1, estimated_cost=5)
    DailyUsage.objects.create(user_identifier="kim", day=today(), model_type="a", requests=2, estimated_cost=7)
    DailyUsage.objects.create(user_identifier="kim", day=today(), model_type="b", requests=4)
    call_command("claim_conversations", identifier="kim", user="kim", stdout=StringIO(), stderr=StringIO())
    rows = DailyUsage.objects.order_by("model_type").values_list("user_identifier", "requests", "estimated_cost")
    assert list(rows) == [(identifier_of(kim), 3, 12), (identifier_of(kim), 4, 0)]


# In admin ---------------------------------------------------------------------------------------------------------
def test_admin_downloads_csv_in_which_nothing_is_reckoned(db: None) -> None:
    DailyUsage.objects.create(day=today(), user_identifier='=HYPERLINK("http://x","y")', model_type="@SUM(1)", cost=1)
    DailyUsage.objects.create(day=today(), user_identifier="kim", model_type="a")
    admin = Client()
    admin.force_login(User.objects.create_superuser("root"))
    ids = list(DailyUsage.objects.values_list("pk", flat=True))
    response = admin.post("/admin/conversations/dailyusage/", {"action": "as_csv", "_selected_action": ids})
    text = b"".join(response.streaming_content).decode("utf-8-sig")  # type: ignore[attr-defined]
    lines = text.splitlines()
    assert lines[0].startswith("day,user_identifier,model_type,requests")
    assert '"\'=HYPERLINK(""http://x"",""y"")",\'@SUM(1)' in lines[1]
    assert "0.000000001" in lines[1]
    assert len(lines) == 3


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "＝"])
def test_a_cell_is_text(start: str) -> None:
    assert as_cell(f"{start}1+1") == f"'{start}1+1"
    assert as_cell("kim=1") == "kim=1"
