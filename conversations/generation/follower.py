"""Brings in the text of answers that other processes make.

One task a process asks for all the answers it follows in one query, and shares what it finds among readers.
It asks every ``FOLLOW_INTERVAL``, and at once when the process that makes an answer says that there is more.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from contextlib import suppress
from dataclasses import dataclass
from weakref import WeakValueDictionary

from .. import conf, db
from ..exceptions import NotFound
from .post import FOLLOW_AGAIN, Post
from .storage import DELETED_ENDING, Progress, load
from .transcript import Transcript

logger = logging.getLogger("conversations.follower")


@dataclass(slots=True)
class Followed:
    """An answer of another process."""

    transcript: Transcript
    worker_id: uuid.UUID | None
    asked_at: float = float("-inf")


class Follower:
    """The answers of other processes that somebody here reads."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._followed: dict[uuid.UUID, Followed] = {}
        # However many read an ended answer, its text is in memory once; and not at all when nobody does.
        self._ended: WeakValueDictionary[uuid.UUID, Transcript] = WeakValueDictionary()
        self._loading: WeakValueDictionary[uuid.UUID, asyncio.Lock] = WeakValueDictionary()
        self._work = asyncio.Event()
        self._news = asyncio.Event()

    @property
    def transcripts(self) -> list[Transcript]:
        return [followed.transcript for followed in self._followed.values()]

    async def transcript(self, generation_id: uuid.UUID) -> Transcript:
        """Return the transcript of an answer: whole if it ended, else one that goes on growing.

        Raises ``NotFound`` for an answer that is not there (any more).
        """
        async with self._loading.setdefault(generation_id, asyncio.Lock()):
            return self._known(generation_id) or await self._load(generation_id)

    async def _load(self, generation_id: uuid.UUID) -> Transcript:
        progress = (await db.read(load, {generation_id: 0})).get(generation_id)
        if progress is None:
            raise NotFound()
        transcript = Transcript(progress.ids, progress.pieces, on_abandoned=lambda: self._forget(generation_id))
        transcript.ending = progress.ending
        if progress.ending:
            self._ended[generation_id] = transcript
        else:
            self._followed[generation_id] = Followed(transcript, progress.worker_id)
            self._work.set()
        return transcript

    def _known(self, generation_id: uuid.UUID) -> Transcript | None:
        if followed := self._followed.get(generation_id):
            return followed.transcript
        return self._ended.get(generation_id)

    def news(self) -> None:
        """Look at once: somebody said that there is more."""
        self._news.set()

    def _forget(self, generation_id: uuid.UUID) -> None:
        self._followed.pop(generation_id, None)

    async def follow_forever(self) -> None:
        """The follower's task: runs until it is cancelled."""
        while True:
            if not self._followed:
                self._work.clear()
                await self._work.wait()
            self._ask_owners()
            with suppress(TimeoutError):
                async with asyncio.timeout(conf.get().FOLLOW_INTERVAL):
                    await self._news.wait()
            self._news.clear()
            try:
                await self._look()
            except Exception:
                logger.exception("cannot read the answers of other processes; trying again")

    def _ask_owners(self) -> None:
        now = asyncio.get_running_loop().time()
        for generation_id, followed in self._followed.items():
            if now - followed.asked_at > FOLLOW_AGAIN:
                followed.asked_at = now
                self._post.follow(generation_id, followed.worker_id)

    async def _look(self) -> None:
        positions = {key: followed.transcript.position for key, followed in self._followed.items()}
        if not positions:
            return
        found = await db.read(load, positions)
        for generation_id in positions:
            if followed := self._followed.get(generation_id):
                self._apply(generation_id, followed.transcript, found.get(generation_id))

    def _apply(self, generation_id: uuid.UUID, transcript: Transcript, progress: Progress | None) -> None:
        if progress:
            transcript.extend(progress.pieces)
        if progress is None or progress.ending:
            self._forget(generation_id)
            transcript.finish(progress.ending if progress and progress.ending else DELETED_ENDING)
