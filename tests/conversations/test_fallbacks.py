"""Where a model does not begin to answer, the next one does, and everything says so."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest
from django.core.exceptions import ValidationError
from django.test import Client

from conversations.models import DailyUsage, Generation
from llmproviders import breaker as breakers
from llmproviders.breaker import Breaker, breaker
from llmproviders.models import Preset
from llmproviders.types import Endpoint
from tests.upstream import Behaviour, ScriptedUpstream, answer, raw, run_upstream_in_thread, status

from .helpers import chat

USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}


@pytest.fixture
def other() -> Iterator[ScriptedUpstream]:
    with run_upstream_in_thread(default=answer("from the other", usage=USAGE)) as upstream:
        yield upstream


@pytest.fixture
def first(upstream_thread: ScriptedUpstream, other: ScriptedUpstream, settings: Any, client: httpx.Client) -> Preset:
    """A preset whose answers the other one gives where it does not."""
    settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, "MAX_RETRIES": 0, "FIRST_TOKEN_TIMEOUT": 1.0}
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "TITLES": "first_words"}
    Preset.objects.create(
        type="second", name="Second", api_url=other.url, model="two", context_window=100_000, input_price=Decimal(5)
    )
    return Preset.objects.create(
        type="first",
        name="First",
        api_url=upstream_thread.url,
        model="one",
        fallbacks="gone second",
        context_window=2_000,
        input_price=Decimal(1),
    )


FAILURES: dict[str, Behaviour | str] = {
    "wrong key": status(401, {"error": {"message": "bad key"}}),
    "no credit": status(402, {"error": {"message": "pay first"}}),
    "no such model": status(404, {"error": {"message": "model not found"}}),
    "asked too much": status(429, {"error": {"message": "slow down"}}, {"Retry-After": "60"}),
    "broken": status(500, "no"),
    "bad gateway": status(502, "no"),
    "away": status(503, "no"),
    "overloaded": status(529, {"error": {"type": "overloaded_error", "message": "busy"}}),
    "a web page": status(200, "<html>hello</html>", content_type="text/html"),
    "hung up": raw(b""),
    "silent": answer("never", stall="headers"),
    "an error in the stream": raw(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
        b'data: {"error": {"message": "engine died", "code": 500}}\n\n'
    ),
    "cut before the first token": answer("never", cut=0),
    "refused connection": "refused",
    "too long": status(
        400, {"error": {"code": "context_length_exceeded", "message": "maximum context length is 2000 tokens"}}
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_whatever_keeps_the_first_from_beginning_the_second_answers(
    client: httpx.Client, first: Preset, upstream_thread: ScriptedUpstream, failure: str
) -> None:
    behaviour = FAILURES[failure]
    if isinstance(behaviour, str):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        Preset.objects.filter(pk=first.pk).update(api_url=f"http://127.0.0.1:{port}/v1")
    else:
        # A prompt that is too long is tried once more, shorter.
        upstream_thread.script = [behaviour] * 2
    heard = chat(client, "hello", model_type="first")
    assert (heard.text, heard.done["status"]) == ("from the other", "completed")
    cost = 100 * 5 / 1_000_000
    assert heard.done["usage"] == {**USAGE, "cost": cost}
    reply = client.get(f"/conversations/{heard.done['session_id']}/history").json()["messages"][1]
    assert (reply["model"], reply["model_type"], reply["usage"]) == ("two", "second", {**USAGE, "cost": cost})
    assert DailyUsage.objects.values_list("model_type", "requests", "prompt_tokens").get() == ("second", 1, 100)


def test_after_the_first_token_none_answers_instead(
    client: httpx.Client, first: Preset, upstream_thread: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    upstream_thread.script = [answer("half", " never", cut=1)]
    heard = chat(client, "hello", model_type="first")
    assert (heard.text, heard.done["status"]) == ("half", "failed")
    assert other.calls == 0


def test_what_is_wrong_with_the_request_is_told(
    client: httpx.Client, first: Preset, upstream_thread: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    upstream_thread.script = [status(400, {"error": {"message": "this is not allowed here"}})]
    heard = chat(client, "hello", model_type="first")
    assert heard.error["code"] == "upstream_bad_request"
    assert other.calls == 0


def test_where_all_fail_the_last_failure_is_told(
    client: httpx.Client, first: Preset, upstream_thread: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    upstream_thread.script = [status(503, "no")]
    other.script = [status(429, "no", {"Retry-After": "60"})]
    heard = chat(client, "hello", model_type="first")
    assert (heard.error["code"], heard.error["retry_after"]) == ("upstream_rate_limit", 60)
    generation = Generation.objects.get()
    assert generation.message.model_type == "second"


def test_a_longer_prompt_is_made_for_a_larger_window(
    client: httpx.Client, first: Preset, upstream_thread: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    upstream_thread.default = answer("ok")  # type: ignore[assignment]
    session_id = chat(client, "word " * 600, model_type="first").done["session_id"]
    for _turn in range(4):
        chat(client, "word " * 600, session_id=session_id, model_type="first")
    sent = len(upstream_thread.requests[-1].body["messages"])
    upstream_thread.script = [status(500, "no")]
    chat(client, "last", session_id=session_id, model_type="first")
    assert len(other.requests[-1].body["messages"]) == 11 > sent


# The breaker ------------------------------------------------------------------------------------------------------
class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_opens_lets_one_probe_through_and_closes() -> None:
    clock = Clock()
    guard = Breaker(clock)
    endpoint = Endpoint("a", "A", "https://a.example", "m")
    for _failure in range(breakers.FAILURES):
        assert guard.lets_through(endpoint)
        guard.failed(endpoint)
    assert not guard.lets_through(endpoint)
    assert guard.seconds_left(endpoint) == breakers.FIRST_PAUSE
    assert guard.lets_through(Endpoint("a", "A", "https://a.example", "other"))
    clock.now += breakers.FIRST_PAUSE
    assert [guard.lets_through(endpoint) for _try in range(3)] == [True, False, False]
    guard.failed(endpoint)
    assert guard.seconds_left(endpoint) == 2 * breakers.FIRST_PAUSE
    clock.now += 2 * breakers.FIRST_PAUSE
    assert guard.lets_through(endpoint)
    guard.given_up(endpoint)  # who asked has left
    assert guard.lets_through(endpoint)
    guard.worked(endpoint)
    assert all(guard.lets_through(endpoint) for _try in range(3))
    for _failure in range(20):
        guard.failed(endpoint)
    assert guard.seconds_left(endpoint) == breakers.LONGEST_PAUSE


def test_it_knows_so_many_endpoints_only() -> None:
    guard = Breaker()
    for number in range(breakers.MOST_KNOWN + 5):
        guard.failed(Endpoint("a", "A", f"https://{number}.example", "m"))
    assert len(guard._states) == breakers.MOST_KNOWN


def test_who_failed_again_and_again_is_passed_over_and_admin_shows_it(
    client: httpx.Client, first: Preset, upstream_thread: ScriptedUpstream, admin_client: Client
) -> None:
    upstream_thread.default = status(503, "no")  # type: ignore[assignment]
    for _answer in range(breakers.FAILURES + 3):
        assert chat(client, "hello", model_type="first").text == "from the other"
    assert upstream_thread.calls == breakers.FAILURES
    page = admin_client.get("/admin/llmproviders/preset/").content.decode()
    assert "passed over for" in page
    # Without anybody to answer instead it is asked all the same.
    Preset.objects.filter(pk=first.pk).update(fallbacks="")
    assert chat(client, "hello", model_type="first").error["code"] == "upstream_unavailable"
    assert upstream_thread.calls == breakers.FAILURES + 1
    breaker.forget()


@pytest.mark.parametrize("fallbacks", ["first", "other first", "A B", "a,b", " a", "a  b"])
def test_fallbacks_that_are_none_are_refused(db: None, fallbacks: str) -> None:
    preset = Preset(type="first", name="P", api_url="https://example.com/v1", model="m", fallbacks=fallbacks)
    with pytest.raises(ValidationError) as refusal:
        preset.full_clean()
    assert list(refusal.value.message_dict) == ["fallbacks"]
