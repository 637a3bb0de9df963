"""Hints between processes, over the channel layer: "committed more", "stop", "tell me about this one".

Never text, and nothing that must arrive: the layer may lose messages, the database may not. Without a layer
that reaches other processes nothing is sent, and polling alone does the work.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from typing import Any

from channels.layers import InMemoryChannelLayer, get_channel_layer

logger = logging.getLogger("conversations.post")

COMMITTED = "generation.committed"
STOP = "generation.stop"
FOLLOW = "generation.follow"
# A follower asks again every FOLLOW_AGAIN seconds; one that did not for FORGET_AFTER seconds is told nothing more.
FOLLOW_AGAIN = 10.0
FORGET_AFTER = 30.0
RECONNECT_PAUSE = 1.0
# Messages that wait to be sent; older hints are worth nothing.
MAX_OUTBOX = 10_000

Message = dict[str, Any]


def address_of(worker_id: uuid.UUID) -> str:
    """Return the channel on which a worker listens."""
    return f"conversations.worker.{worker_id.hex}"


def layer_between_processes() -> Any | None:
    """Return the channel layer if it reaches other processes."""
    layer = get_channel_layer()
    return None if isinstance(layer, InMemoryChannelLayer) else layer


class Post:
    """One event loop's messages. ``address`` says on which channel it listens right now."""

    def __init__(
        self,
        *,
        address: Callable[[], str],
        on_stop: Callable[[uuid.UUID], None],
        on_news: Callable[[], None],
        makes: Callable[[uuid.UUID], bool],
    ) -> None:
        self._address = address
        self._on_stop = on_stop
        self._on_news = on_news
        self._makes = makes
        # generation -> channel of a follower -> when it is forgotten
        self._followers: dict[uuid.UUID, dict[str, float]] = {}
        # A hint that waits already need not wait twice.
        self._outbox: dict[tuple[str, str, str], Message] = {}
        self._work = asyncio.Event()

    def follow(self, generation_id: uuid.UUID, worker_id: uuid.UUID | None) -> None:
        """Ask the process that makes an answer to say when there is more of it."""
        if worker_id:
            self._send(address_of(worker_id), FOLLOW, generation_id, reply_to=self._address())

    def stop(self, generation_id: uuid.UUID, worker_id: uuid.UUID | None) -> None:
        """Tell the process that makes an answer that it was ended."""
        if worker_id:
            self._send(address_of(worker_id), STOP, generation_id)

    def committed(self, generation_id: uuid.UUID, position: int) -> None:
        """Tell those who follow an answer of ours that there is more."""
        followers = self._followers.get(generation_id)
        if not followers:
            return
        now = asyncio.get_running_loop().time()
        for channel, forget_at in list(followers.items()):
            if forget_at < now:
                del followers[channel]
            else:
                self._send(channel, COMMITTED, generation_id, position=position)

    def ended(self, generation_id: uuid.UUID) -> None:
        """Forget the followers of an answer that needs no more hints."""
        self._followers.pop(generation_id, None)

    def _send(self, channel: str, kind: str, generation_id: uuid.UUID, **content: Any) -> None:
        if layer_between_processes() is None or len(self._outbox) >= MAX_OUTBOX:
            return
        key = str(generation_id)
        self._outbox[channel, kind, key] = {"type": kind, "generation": key, **content}
        self._work.set()

    async def send_forever(self) -> None:
        """The sender's task: runs until it is cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            outbox, self._outbox = self._outbox, {}
            layer = layer_between_processes()
            try:
                for (channel, _kind, _key), message in outbox.items():
                    await layer.send(channel, message)  # type: ignore[union-attr]
            except Exception as error:  # whatever the layer's client raises: the hint is lost, polling goes on
                logger.warning("the channel layer does not take messages: %s", error)
                await asyncio.sleep(RECONNECT_PAUSE)

    async def receive_forever(self) -> None:
        """The receiver's task: runs until it is cancelled; without a layer it has nothing to do."""
        layer = layer_between_processes()
        while layer is not None:
            try:
                self._received(await layer.receive(self._address()))
            except Exception as error:
                logger.warning("the channel layer does not answer: %s", error)
                await asyncio.sleep(RECONNECT_PAUSE)

    def _received(self, message: Message) -> None:
        generation_id = uuid.UUID(message["generation"])
        if message["type"] == COMMITTED:
            self._on_news()
        elif message["type"] == STOP:
            self._on_stop(generation_id)
        elif message["type"] == FOLLOW and self._makes(generation_id):
            forget_at = asyncio.get_running_loop().time() + FORGET_AFTER
            self._followers.setdefault(generation_id, {})[message["reply_to"]] = forget_at
