"""One call to a model: posted as often as it takes, its answer read with the patience that each phase deserves.

What differs between wire formats is handed in: the body, the headers, and who reads the events.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from django.utils.translation import gettext_noop

from .. import conf, failures
from ..answer import AnswerFraming
from ..base import Provider
from ..dialect import Wish
from ..net.deadline import Deadline
from ..net.flow import Flow
from ..net.guard import check_callable, read_key, refused
from ..net.http import Reply, post_stream
from ..net.policy import Policy, policy_for
from ..net.retry import with_retries
from ..types import CompletionFinished, Delta
from .flowing import GONE, FlowingText, Pace, Reader

logger = logging.getLogger("llmproviders")

HEADERS = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
MAX_ERROR_BYTES = 65_536
ERROR_BODY_SECONDS = 5.0
# How long to wait, when all is here, for the end of the body: without it the connection could not be used again.
DRAIN_SECONDS = 0.1


async def asked(
    provider: Provider,
    url_of: Callable[[str], str],
    body: dict[str, Any],
    *,
    reader: Callable[..., Reader],
    headers: Callable[[str], Mapping[str, str]],
    fixed: Collection[str] = (),
) -> AsyncGenerator[Delta, None]:
    """Post ``body`` to the provider's endpoint and yield the answer's deltas, as ``Provider.stream`` says.

    ``url_of`` makes the call's URL of the endpoint's; ``headers`` is given the key, ``reader`` as ``key=``. ``fixed``
    names parameters that are not to be changed where the endpoint does not take them.
    """
    endpoint = provider.endpoint
    policy = policy_for(endpoint.set_by)
    url = url_of(check_callable(endpoint.api_url, policy))
    key = read_key(endpoint.api_key, policy)
    with Deadline(conf.get().TOTAL_TIMEOUT) as deadline:
        wish = Wish((url, body["model"], key), body, fixed=fixed, told=provider.accepted)
        call = _Call(url, key, policy, wish, deadline, provider, reader=reader, headers=headers(key))
        first, deltas = await with_retries(call.attempt, deadline, provider.loading)
        async with aclosing(deltas):
            yield first
            async for delta in deltas:
                yield delta


class _Call:
    """One request, posted as often as it takes to get an answer to it."""

    def __init__(
        self,
        url: str,
        key: str,
        policy: Policy,
        wish: Wish,
        deadline: Deadline,
        provider: Provider,
        *,
        reader: Callable[..., Reader],
        headers: Mapping[str, str],
    ) -> None:
        self._url = url
        self._key = key
        self._policy = policy
        self._wish = wish
        self._deadline = deadline
        self._flows = provider.flows
        self._unopened = provider.unopened
        self._reader = reader
        self._headers = {**HEADERS, **headers}
        self._settings = conf.get()

    async def attempt(self) -> AsyncGenerator[Delta, None]:
        """Post once and yield the answer's deltas."""
        async with self._accepted() as reply:
            answer = self._reader(key=self._key)
            framing = AnswerFraming(
                max_line_bytes=self._settings.MAX_LINE_BYTES, max_bytes=self._settings.MAX_ANSWER_BYTES
            )
            pace = Pace(self._deadline, answer)
            # Two of the longest lines may say nothing.
            flow = Flow(most=min(self._settings.MAX_ANSWER_BYTES, 2 * self._settings.MAX_LINE_BYTES))
            flowing = FlowingText(reply, answer, framing, flow, pace)
            while chunk := await pace.read(reply):
                # Now, as what follows is not the upstream's time; and raised after what it has said.
                overdue = self._deadline.overdue()
                given = False
                for step in flow.steps(chunk):
                    for delta in answer.read(framing.feed(step)):
                        yield delta
                        given = True
                        flow.said(delta)
                    if not framing.collects:
                        flow.took(step)
                        if flow.is_beyond:
                            await flow.pause()
                if answer.finish_reason is None:
                    if overdue:
                        raise overdue
                    if given and self._flows is not None:
                        self._flows(flowing)
                        await flowing.until_over(self._deadline)
            for delta in answer.read(framing.end()):
                yield delta
            for delta in answer.flush():
                yield delta
            last = self._finished(answer)
            # Before the last delta: nobody asks for more after it, and an unread connection serves no other call.
            await self._rest(reply, DRAIN_SECONDS)
            yield last

    def _finished(self, answer: Reader) -> CompletionFinished:
        """Tell what was odd about an answer, and return its end."""
        if answer.unknown_parts:
            logger.info(
                "dropped unknown parts model=%s types=%s", self._wish.body["model"], sorted(answer.unknown_parts)
            )
        if answer.unopened:
            self._unopened()
        return answer.finished()

    @asynccontextmanager
    async def _accepted(self) -> AsyncIterator[Reply]:
        """The reply to the request, if it is no refusal; a refusal that can be met is."""
        while True:
            self._begin()
            async with self._post() as reply:
                if 200 <= reply.status < 300:
                    self._wish.accepted()
                    yield reply
                    return
                error_body = await self._rest(reply, ERROR_BODY_SECONDS)
            if not self._wish.refused(reply.status, error_body):
                break
        if 300 <= reply.status < 400 and not self._policy.tells_reasons:
            raise refused(self._policy, urlsplit(self._url).hostname or "-", "a redirect")
        raise failures.from_response(reply.status, reply.headers, error_body, key=self._key)

    def _begin(self) -> None:
        """Set the time limit for what is waited for now: all of it, where it will come at once."""
        streams = self._wish.body["stream"]
        seconds = self._settings.FIRST_TOKEN_TIMEOUT if streams else self._settings.TOTAL_TIMEOUT
        self._deadline.set(seconds, gettext_noop("The model did not begin to answer in time."))

    def _post(self) -> AbstractAsyncContextManager[Reply]:
        # What UTF-8 cannot hold (lone surrogates) becomes "?" rather than an error here.
        body = json.dumps(self._wish.body, ensure_ascii=False).encode("utf-8", "replace")
        return post_stream(
            self._url,
            policy=self._policy,
            body=body,
            headers=self._headers,
            model=self._wish.body["model"],
            deadline=self._deadline,
        )

    async def _rest(self, reply: Reply, seconds: float) -> bytes:
        """What comes of the body within ``seconds``, and no more than is worth reading."""
        self._deadline.set(seconds, "")
        body = b""
        with suppress(*GONE):
            while len(body) < MAX_ERROR_BYTES and (chunk := await reply.read()):
                body += chunk
        return body[:MAX_ERROR_BYTES]
