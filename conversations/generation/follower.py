"""Brings in the text of answers that other processes make.

One task a process asks for all the answers it follows in one query, and shares what it finds among readers.
"""

from __future__ import annotations

import asyncio
import logging
import uuid

from .. import conf, db
from ..exceptions import NotFound
from .storage import DELETED_ENDING, Progress, load
from .transcript import Transcript

logger = logging.getLogger("conversations.follower")


class Follower:
    """The answers of other processes that somebody here reads."""

    def __init__(self) -> None:
        self._followed: dict[uuid.UUID, Transcript] = {}
        self._work = asyncio.Event()

    async def transcript(self, generation_id: uuid.UUID) -> Transcript:
        """Return the transcript of an answer: whole if it ended, else one that goes on growing.

        Raises ``NotFound`` for an answer that is not there (any more).
        """
        if generation_id in self._followed:
            return self._followed[generation_id]
        progress = (await db.read(load, {generation_id: 0})).get(generation_id)
        if progress is None:
            raise NotFound()
        if progress.ending is None and generation_id in self._followed:
            return self._followed[generation_id]  # another reader was quicker
        transcript = Transcript(progress.ids, progress.pieces, on_abandoned=lambda: self._forget(generation_id))
        transcript.ending = progress.ending
        if progress.ending is None:
            self._followed[generation_id] = transcript
            self._work.set()
        return transcript

    def _forget(self, generation_id: uuid.UUID) -> None:
        self._followed.pop(generation_id, None)

    async def follow_forever(self) -> None:
        """The follower's task: runs until it is cancelled."""
        while True:
            if not self._followed:
                self._work.clear()
                await self._work.wait()
            await asyncio.sleep(conf.get().FOLLOW_INTERVAL)
            try:
                await self._look()
            except Exception:
                logger.exception("cannot read the answers of other processes; trying again")

    async def _look(self) -> None:
        positions = {key: transcript.position for key, transcript in self._followed.items()}
        if not positions:
            return
        found = await db.read(load, positions)
        for generation_id in positions:
            if transcript := self._followed.get(generation_id):
                self._apply(generation_id, transcript, found.get(generation_id))

    def _apply(self, generation_id: uuid.UUID, transcript: Transcript, progress: Progress | None) -> None:
        if progress:
            transcript.extend(progress.pieces)
        if progress is None or progress.ending:
            self._forget(generation_id)
            transcript.finish(progress.ending if progress and progress.ending else DELETED_ENDING)
