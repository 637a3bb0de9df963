"""Functions that are one transaction each, and are tried again where the database asks for that.

MariaDB answers ordinary concurrency with a deadlock (1213), PostgreSQL with a deadlock or a serialisation failure: the
whole transaction is undone, and would work when it is tried again.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import OperationalError, connection, transaction

from . import outages

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("conversations.database")

TRIES = 10
# Two that undid each other should not begin again at once: they wait up to so long, times their tries (seconds).
PAUSE = 0.01

_here = threading.local()


def replayed(function: Callable[P, R]) -> Callable[P, R]:
    """Make of ``function`` one transaction that may run again: it must change nothing but the database.

    Within a transaction it is a part of that, which is undone alone: only the whole can be tried again. Within another
    such function it is a part of that one, and undone with it.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if getattr(_here, "is_within", False):
            return function(*args, **kwargs)
        tries = 1 if connection.in_atomic_block else TRIES
        for number in range(1, tries):
            try:
                return _once(function, *args, **kwargs)
            except OperationalError as error:
                if not outages.asks_to_repeat(error):
                    raise
                logger.info("%s is tried again: %s", function.__qualname__, error)
            time.sleep(random.uniform(0, number * PAUSE))  # noqa: S311
        return _once(function, *args, **kwargs)

    return run


def _once(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    with transaction.atomic():
        _here.is_within = True
        try:
            return function(*args, **kwargs)
        finally:  # before what is done after the commit
            _here.is_within = False
