"""Connections that threads keep from job to job: which of them are good for another."""

from __future__ import annotations

import threading
import time

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from . import outages
from .sessions import read_only

# How long nobody used a connection before it is asked whether it is still there (seconds): servers (`wait_timeout`,
# `idle_session_timeout`), poolers and networks end those that are idle.
IDLE_SECONDS = 20.0

_here = threading.local()
# The newest failure of any connection here, and the one that a thread last heard of.
_newest_failure: object = None


def is_connected(connection: BaseDatabaseWrapper) -> bool:
    """Whether this thread's connection is there: one that nobody used for a while, and that has ended, is closed."""
    now = time.monotonic()
    idle, _here.used_at = now - getattr(_here, "used_at", now), now
    if idle > IDLE_SECONDS and connection.connection is not None and not connection.is_usable():
        connection.close()
    return connection.connection is not None


def tell_of_failure(error: Exception, was_connected: bool) -> None:
    """A server that has no room for one more connection goes on with those that there are: they are kept."""
    if was_connected and outages.is_outage(error) and not outages.is_lock(error):
        tell_others()


def tell_others() -> None:
    """Let all threads begin a new connection."""
    global _newest_failure
    _newest_failure = object()


def close_outlived() -> None:
    """Where one connection failed, ours may be gone too, or may be one that can only read: begin a new one."""
    if getattr(_here, "failure", None) is not _newest_failure:
        _here.failure = _newest_failure
        for wrapper in connections.all(initialized_only=True):
            wrapper.close()


def close_broken() -> None:
    for wrapper in connections.all(initialized_only=True):
        if wrapper.errors_occurred or wrapper in read_only:
            wrapper.close()
