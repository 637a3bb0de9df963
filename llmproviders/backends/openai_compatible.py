"""OpenAI's chat completions, as its many imitators speak it: vLLM, SGLang, llama.cpp, GLM, DeepSeek, …

What is tolerated beyond the format: comments, empty choices, null content, any number of ``[DONE]``, usage in
any chunk or none, reasoning in ``reasoning_content``, ``reasoning`` or a leading ``<think>``, errors inside a
200 stream, and a whole answer as JSON although a stream was asked for. A server that refuses
``stream_options`` is asked once more without it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from django.utils.translation import gettext_noop

from .. import conf, failures
from ..base import Provider, Turn
from ..deadline import Deadline
from ..exceptions import AnswerCut, UpstreamProtocolError, UpstreamTimeout
from ..guard import check_callable, read_key, refused
from ..http import Reply, post_stream
from ..policy import Policy, policy_for
from ..retry import with_retries
from ..sse import SSEDecoder
from ..types import CompletionRequest, Delta
from .openai_answer import AnswerReader

MAX_ERROR_BYTES = 65_536
ERROR_BODY_SECONDS = 5.0
# How long to wait after the finish reason for usage and [DONE], and after those for the end of the body,
# without which the connection could not be used again.
USAGE_SECONDS = 2.0
DRAIN_SECONDS = 0.1
_GONE = (AnswerCut, UpstreamTimeout)


class OpenAICompatible(Provider):
    """Posts to the endpoint's URL and reads the answer as a stream."""

    async def stream(self, request: CompletionRequest) -> AsyncGenerator[Delta, None]:
        policy = policy_for(self.endpoint.set_by)
        url = check_callable(self.endpoint.api_url, policy)
        key = read_key(self.endpoint.api_key, policy)
        with Deadline(conf.get().TOTAL_TIMEOUT) as deadline:
            call = _Call(url, key, policy, request_body(self.endpoint.model, request), deadline, self.turn)
            first, deltas = await with_retries(call.attempt, deadline)
            async with aclosing(deltas):
                yield first
                async for delta in deltas:
                    yield delta


def request_body(model: str, request: CompletionRequest) -> dict[str, Any]:
    """The JSON of a call, as Python values."""
    return {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


class _Call:
    """One request, posted as often as it takes to get an answer to it."""

    def __init__(
        self, url: str, key: str, policy: Policy, body: dict[str, Any], deadline: Deadline, turn: Turn
    ) -> None:
        self._url = url
        self._key = key
        self._policy = policy
        self._body = body
        self._deadline = deadline
        self._turn = turn
        self._settings = conf.get()

    async def attempt(self) -> AsyncGenerator[Delta, None]:
        """Post once and yield the answer's deltas."""
        async with self._accepted() as reply:
            answer = AnswerReader(max_bytes=self._settings.MAX_ANSWER_BYTES, key=self._key)
            if reply.content_type == "application/json":
                for delta in answer.read_whole(await reply.read_all(self._settings.MAX_ANSWER_BYTES)):
                    yield delta
            else:
                events = SSEDecoder(max_line_bytes=self._settings.MAX_LINE_BYTES)
                pace = _Pace(self._deadline, answer)
                while chunk := await pace.read(reply):
                    # Now, as what follows is not the upstream's time; and raised after what it has said.
                    overdue = self._deadline.overdue()
                    given = False
                    for delta in answer.read(events.feed(chunk)):
                        yield delta
                        given = True
                    if answer.finish_reason is None:
                        if overdue:
                            raise overdue
                        if given:
                            await self._turn()
            for delta in answer.flush():
                yield delta
            last = answer.finished()
            # Before the last delta: nobody asks for more after it, and an unread connection serves no other call.
            await self._rest(reply, DRAIN_SECONDS)
            yield last

    @asynccontextmanager
    async def _accepted(self) -> AsyncIterator[Reply]:
        """The reply to the request, if it is neither a refusal nor a web page."""
        self._deadline.set(
            self._settings.FIRST_TOKEN_TIMEOUT, gettext_noop("The model did not begin to answer in time.")
        )
        async with self._post() as reply:
            if 200 <= reply.status < 300:
                if reply.content_type == "text/html":
                    raise UpstreamProtocolError(
                        gettext_noop("The model's server sent a web page instead of an answer.")
                    )
                yield reply
                return
            error_body = await self._rest(reply, ERROR_BODY_SECONDS)
        if reply.status in (400, 422) and b"stream_options" in error_body and "stream_options" in self._body:
            del self._body["stream_options"]
            async with self._accepted() as reply:
                yield reply
            return
        if 300 <= reply.status < 400 and not self._policy.tells_reasons:
            raise refused(self._policy, urlsplit(self._url).hostname or "-", "a redirect")
        raise failures.from_response(reply.status, reply.headers, error_body, key=self._key)

    def _post(self) -> AbstractAsyncContextManager[Reply]:
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        # What UTF-8 cannot hold (lone surrogates) becomes "?" rather than an error here.
        body = json.dumps(self._body, ensure_ascii=False).encode("utf-8", "replace")
        return post_stream(
            self._url,
            policy=self._policy,
            body=body,
            headers=headers,
            model=self._body["model"],
            deadline=self._deadline,
        )

    async def _rest(self, reply: Reply, seconds: float) -> bytes:
        """What comes of the body within ``seconds``, and no more than is worth reading."""
        self._deadline.set(seconds, "")
        body = b""
        with suppress(*_GONE):
            while len(body) < MAX_ERROR_BYTES and (chunk := await reply.read()):
                body += chunk
        return body[:MAX_ERROR_BYTES]


class _Pace:
    """Reads a reply, with the patience that its phase deserves."""

    def __init__(self, deadline: Deadline, answer: AnswerReader) -> None:
        self._deadline = deadline
        self._answer = answer
        self._between = conf.get().BETWEEN_TOKENS_TIMEOUT
        self._events = 0
        self._ending = False

    async def read(self, reply: Reply) -> bytes:
        """Return the next bytes, or ``b""`` when there are no more or no more are needed."""
        answer = self._answer
        if answer.whole:
            return b""
        if answer.finish_reason is None:
            # A comment does not count as progress, any event does: some models think in empty deltas.
            if answer.begun and answer.events > self._events:
                self._events = answer.events
                self._deadline.set(self._between, gettext_noop("The model stopped in the middle of its answer."))
            return await reply.read()
        if not self._ending:
            self._ending = True
            self._deadline.set(USAGE_SECONDS, "")
        with suppress(*_GONE):
            self._deadline.check()
            return await reply.read()
        return b""
