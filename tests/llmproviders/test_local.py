"""The embedded model, for real: its child process, its answers, its end."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, closing
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from llmproviders import ChatMessage, CompletionFinished, CompletionRequest, ContentDelta, Endpoint, Provider, local
from llmproviders.backends.embedded import Embedded
from llmproviders.exceptions import AnswerCut, ContextLengthExceeded, LocalModelMissing, UpstreamUnavailable
from llmproviders.net.http import close_client
from llmproviders.registry import get_provider

ENDPOINT = Endpoint("local", "Local", "", "SmolLM2-135M-Instruct", backend="embedded", is_demo=True)
OPTIONS = local.Options(context_window=8192, parallel=2, start_timeout=60.0)
MISSING = os.environ.get("ALLOW_MISSING_LOCAL_MODEL") == "1" and not local.is_installed()
real_model = [
    pytest.mark.local_model,
    pytest.mark.skipif(MISSING, reason="the embedded model is not installed, and the environment allows that"),
]
Limits = Callable[..., None]


def request(*texts: str, **options: Any) -> CompletionRequest:
    return CompletionRequest(tuple(ChatMessage("user", text) for text in texts), **options)


async def collect(asked: CompletionRequest) -> tuple[str, CompletionFinished]:
    """The whole text of an answer, and how it ended."""
    text = ""
    async with aclosing(get_provider(ENDPOINT).stream(asked)) as deltas:  # type: ignore[type-var]
        async for delta in deltas:
            if isinstance(delta, CompletionFinished):
                return text, delta
            assert isinstance(delta, ContentDelta)
            text += delta.text
    raise AssertionError("no end")


def child() -> subprocess.Popen[bytes]:
    """The child process that was started last."""
    assert local._server._child is not None
    return local._server._child[0]


def pid() -> int:
    return child().pid


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def seen_by_others(process: int) -> bytes:
    """A process's arguments and environment."""
    return Path(f"/proc/{process}/cmdline").read_bytes() + Path(f"/proc/{process}/environ").read_bytes()


async def ended(process: int) -> None:
    """Wait until a process that is not ours has ended: nothing tells us."""
    async with asyncio.timeout(10):
        while is_alive(process):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def server(limits: Limits) -> AsyncIterator[None]:
    """The embedded server stays between these tests; the loop's connections to it do not."""
    limits(LOCAL_START_TIMEOUT=60.0, FIRST_TOKEN_TIMEOUT=120.0)
    yield
    await close_client()


@pytest.fixture(scope="module", autouse=True)
def stopped_in_the_end() -> Iterator[None]:
    yield
    local._server.stop()


