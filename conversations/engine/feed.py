"""What is new in somebody's conversations, to each of their tabs and devices.

A hint, from here or over the channel layer, says where to look; and while somebody watches, all is looked at from
time to time, for what nobody told us of. What is new is found by comparing, so a look too many tells nothing twice.
Nothing is kept: whoever begins to watch, or was cut, is told to list again.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from django.db import Error

from .. import conf
from ..access.rules import Caller
from ..database import db, outages
from ..models import Conversation
from . import changes
from .changes import Change, Known, News
from .hints import FOLLOW_AGAIN, Hints, Subject, layer_between_processes

logger = logging.getLogger("conversations.feed")

# How often all is looked at (seconds): where other processes can tell us at once, and where they cannot.
LOOK_EVERY, LOOK_EVERY_ALONE = 5.0, 1.0
# Hints gather for so long.
REST = 0.02
# A watcher that takes no more than this is told to list again.
MOST_WAITING = 256


@dataclass(frozen=True, slots=True)
class Event:
    """What one watcher is told. Without a change: to list again; ``conversation`` is as it is now."""

    change: Change | None = None
    conversation: Conversation | None = None


RESYNC = Event()


class Watcher:
    """One tab or device. Iterate ``batches`` once."""

    def __init__(self) -> None:
        self._waiting: list[Event] = []
        self._news = asyncio.Event()
        self._has_ended = False

    def put(self, events: Sequence[Event]) -> None:
        """Add events; of more than there is room for, that something was lost."""
        self._waiting += events
        if len(self._waiting) > MOST_WAITING:
            self._waiting = [RESYNC]
        self._news.set()

    def end(self) -> None:
        """Nothing more will come."""
        self._has_ended = True
        self._news.set()

    async def batches(self) -> AsyncGenerator[list[Event], None]:
        """Yield events as they become known, and every ``PING_INTERVAL`` seconds nothing, until the process ends."""
        while not self._has_ended:
            if not self._waiting:
                self._news.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(conf.get().PING_INTERVAL):
                        await self._news.wait()
            events, self._waiting = self._waiting, []
            yield events


class Feed:
    """Those who watch in one event loop."""

    def __init__(self, hints: Hints) -> None:
        self._hints = hints
        # owner (None: everybody's conversations) -> who watches them
        self._watchers: dict[str | None, set[Watcher]] = {}
        self._known: dict[str | None, Known] = {}
        self._hinted: defaultdict[str | None, set[int]] = defaultdict(set)
        self._work = asyncio.Event()
        self._asked_at = float("-inf")
        self._looked_at = float("-inf")
        self._has_ended = False
        self._left = asyncio.Event()

    def close(self) -> None:
        """Let everybody's stream end: the process does. Whoever watches connects to another."""
        self._has_ended = True
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.end()

    async def gone(self) -> None:
        """Wait until nobody watches."""
        while self._watchers:
            self._left.clear()
            await self._left.wait()

    @contextmanager
    def watching(self, caller: Caller) -> Iterator[Watcher]:
        """Let somebody watch their conversations: what is new after the first event, which is to list them."""
        owner = None if caller.sees_all else caller.user_identifier
        watcher = Watcher()
        if self._has_ended:
            watcher.end()
        self._watchers.setdefault(owner, set()).add(watcher)
        if owner in self._known:
            watcher.put([RESYNC])
        self.ask_again()
        try:
            yield watcher
        finally:
            self._watchers[owner].discard(watcher)
            if not self._watchers[owner]:
                for kept in (self._watchers, self._known, self._hinted):
                    kept.pop(owner, None)
                self._left.set()

    @property
    def is_watched(self) -> bool:
        """Whether anybody watches here."""
        return bool(self._watchers)

    def ask_again(self) -> None:
        """Ask all processes to tell us, now."""
        self._asked_at = float("-inf")
        self._work.set()

    def look_at(self, subject: Subject) -> None:
        """Something is new in a conversation."""
        for owner in (subject.user_identifier, None):
            if owner in self._watchers:
                self._hinted[owner].add(subject.conversation_id)
                self._work.set()

    async def look_forever(self) -> None:
        """The feed's task: runs until it is cancelled."""
        while True:
            if not self._watchers:
                self._work.clear()
                await self._work.wait()
            self._ask()
            with suppress(TimeoutError):
                async with asyncio.timeout(_pause()):
                    await self._work.wait()
            self._work.clear()
            await self._look()
            await asyncio.sleep(REST)

    def _ask(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._asked_at > FOLLOW_AGAIN:
            self._asked_at = now
            self._hints.watch(self._watchers)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        at_all = loop.time() - self._looked_at >= _pause()
        if at_all:
            self._looked_at = loop.time()
        hinted, self._hinted = self._hinted, defaultdict(set)
        for owner in list(self._watchers):
            if owner in self._watchers:  # they may have left meanwhile
                await self._look_for(owner, hinted.get(owner, set()), at_all=at_all)

    async def _look_for(self, owner: str | None, hinted: set[int], *, at_all: bool) -> None:
        """Tell those who watch an owner what is new. After a look that failed all is looked at once more."""
        known = self._known.get(owner)
        try:
            if known is None:
                known = await db.read(changes.begin, owner)
                if owner in self._watchers:
                    self._known[owner] = known
                    self._tell(owner, [RESYNC])
            elif at_all or hinted:
                self._tell(owner, _events(await db.read(changes.look, known, hinted, at_all=at_all)))
        except Exception as error:
            if owner in self._watchers:
                self._hinted[owner] |= hinted
                self._known.pop(owner, None)
            if isinstance(error, Error):
                outages.database.report(error)
            else:
                logger.exception("cannot see what is new; trying again")

    def _tell(self, owner: str | None, events: Sequence[Event]) -> None:
        if events:
            for watcher in self._watchers.get(owner, ()):
                watcher.put(events)


def _pause() -> float:
    return LOOK_EVERY_ALONE if layer_between_processes() is None else LOOK_EVERY


def _events(news: News) -> list[Event]:
    if news.is_cut:
        return [RESYNC]
    shown: dict[uuid.UUID, Conversation] = news.shown
    return [
        Event(change, shown.get(change.session_id) if change.what == "conversation" else None)
        for change in news.changes
    ]
