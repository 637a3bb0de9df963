"""The app's settings: one dict, ``CONVERSATIONS``, read when asked for.

``conf.get().KEEP_LATEST`` is the project's value or the default below; ``override_settings`` works.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Literal

from django.conf import settings as django_settings
from django.core import mail
from django.core.signals import setting_changed

TEST_HOST = "testserver"
NAME = "CONVERSATIONS"
# How the URL begins of what counts requests over processes.
STORAGE_SCHEMES = ("redis://", "rediss://", "unix://")
# What RATE_LIMIT may be, where it is not empty.
RATE = re.compile(r"[1-9][0-9]{0,8}/(second|minute|hour|day)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Keys of ``CONVERSATIONS`` and their defaults. Durations are seconds, sizes bytes unless they say otherwise."""

    # Everybody must log in. A project of your own wants True; the chatproject default depends on ALLOWED_HOSTS.
    REQUIRE_LOGIN: bool = True
    # Pruning keeps this many conversations an owner.
    KEEP_LATEST: int = 500
    # The model that answers where neither request, conversation nor user chose; "" lets the catalog decide.
    DEFAULT_MODEL_TYPE: str = ""
    # "model" asks the model for a title after the first answer, "first_words" never does.
    TITLES: Literal["model", "first_words"] = "model"
    TITLE_TIMEOUT: float = 20.0
    # What happens to an answer when its last reader in the process has left.
    ON_DISCONNECT: Literal["continue", "cancel"] = "continue"
    # Whether readiness answers 503 while the channel layer (Redis) is away; else 200, and "degraded".
    READY_NEEDS_CHANNEL_LAYER: bool = False
    # Threads that read (and, where the database takes several writers, as many that write). 0 runs database
    # jobs in the caller's own sync thread.
    DB_THREADS: int = 4
    # Whether they are used under Django's test runner and pytest-django too. Else jobs run there as with 0, and so
    # inside the transaction of a test.
    THREADS_IN_TESTS: bool = False
    # How long one database job may take before its connection is cut: its server, or the way to it, says nothing.
    DB_JOB_TIMEOUT: float = 30.0
    # How long a statement waits for a lock, on PostgreSQL and MySQL.
    LOCK_TIMEOUT: float = 20.0
    # How long a process that was told to end goes on to take connections and chats, so that balancers look away.
    DRAIN_LISTEN_SECONDS: float = 3.0
    # How long running answers may go on after that.
    DRAIN_SECONDS: float = 20.0
    # Of a request's body, and of that of calls which carry images or a whole history (`web.bodies`).
    MAX_BODY_BYTES: int = 1_048_576
    MAX_LARGE_BODY_BYTES: int = 20_971_520
    # Bodies over MAX_BODY_BYTES that one process takes in at a time, so many of each caller: what they may need of
    # memory is that times MAX_LARGE_BODY_BYTES.
    LARGE_BODIES_AT_ONCE: int = 8
    LARGE_BODIES_PER_CALLER: int = 4
    # Where the files of attachments are kept: an alias in STORAGES. They are for their owners: a storage whose files
    # nobody gets by their URL.
    ATTACHMENT_STORAGE: str = "default"
    # What an owner's attachments may take, in bytes and in files; 0 for no limit.
    ATTACHMENT_BYTES_PER_OWNER: int = 209_715_200
    ATTACHMENTS_PER_OWNER: int = 2_000
    # How long one is kept that stands in no message.
    KEEP_UNUSED_ATTACHMENTS_SECONDS: float = 86_400.0
    # What an image may have, and the longer side to which a larger one is made smaller.
    MAX_IMAGE_PIXELS: int = 50_000_000
    IMAGE_SIDE: int = 2048
    # Addresses and networks of the reverse proxies whose X-Forwarded-For is believed; none: the peer is the client.
    TRUSTED_PROXIES: Sequence[str] = ()
    # Where everybody must log in: requests of one account or address, such as "300/minute" (or second, hour,
    # day); "" for no limit.
    RATE_LIMIT: str = "300/minute"
    # Where requests are counted: "" for each process by itself, or a Redis URL for all together.
    RATE_LIMIT_STORAGE: str = ""
    # Answers of one account that may be made at a time, and tokens that it may spend a day (UTC); 0 for no limit.
    # Count where everybody must log in; an `Allowance` says otherwise for an account or a group.
    MAX_ANSWERS_PER_CALLER: int = 8
    TOKENS_PER_DAY: int = 0
    # Answers that one process makes at a time, whoever asks; 0 for no limit.
    MAX_ANSWERS_PER_PROCESS: int = 2000
    # Lengths in characters.
    MAX_MESSAGE_LENGTH: int = 100_000
    MAX_SYSTEM_PROMPT_LENGTH: int = 20_000
    # An answer of at most this many tokens where nobody said how many.
    MAX_TOKENS: int = 2000
    TEMPERATURE: float = 0.7
    # A comment on an idle SSE stream, so that proxies keep it open.
    PING_INTERVAL: float = 15.0
    # How often a stream looks whether its reader's session or API key still holds.
    CREDENTIAL_INTERVAL: float = 15.0
    # How long a socket that showed nothing may wait with its `authenticate` frame.
    AUTHENTICATE_TIMEOUT: float = 10.0
    # Liveness: a worker raises its counter every BEAT_INTERVAL, and is given up by another that wrote
    # BEATS_TO_GIVE_UP of its own while this one's stood still.
    BEAT_INTERVAL: float = 2.0
    BEATS_TO_GIVE_UP: int = 3
    # How often readers of another process's answers look into the database.
    FOLLOW_INTERVAL: float = 0.15
    # What finds messages by their text: the dotted path of a `conversations.search.index.Index`.
    SEARCH: str = "conversations.search.index.DatabaseIndex"
    # How long a temporary conversation is kept after its last activity.
    KEEP_TEMPORARY_SECONDS: float = 86_400.0
    # How long the log goes on trying to store text while the database refuses.
    STORAGE_TIMEOUT: float = 30.0


@cache
def get() -> Settings:
    """Return the settings in force; unknown keys are left to the system checks."""
    given = getattr(django_settings, NAME, {})
    if not isinstance(given, Mapping):  # the system checks say so
        given = {}
    known = {item.name for item in fields(Settings)}
    return Settings(**{key: value for key, value in given.items() if key in known})


_under_test = False


def is_under_test() -> bool:
    """Return whether Django's test runner, or pytest-django, has set its environment up.

    A server that keeps its mails in memory has an ``outbox`` too, and libraries import ``django.test``; but only the
    test environment adds its client's host to ``ALLOWED_HOSTS``. Once seen that counts until the environment is torn
    down: a test may override the setting.
    """
    global _under_test
    exists = "django.test.utils" in sys.modules and hasattr(mail, "outbox")
    _under_test = exists and (_under_test or TEST_HOST in django_settings.ALLOWED_HOSTS)
    return _under_test


def _forget(*, setting: str, **_kwargs: Any) -> None:
    if setting == NAME:
        get.cache_clear()


setting_changed.connect(_forget)