class TestAnswers:
    pytestmark = real_model

    async def test_it_answers_in_english(self, server: None) -> None:
        text, end = await collect(request("Say hello.", temperature=0.0, max_tokens=40))

        assert "hello" in text.lower()
        assert end.usage is not None
        assert end.usage.total_tokens == end.usage.prompt_tokens + end.usage.completion_tokens
        assert end.finish_reason in ("stop", "length")

    async def test_max_tokens_ends_the_answer(self, server: None) -> None:
        _text, end = await collect(request("Tell me a long story.", max_tokens=5))

        assert end.finish_reason == "length"
        assert end.usage is not None
        assert end.usage.completion_tokens == 5

    async def test_the_chat_template_is_the_models_own(self, server: None) -> None:
        messages = (
            ChatMessage("system", "Your name is Bob."),
            ChatMessage("user", "Hello, my name is Anna."),
            ChatMessage("assistant", "Hello Anna!"),
            ChatMessage("user", "What is my name?"),
        )

        text, _end = await collect(CompletionRequest(messages, temperature=0.0, max_tokens=20))

        assert "Anna" in text
        assert "<|im" not in text

    async def test_two_answers_run_side_by_side(self, server: None) -> None:
        order: list[str] = []

        async def ask(name: str) -> None:
            asked = request(name, temperature=0.0, max_tokens=100)
            async with aclosing(get_provider(ENDPOINT).stream(asked)) as deltas:  # type: ignore[type-var]
                async for _delta in deltas:
                    order.append(name)

        # How long an answer is, and what comes together, is chance: that neither waited for the other's end is not.
        cats, dogs = "Tell me a long story about cats.", "Tell me a long story about dogs."
        await asyncio.gather(ask(cats), ask(dogs))

        last = {name: index for index, name in enumerate(order)}
        assert order.index(cats) < last[dogs], order
        assert order.index(dogs) < last[cats], order

    async def test_a_prompt_that_is_too_long_is_refused_at_once(self, server: None) -> None:
        await local.ensure(OPTIONS)
        async with asyncio.timeout(25):
            with pytest.raises(ContextLengthExceeded):
                await collect(request("word " * 9000))

    async def test_each_answer_has_the_whole_window(self, server: None) -> None:
        address = await local.ensure(OPTIONS)

        slots = await slots_of(address)

        assert [slot["n_ctx"] for slot in slots] == [8192, 8192]

    @pytest.mark.parametrize(
        "prompt",
        [
            pytest.param("Tell me a long story.", id="writing"),
            pytest.param("word " * 8000, id="reading", marks=pytest.mark.alone),
        ],
    )
    async def test_leaving_stops_the_work(self, server: None, prompt: str) -> None:
        address = await local.ensure(OPTIONS)
        task = asyncio.create_task(collect(request(prompt, max_tokens=4000)))
        await slots_are(address, busy=1)

        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        async with asyncio.timeout(25):  # reading that prompt to its end takes 36 s on two idle cores
            await slots_are(address, busy=0)


async def slots_of(address: local.Address) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        url = address.api_url.replace("/v1/chat/completions", "/slots")
        response = await client.get(url, headers={"Authorization": f"Bearer {address.api_key}"})
        slots: list[dict[str, Any]] = response.json()
        return slots


async def slots_are(address: local.Address, *, busy: int) -> None:
    """Wait until so many slots work. Seldom asked: it puts off the server's look at its readers."""
    while sum(slot["is_processing"] for slot in await slots_of(address)) != busy:  # noqa: ASYNC110
        await asyncio.sleep(1.5 if busy == 0 else 0.02)


