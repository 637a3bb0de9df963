"""A chat completion on its way out, with the faults that its script names."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from .behaviours import Answer, Place, Status, echoed
from .wire import Cut, Request, reset, send_status


class Gate:
    """A place where an answer waits until ``open`` is called, from any thread. ``reached`` counts arrivals."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event = asyncio.Event()
        self._changed = changed
        self.is_open = False
        self.reached = 0

    def open(self) -> None:
        self.is_open = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._event.set)

    async def passed(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.reached += 1
        self._changed()
        if not self.is_open:
            await self._event.wait()


class Streamed:
    """Sends an ``Answer``, as a stream or whole, with the faults that it names."""

    def __init__(
        self, gate: Callable[[str], Gate], request: Request, answer: Answer, writer: asyncio.StreamWriter
    ) -> None:
        self._gate = gate
        self._body: dict[str, Any] = request.body
        self._answer = answer
        self._writer = writer
        self._chunks = list(echoed(self._body) if answer.chunks is None else answer.chunks)
        self._model = answer.model if answer.model is not None else self._body.get("model", "")

    async def send(self) -> None:
        await self._at("headers")
        if not self._body.get("stream"):
            await send_status(Status(status=200, body=self._whole()), self._writer)
            return
        await self._packets(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        await self._at(0)
        await self._text()
        await self._at("finish")
        if self._answer.finish is not None:
            await self._chunk(delta={}, finish=self._answer.finish)
        if self._usage() is not None and self._body.get("stream_options", {}).get("include_usage"):
            await self._event(json.dumps({**self._head(), "choices": [], "usage": self._usage()}))
        await self._at("done")
        for _ in range(self._answer.done):
            await self._event("[DONE]")
        await self._packets(b"0\r\n\r\n")

    async def _text(self) -> None:
        answer = self._answer
        sent = 0
        pieces = [{answer.reasoning_field: piece} for piece in answer.reasoning]
        times = answer.repeat
        while times > 0 or answer.endless:
            times -= 1
            for delta in [*pieces, *({"content": piece} for piece in self._chunks), *answer.deltas]:
                if answer.delay:
                    await asyncio.sleep(answer.delay)
                await self._chunk(delta=delta)
                sent += 1
                await self._at(sent)
            pieces = []

    async def _at(self, place: Place) -> None:
        """Do what the script says for this place."""
        answer = self._answer
        if answer.gate is not None and answer.gate_at == place:
            await self._gate(answer.gate).passed()
        if answer.stall is not None and answer.stall == place:
            await asyncio.Event().wait()
        if answer.cut is not None and answer.cut == place:
            await self._writer.drain()
            if answer.how == "rst":
                reset(self._writer)
            raise Cut

    def _head(self) -> dict[str, Any]:
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1_694_268_190,
            "model": self._model,
            **self._answer.extra,
        }

    async def _chunk(self, *, delta: Mapping[str, Any], finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        await self._event(json.dumps({**self._head(), "choices": [choice], "usage": None}))

    async def _event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        await self._packets(b"%x\r\n%s\r\n" % (len(event), event))

    async def _packets(self, content: bytes) -> None:
        if self._answer.slice is None:
            self._writer.write(content)
            await self._writer.drain()
            return
        for start in range(0, len(content), self._answer.slice):
            self._writer.write(content[start : start + self._answer.slice])
            await self._writer.drain()
            await asyncio.sleep(0)

    def _usage(self) -> Mapping[str, Any] | None:
        if self._answer.usage is True:
            prompt = sum(len(str(message.get("content", "")).split()) for message in self._body.get("messages", []))
            completion = (len(self._chunks) + len(self._answer.reasoning)) * self._answer.repeat
            return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        return self._answer.usage or None

    def _whole(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": "".join(self._chunks) * self._answer.repeat}
        if self._answer.reasoning:
            message[self._answer.reasoning_field] = "".join(self._answer.reasoning)
        choice = {"index": 0, "message": message, "finish_reason": self._answer.finish}
        return {**self._head(), "object": "chat.completion", "choices": [choice], "usage": self._usage()}
