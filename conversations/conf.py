"""The app's settings: one dict, ``CONVERSATIONS``, read when asked for.

``conf.get().KEEP_LATEST`` is the project's value or the default below; ``override_settings`` works.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Literal

from django.conf import settings as django_settings
from django.core.signals import setting_changed

NAME = "CONVERSATIONS"
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
    # Threads that read (and, where the database takes several writers, as many that write). 0 runs database
    # jobs in the caller's own sync thread: for tests inside one transaction.
    DB_THREADS: int = 4
    # How long running answers may go on after SIGTERM.
    DRAIN_SECONDS: float = 20.0
    MAX_BODY_BYTES: int = 1_048_576
    # Addresses and networks of the reverse proxies whose X-Forwarded-For is believed; none: the peer is the client.
    TRUSTED_PROXIES: Sequence[str] = ()
    # Where everybody must log in: requests of one key, account or address, such as "300/minute" (or second, hour,
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
    # How long the log goes on trying to store text while the database refuses.
    STORAGE_TIMEOUT: float = 30.0


@cache
def get() -> Settings:
    """Return the settings in force; unknown keys are left to the system checks."""
    given: dict[str, Any] = getattr(django_settings, NAME, {})
    known = {item.name for item in fields(Settings)}
    return Settings(**{key: value for key, value in given.items() if key in known})


def _forget(*, setting: str, **_kwargs: Any) -> None:
    if setting == NAME:
        get.cache_clear()


setting_changed.connect(_forget)
