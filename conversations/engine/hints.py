"""Hints between processes, over the channel layer: "committed more", "stop", "tell me about this one", "look there".

Never text, and nothing that must arrive: the layer may lose messages, the database may not. Without a layer
that reaches other processes nothing is sent, and polling alone does the work.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from channels.exceptions import ChannelFull
from channels.layers import InMemoryChannelLayer, get_channel_layer

from .. import conf
from ..database import outages

COMMITTED = "generation.committed"
STOP = "generation.stop"
FOLLOW = "generation.follow"
WATCH = "conversations.watch"
CHANGED = "conversations.changed"
# The group that all processes are in.
EVERYBODY = "conversations.workers"
# A follower, and who watches, asks again every FOLLOW_AGAIN seconds; one that did not for FORGET_AFTER seconds is told
# nothing more.
FOLLOW_AGAIN = 10.0
FORGET_AFTER = 30.0
RECONNECT_PAUSE = 1.0
# Messages that wait to be sent; older hints are worth nothing.
MAX_OUTBOX = 10_000
# Owners whose conversations are watched, told in one message.
MAX_OWNERS = 1_000

Message = dict[str, Any]


def address_of(worker_id: uuid.UUID) -> str:
    """Return the channel on which a worker listens."""
    return f"conversations.worker.{worker_id.hex}"


def layer_between_processes() -> Any | None:
    """Return the channel layer if it reaches other processes."""
    layer = get_channel_layer()
    return None if isinstance(layer, InMemoryChannelLayer) else layer


def layer_is_needed() -> bool:
    """Whether a process without its channel layer is not to be sent anything."""
    return conf.get().READY_NEEDS_CHANNEL_LAYER


class Subject(NamedTuple):
    """A conversation in which something is new, and whose it is."""

    user_identifier: str
    conversation_id: int


class Hints:
    """One event loop's hints. ``address`` says on which channel it listens right now."""

    def __init__(
        self,
        *,
        address: Callable[[], str],
        on_stop: Callable[[uuid.UUID], None],
        on_news: Callable[[], None],
        on_change: Callable[[Subject], None],
        makes: Callable[[uuid.UUID], bool],
    ) -> None:
        self._address = address
        self._on_stop = on_stop
        self._on_news = on_news
        self._on_change = on_change
        self._makes = makes
        # generation -> channel of a follower -> when it is forgotten
        self._followers: dict[uuid.UUID, dict[str, float]] = {}
        # owner (None: anybody) -> channel of who watches -> when it is forgotten
        self._watchers: dict[str | None, dict[str, float]] = {}
        self._watched_until = float("-inf")
        self._in_group = ""
        self._joined_at = float("-inf")
        # A hint that waits already need not wait twice.
        self._outbox: dict[tuple[str, str, str], Message] = {}
        self._work = asyncio.Event()
        self._receiving: asyncio.Future[Message] | None = None

    def follow(self, generation_id: uuid.UUID, worker_id: uuid.UUID | None) -> None:
        """Ask the process that makes an answer to say when there is more of it."""
        if worker_id:
            self._send(address_of(worker_id), FOLLOW, str(generation_id), reply_to=self._address())

    def stop(self, generation_id: uuid.UUID, worker_id: uuid.UUID | None) -> None:
        """Tell the process that makes an answer that it was ended."""
        if worker_id:
            self._send(address_of(worker_id), STOP, str(generation_id))

    def committed(self, generation_id: uuid.UUID, position: int) -> None:
        """Tell those who follow an answer of ours that there is more."""
        followers = self._followers.get(generation_id)
        if not followers:
            return
        for channel in _remembered(followers):
            self._send(channel, COMMITTED, str(generation_id), position=position)

    def watch(self, owners: Iterable[str | None]) -> None:
        """Ask all processes to say when something is new in conversations of these; None is anybody's."""
        wanted = list(owners)
        for begin in range(0, len(wanted), MAX_OWNERS):
            some = wanted[begin : begin + MAX_OWNERS]
            self._send(EVERYBODY, WATCH, f"{self._address()} {begin}", owners=some, reply_to=self._address())

    @property
    def is_watched(self) -> bool:
        """Whether anybody watches in another process, or did a moment ago."""
        return self._watched_until > time.monotonic()

    def changed(self, subject: Subject) -> None:
        """Tell the processes that watch it that something is new in a conversation."""
        for owner in (subject.user_identifier, None):
            if (watchers := self._watchers.get(owner)) is None:
                continue
            for channel in _remembered(watchers):
                whose, conversation_id = subject
                self._send(channel, CHANGED, f"{conversation_id}", owner=whose, conversation=conversation_id)
            if not watchers:
                del self._watchers[owner]

    def ended(self, generation_id: uuid.UUID) -> None:
        """Forget the followers of an answer that needs no more hints."""
        self._followers.pop(generation_id, None)

    def _send(self, channel: str, kind: str, key: str, **content: Any) -> None:
        if layer_between_processes() is None or len(self._outbox) >= MAX_OUTBOX:
            return
        self._outbox[channel, kind, key] = {"type": kind, "key": key, **content}
        self._work.set()

    async def send_forever(self) -> None:
        """The sender's task: runs until it is cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            outbox, self._outbox = self._outbox, {}
            if not await self._send_all(outbox):
                await asyncio.sleep(RECONNECT_PAUSE)

    async def _send_all(self, outbox: dict[tuple[str, str, str], Message]) -> bool:
        """Send hints; return whether the layer took any. One that it does not take costs no other."""
        loop = asyncio.get_running_loop()
        layer: Any = layer_between_processes()
        taken, give_up_at, problem = not outbox, loop.time() + RECONNECT_PAUSE, None
        for (channel, _kind, _key), message in outbox.items():
            try:
                await (layer.group_send if channel == EVERYBODY else layer.send)(channel, message)
                taken = True
            except ChannelFull:
                taken = True
            except Exception as error:  # whatever the layer's client raises: the hint is lost, polling goes on
                problem = error
                if not taken and loop.time() > give_up_at:
                    break
        if problem is None:
            outages.channel_layer.recovered()
        else:
            outages.channel_layer.report(problem)
        return taken

    def moved(self) -> None:
        """Listen at our new address."""
        if self._receiving:
            self._receiving.cancel()

    async def receive_forever(self) -> None:
        """The receiver's task: runs until it is cancelled; without a layer it has nothing to do."""
        layer = layer_between_processes()
        if layer is None:
            await asyncio.get_running_loop().create_future()
        while True:
            try:
                self._received(await self._next(layer))
            except Exception as error:
                outages.channel_layer.report(error)
                await asyncio.sleep(RECONNECT_PAUSE)

    async def _next(self, layer: Any) -> Message:
        """Return the next message, at whichever address we have by then."""
        while True:
            await self._join(layer, self._address())
            self._receiving = asyncio.ensure_future(layer.receive(self._address()))
            try:
                while not (await asyncio.wait([self._receiving], timeout=FOLLOW_AGAIN))[0]:
                    await self._join(layer, self._address())
                if not self._receiving.cancelled():
                    message: Message = self._receiving.result()
                    return message
            finally:
                self._receiving.cancel()

    async def _join(self, layer: Any, address: str) -> None:
        """Get what is told to everybody, again and again: a layer may forget who is in a group.

        One that has no groups tells nobody, and looking does the work.
        """
        now = time.monotonic()
        is_due = address != self._in_group or now - self._joined_at > FOLLOW_AGAIN / 2
        if is_due and "groups" in getattr(layer, "extensions", ()):
            await layer.group_add(EVERYBODY, address)
            self._in_group, self._joined_at = address, now

    def _received(self, message: Message) -> None:
        kind = message["type"]
        forget_at = asyncio.get_running_loop().time() + FORGET_AFTER
        if kind == COMMITTED:
            self._on_news()
        elif kind == STOP:
            self._on_stop(uuid.UUID(message["key"]))
        elif kind == FOLLOW and self._makes(generation_id := uuid.UUID(message["key"])):
            self._followers.setdefault(generation_id, {})[message["reply_to"]] = forget_at
        elif kind == WATCH and message["reply_to"] != self._address():
            for owner in message["owners"]:
                self._watchers.setdefault(owner, {})[message["reply_to"]] = forget_at
            self._watched_until = time.monotonic() + FORGET_AFTER
            for owner in [owner for owner, listeners in self._watchers.items() if not _remembered(listeners)]:
                del self._watchers[owner]
        elif kind == CHANGED:
            self._on_change(Subject(message["owner"], message["conversation"]))


def _remembered(listeners: dict[str, float]) -> list[str]:
    """Return the channels that still listen, and forget the others."""
    now = asyncio.get_running_loop().time()
    for channel in [channel for channel, forget_at in listeners.items() if forget_at < now]:
        del listeners[channel]
    return list(listeners)
