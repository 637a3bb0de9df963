"""Brings in the text of answers that other processes make.

One task a process asks for all the answers it follows in one query, and shares what it finds among readers.
It asks every ``FOLLOW_INTERVAL``, and at once when the process that makes an answer says that there is more.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from contextlib import suppress
from weakref import WeakValueDictionary

from django.db import Error

from .. import conf
from ..database import db, outages
from ..exceptions import NotFound
from .hints import FOLLOW_AGAIN, Hints
from .progress import Progress, Seen, load
from .storage import DELETED_ENDING
from .transcript import Transcript

logger = logging.getLogger("conversations.follower")


class Followed(Transcript):
    """The text of an answer that another process makes, or that ended."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(progress.ids, progress.pieces)
        self.ending = progress.ending
        self.worker_id = progress.worker_id
        self._key = progress.key
        self.asked_at = float("-inf")

    @property
    def seen(self) -> Seen:
        """What is here."""
        return Seen(self.position, self._key)

    def take(self, progress: Progress) -> None:
        """Add what the database has more."""
        self._key = max(self._key, progress.key)
        self.extend(progress.pieces)
        self.mark_reasoning(progress.reasoning_chars)


class Follower:
    """The answers of other processes that somebody here reads."""

    def __init__(self, hints: Hints) -> None:
        self._hints = hints
        # However many read an answer, its text is in memory once; and not at all when nobody holds it. Whoever
        # found it may begin to read it, also when all others have left meanwhile.
        self._held: WeakValueDictionary[uuid.UUID, Followed] = WeakValueDictionary()
        self._loading: WeakValueDictionary[uuid.UUID, asyncio.Lock] = WeakValueDictionary()
        self._work = asyncio.Event()
        self._news = asyncio.Event()

    @property
    def transcripts(self) -> list[Followed]:
        """Those that may still grow."""
        return [transcript for transcript in list(self._held.values()) if transcript.ending is None]

    async def transcript(self, generation_id: uuid.UUID, at_least: int = 0) -> Transcript:
        """Return the transcript of an answer: whole if it ended, else one that goes on growing.

        It has ``at_least`` so many characters if the database has: its reader may have seen them elsewhere.
        Raises ``NotFound`` for an answer that is not there (any more).
        """
        async with self._loading.setdefault(generation_id, asyncio.Lock()):
            transcript = self._held.get(generation_id) or await self._load(generation_id)
            # Twice: an answer that ends between its status and its text shows neither, and its end the next time.
            for _look in range(2):
                if transcript.ending is None and transcript.position < at_least:
                    await self._look([transcript])
            return transcript

    async def _load(self, generation_id: uuid.UUID) -> Followed:
        progress = (await db.read(load, {generation_id: Seen()})).get(generation_id)
        if progress is None:
            raise NotFound()
        transcript = self._held[generation_id] = Followed(progress)
        self._work.set()
        return transcript

    def ask_again(self) -> None:
        """Ask those who make the answers again to say when there is more: we have another address."""
        for transcript in self.transcripts:
            transcript.asked_at = float("-inf")

    def news(self) -> None:
        """Look at once: somebody said that there is more."""
        self._news.set()

    async def follow_forever(self) -> None:
        """The follower's task: runs until it is cancelled."""
        while True:
            if not self.transcripts:
                self._work.clear()
                await self._work.wait()
            self._ask_owners()
            with suppress(TimeoutError):
                async with asyncio.timeout(conf.get().FOLLOW_INTERVAL):
                    await self._news.wait()
            self._news.clear()
            try:
                await self._look(self.transcripts)
            except Error as error:
                outages.database.report(error)
            except Exception:
                logger.exception("cannot read the answers of other processes; trying again")

    def _ask_owners(self) -> None:
        now = asyncio.get_running_loop().time()
        for transcript in self.transcripts:
            if now - transcript.asked_at > FOLLOW_AGAIN:
                transcript.asked_at = now
                self._hints.follow(transcript.ids.generation_id, transcript.worker_id)

    async def _look(self, transcripts: list[Followed]) -> None:
        if not transcripts:
            return
        found = await db.read(load, {each.ids.generation_id: each.seen for each in transcripts})
        for transcript in transcripts:
            progress = found.get(transcript.ids.generation_id)
            if progress:
                transcript.take(progress)
            if progress is None or progress.ending:
                transcript.finish(progress.ending if progress and progress.ending else DELETED_ENDING)
