"""How often somebody may call. One function, ``check_rate``, for every door; it runs on a database thread.

One subject a request: the account, whatever key or session it shows, else (who showed nothing that holds) the
address. A key that had a count of its own would be a way past the limit: keys make keys. The library
`limits` counts, in a sliding window: in Redis for all processes, where ``RATE_LIMIT_STORAGE`` names one, else in
this process. While Redis does not answer, this process counts by itself: the limit is then one per process, and
nobody is refused for a fault of ours.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from functools import cache
from threading import Lock, Timer
from typing import Any

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from .. import conf
from ..access.credentials import Connection, client_block
from ..access.rules import Caller
from ..exceptions import RateLimited
from .allowances import limits_of

logger = logging.getLogger("conversations.limits")

# A Redis that does not answer within this counts as down, and is left alone for a while.
REDIS_TIMEOUT = 0.5
REDIS_PAUSE = 10.0
WARN_INTERVAL = 60.0
# How often counts that have run out are dropped from memory, and how many are kept at most.
SWEEP_INTERVAL = 10.0
MAX_COUNTS = 200_000


@dataclass(frozen=True, slots=True)
class Window:
    """A subject's count: ``reset`` is in seconds, until there is room for (another) request."""

    limit: int
    remaining: int
    reset: int

    @property
    def headers(self) -> dict[str, str]:
        """The headers that tell a client."""
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset),
        }


def check_rate(connection: Connection, caller: Caller | None = None) -> Window | None:
    """Count a request: of ``caller``, or of the address where nobody is known; None where there is no limit.

    Raises ``RateLimited``. An open server has no limits.
    """
    if counted := _subject_and_rate(connection, caller):
        window, allowed = counter().hit(*counted)
        if not allowed:
            raise RateLimited(retry_after=max(1, window.reset), headers=window.headers)
        return window
    return None


def window_of(connection: Connection, caller: Caller) -> Window | None:
    """Return the caller's count as it is, without counting."""
    counted = _subject_and_rate(connection, caller)
    return counter().look(*counted) if counted else None


def _subject_and_rate(connection: Connection, caller: Caller | None) -> tuple[str, RateLimitItem] | None:
    settings = conf.get()
    if not settings.REQUIRE_LOGIN:
        return None
    user = caller.user if caller else None
    rate = limits_of(user).rate if user else settings.RATE_LIMIT
    if not rate:
        return None
    subject = caller.subject if caller else ""
    return subject or f"address:{client_block(connection)}", _item(rate)


_item = cache(parse)


class _NoTimer(Timer):
    """Counts as running, so that the library starts no other; it never does anything."""

    def is_alive(self) -> bool:
        return True


class Memory(MemoryStorage):
    """The library's memory, without its thread: that begins anew up to 100 times a second and looks at every count
    (measured with 50,000 subjects: it kept a core busy). Not safe among threads: ``Counter`` holds a lock.
    """

    def __init__(self) -> None:
        super().__init__()
        self.timer.cancel()
        self.timer = _NoTimer(0, lambda: None)
        self._swept = time.monotonic()

    def sweep(self) -> None:
        """Drop what has run out; of too many, all: better a count anew than no memory left."""
        now = time.monotonic()
        if now - self._swept < SWEEP_INTERVAL and len(self.storage) < MAX_COUNTS:
            return
        self._swept, clock = now, time.time()
        for key in [key for key, expiry in self.expirations.items() if expiry <= clock]:
            self.clear(key)
        if len(self.storage) >= MAX_COUNTS:
            logger.warning("more than %d callers at a time: all are counted anew", MAX_COUNTS)
            self.reset()


class Counter:
    """Counts hits in Redis where there is one, else in memory. Safe among threads."""

    def __init__(self, storage: str) -> None:
        self._memory = Memory()
        self._in_memory = SlidingWindowCounterRateLimiter(self._memory)
        self._lock = Lock()
        self._in_redis = SlidingWindowCounterRateLimiter(_redis(storage)) if storage else None
        self._redis_errors = self._in_redis.storage.base_exceptions if self._in_redis else ()
        self._redis_rests_until = 0.0
        self._warned = -WARN_INTERVAL

    def hit(self, subject: str, item: RateLimitItem) -> tuple[Window, bool]:
        """Count; return the count, and whether this one was within the limit."""
        return self._do(True, subject, item)

    def look(self, subject: str, item: RateLimitItem) -> Window:
        return self._do(False, subject, item)[0]

    def _do(self, counts: bool, subject: str, item: RateLimitItem) -> tuple[Window, bool]:
        if self._in_redis and time.monotonic() >= self._redis_rests_until:
            try:
                return _ask(self._in_redis, counts, subject, item)
            except self._redis_errors as error:
                self._rest(error)
        with self._lock:
            self._memory.sweep()
            return _ask(self._in_memory, counts, subject, item)

    def _rest(self, error: Exception) -> None:
        now = time.monotonic()
        self._redis_rests_until = now + REDIS_PAUSE
        if now - self._warned >= WARN_INTERVAL:
            self._warned = now
            logger.warning("Redis does not answer (%s): requests are counted by process", type(error).__name__)


def _ask(
    limiter: SlidingWindowCounterRateLimiter, counts: bool, subject: str, item: RateLimitItem
) -> tuple[Window, bool]:
    allowed = limiter.hit(item, subject) if counts else True
    stats = limiter.get_window_stats(item, subject)
    reset = min(item.get_expiry(), max(0, math.ceil(stats.reset_time - time.time())))
    if not reset and stats.remaining == item.amount - 1:
        # The window began in this very millisecond: the library takes its length for none.
        reset = item.get_expiry()
    return Window(item.amount, stats.remaining, reset), allowed


def _redis(url: str) -> RedisStorage:
    """Return the storage; nothing connects yet. One try, and a short one: a database thread waits for it."""
    import redis  # not installed where it is not used
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    options: dict[str, Any] = {
        "socket_timeout": REDIS_TIMEOUT,
        "socket_connect_timeout": REDIS_TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
    }
    pool = redis.ConnectionPool.from_url(url, **options)
    return RedisStorage(url, connection_pool=pool, key_prefix="conversations:rate")


_counters: dict[str, Counter] = {}
_counters_lock = Lock()


def counter() -> Counter:
    """Return the counter of the storage that the settings name."""
    storage = conf.get().RATE_LIMIT_STORAGE
    with _counters_lock:
        return _counters.get(storage) or _counters.setdefault(storage, Counter(storage))


def forget() -> None:
    """Forget all counts of this process: for tests."""
    with _counters_lock:
        _counters.clear()
