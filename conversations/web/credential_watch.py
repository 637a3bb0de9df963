"""Whether who reads a stream still may: a revoked key, a logout or a deactivated account ends it."""

from __future__ import annotations

import asyncio
import logging

from django.db import Error as DatabaseError

from .. import conf
from ..access.credentials import caller_of
from ..access.rules import OPEN, Caller
from ..database import db, outages

logger = logging.getLogger("conversations.access")


class CredentialWatch:
    """Judges a caller's credential again, every ``CREDENTIAL_INTERVAL`` seconds of a stream."""

    def __init__(self, caller: Caller) -> None:
        self._credential = caller.credential
        self._due = self._next()

    async def check(self) -> None:
        """Raise ``NotAuthenticated`` once the credential does not hold any more; mostly this looks at the clock only.

        A database that does not answer ends no stream: the next look will tell.
        """
        if self._credential == OPEN or asyncio.get_running_loop().time() < self._due:
            return
        self._due = self._next()
        try:
            await db.read(caller_of, self._credential)
        except DatabaseError as error:
            outages.database.report(error)

    @staticmethod
    def _next() -> float:
        return asyncio.get_running_loop().time() + conf.get().CREDENTIAL_INTERVAL
