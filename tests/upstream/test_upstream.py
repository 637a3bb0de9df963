"""The scripted upstream keeps its own promises: in a thread, as a process, and by directive."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from tests.upstream import Answer, ScriptedUpstream, Status, answer, echo_text, run_upstream_in_thread, status
from tests.upstream.behaviours import directed

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"
OPENER = build_opener(ProxyHandler({}))


def call(url: str, body: Any = None, *, method: str = "POST") -> Any:
    content = None if body is None else json.dumps(body).encode()
    with OPENER.open(Request(url, content, {"Content-Type": "application/json"}, method=method), timeout=10) as reply:
        text = reply.read().decode()
    return json.loads(text) if reply.headers["Content-Type"] == "application/json" else text


def chat(text: str, *, stream: bool = False) -> dict[str, Any]:
    return {"model": "m", "stream": stream, "messages": [{"role": "user", "content": text}]}


@pytest.fixture(params=["thread", "process"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "thread":
        with run_upstream_in_thread() as upstream:
            yield upstream.url
        return
    command = [sys.executable, "-m", "tests.upstream"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


def test_it_echoes_and_streams(url: str) -> None:
    whole = call(url, chat("Hello  you"))
    assert whole["choices"][0]["message"]["content"] == echo_text("Hello  you", 0)
    lines = call(url, chat("Hello", stream=True)).split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    deltas = [json.loads(line.removeprefix("data: "))["choices"][0]["delta"] for line in lines[:-2]]
    assert "".join(delta.get("content", "") for delta in deltas) == echo_text("Hello", 0)


def test_a_directive_in_the_message_chooses_the_behaviour(url: str) -> None:
    assert call(url, chat('!script {"chunks": ["a", "b"]}'))["choices"][0]["message"]["content"] == "ab"
    with pytest.raises(HTTPError, match="HTTP Error 429") as caught:
        call(url, chat('!script {"status": 429, "body": {"error": "slow"}, "headers": {"Retry-After": "3"}}'))
    with caught.value as refused:
        assert (refused.headers["Retry-After"], json.loads(refused.read())) == ("3", {"error": "slow"})


def test_the_directives_that_are_described_are_known() -> None:
    text = CONTRIBUTING.read_text()
    found = re.findall(r"^\| `(!script .*?)` \|", text, re.MULTILINE)
    assert len(found) > 5
    for said in found:
        behaviour = directed(chat(said))
        assert isinstance(behaviour, Answer | Status)
        assert getattr(behaviour, "status", 0) != 400, said


def test_a_described_call_of_a_tool_is_made(url: str) -> None:
    text = CONTRIBUTING.read_text()
    (said,) = re.findall(r"^\| `(!script .*?tool_calls.*?)` \|", text, re.MULTILINE)
    lines = call(url, chat(said, stream=True)).split("\n\n")
    deltas = [json.loads(line.removeprefix("data: "))["choices"][0]["delta"] for line in lines[:-2]]
    (called,) = [delta["tool_calls"][0]["function"] for delta in deltas if "tool_calls" in delta]
    assert called == {"name": "weather", "arguments": '{"city": "Paris"}'}
    assert not any(delta.get("content") for delta in deltas)


def test_it_can_be_watched_and_gates_be_opened_from_outside(url: str) -> None:
    base = url.removesuffix("/v1/chat/completions")
    call(f"{base}/control/gates/now")
    call(url, chat('!script {"chunks": ["a"], "gate": "now"}'))
    control = call(f"{base}/control", method="GET")
    assert (control["calls"], control["gates"]) == (1, {"now": 1})
    assert control["requests"][0]["body"]["model"] == "m"


def test_a_script_is_taken_in_order_then_the_default() -> None:
    with run_upstream_in_thread(default=answer("default")) as upstream:
        upstream.script = [answer("one"), lambda request: answer(request.body["model"]), status(200, {"n": 3})]
        answers = [call(upstream.url, chat("x")) for _ in range(4)]
        assert [a["choices"][0]["message"]["content"] for a in (*answers[:2], answers[3])] == ["one", "m", "default"]
        assert answers[2] == {"n": 3}
        upstream.wait_until(lambda: upstream.calls == 4 and upstream.open_connections == 0)


async def test_a_client_that_hangs_up_is_noticed(upstream: ScriptedUpstream) -> None:
    upstream.script = [answer("a", stall="headers")]
    port = int(upstream.base_url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps(chat("x")).encode()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await upstream.until(lambda: upstream.calls == 1)
    writer.close()
    await upstream.closed_by_client()