class TestTheProcess:
    pytestmark = real_model

    async def test_it_is_started_once_for_all_who_come_first(self, server: None) -> None:
        await local.stop()

        addresses = await asyncio.gather(*(local.ensure(OPTIONS) for _ in range(10)))

        assert len(set(addresses)) == 1

    def test_several_event_loops_share_it(self) -> None:
        async def ask() -> int:
            try:
                await collect(request("Hi", max_tokens=2))
                return pid()
            finally:
                await close_client()

        assert len({asyncio.run(ask()), asyncio.run(ask())}) == 1

    async def test_who_does_not_know_the_key_is_refused(self, server: None) -> None:
        address = await local.ensure(OPTIONS)

        async with httpx.AsyncClient(trust_env=False) as client:
            response = await client.post(address.api_url, json={"messages": []})

        assert response.status_code == 401
        assert address.api_key not in repr(address)
        assert address.api_key.encode() not in seen_by_others(pid())

    async def test_it_listens_on_loopback_only(self, server: None) -> None:
        address = await local.ensure(OPTIONS)

        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1/chat/completions", address.api_url)

    async def test_it_does_not_import_django(self, server: None) -> None:
        code = "import sys, runpy; runpy.run_path(sys.argv[1]); sys.exit('django' in sys.modules)"
        process = await asyncio.create_subprocess_exec(sys.executable, "-P", "-c", code, str(local.SCRIPT))

        assert await asyncio.wait_for(process.wait(), 30) == 0

    async def test_it_is_started_again_after_it_died(self, server: None) -> None:
        await local.ensure(OPTIONS)
        first = pid()
        child().kill()
        await asyncio.to_thread(child().wait, 10)

        await collect(request("Hi", max_tokens=2))

        assert pid() != first

    async def test_one_that_is_about_to_be_gone_is_not_waited_for(self, server: None) -> None:
        """Of a process that was killed the sockets are gone first; for a moment it is not known to have ended."""
        await local.ensure(OPTIONS)
        first = pid()
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            port = taken.getsockname()[1]
        process, address = local._server._child or pytest.fail("none is there")
        local._server._child = process, replace(address, api_url=f"http://127.0.0.1:{port}/v1/chat/completions")

        await collect(request("Hi", max_tokens=2))

        assert pid() != first
        assert not is_alive(first)

    async def test_dying_in_the_middle_of_an_answer_is_an_error(self, server: None) -> None:
        async def kill_it_while_it_answers() -> None:
            async with aclosing(get_provider(ENDPOINT).stream(request("A story", max_tokens=2000))) as deltas:  # type: ignore[type-var]
                async for _delta in deltas:
                    child().kill()

        with pytest.raises(AnswerCut):
            await kill_it_while_it_answers()

    async def test_stop_ends_it_and_the_next_use_starts_another(self, server: None) -> None:
        await local.ensure(OPTIONS)
        first = pid()

        await local.stop()
        assert not is_alive(first)
        await local.stop()

        await local.ensure(OPTIONS)
        assert is_alive(pid())

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    async def test_signals_to_the_whole_group_do_not_end_it(self, server: None, number: int) -> None:
        await local.ensure(OPTIONS)

        os.kill(pid(), number)

        await collect(request("Hi", max_tokens=2))
        assert is_alive(pid())

    @pytest.mark.parametrize("how", ["kill -9", "exit"])
    async def test_it_ends_with_its_parent_however_that_ends(self, how: str) -> None:
        code = (
            "import asyncio, sys, time; from llmproviders import local; "
            "o = local.Options(context_window=512, parallel=1, start_timeout=60.0); asyncio.run(local.ensure(o)); "
            "print(local._server._child[0].pid, flush=True); sys.stdin.readline()"
        )
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert parent.stdin is not None
        assert parent.stdout is not None
        child = int(await asyncio.wait_for(parent.stdout.readline(), 60))
        assert is_alive(child)

        if how == "exit":
            parent.stdin.close()
        else:
            parent.kill()

        await parent.wait()
        await ended(child)

    async def test_an_overdue_start_is_given_up(self, server: None) -> None:
        await local.stop()

        with pytest.raises(UpstreamUnavailable, match="did not start"):
            await local.ensure(local.Options(context_window=512, parallel=1, start_timeout=0.01))

        assert (await local.ensure(OPTIONS)).api_url

    async def test_a_broken_model_file_is_an_error(
        self, server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await local.stop()
        broken = tmp_path / "broken.gguf"
        broken.write_bytes(b"GGUF, but not really")
        monkeypatch.setattr(local, "model_path", lambda: broken)

        with pytest.raises(UpstreamUnavailable, match="did not start"):
            await local.ensure(OPTIONS)


class TestWithoutThePackages:
    @pytest.fixture(params=local.PACKAGES)
    def missing(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        """One of the packages is not there."""
        real = importlib.util.find_spec

        def find(name: str, package: str | None = None) -> ModuleSpec | None:
            return None if name == request.param else real(name, package)

        monkeypatch.setattr(local, "find_spec", find)

    def test_it_is_not_installed(self, missing: None) -> None:
        assert not local.is_installed()
        assert not Embedded.is_available()

    async def test_the_error_says_what_to_do(self, missing: None) -> None:
        await local.stop()

        with pytest.raises(LocalModelMissing) as caught:
            await collect(request("Hi"))

        assert "make install-local-model" in str(caught.value)
        assert "LLM_API_URL" in str(caught.value)


def test_the_backend_is_a_demo_without_a_url() -> None:
    assert issubclass(Embedded, Provider)
    assert Embedded.is_demo
    assert not Embedded.needs_url
