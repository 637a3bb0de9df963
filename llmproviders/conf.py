"""The app's settings: one dict, ``LLMPROVIDERS``, read when asked for.

``conf.get().CONNECT_TIMEOUT`` is the project's value or the default below; ``override_settings`` works.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from django.conf import settings as django_settings
from django.core.signals import setting_changed

NAME = "LLMPROVIDERS"
BACKENDS = {
    "openai_compatible": "llmproviders.backends.openai_compatible.OpenAICompatible",
    "anthropic": "llmproviders.backends.anthropic.Anthropic",
    "embedded": "llmproviders.backends.embedded.Embedded",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Keys of ``LLMPROVIDERS`` and their defaults. Durations are seconds, sizes bytes, counts whole numbers."""

    # A model of the environment, offered as model type `default` where API_URL is set.
    API_URL: str = field(default="", repr=False)  # its query may hold a key
    MODEL: str = ""
    API_KEY: str = field(default="", repr=False)
    # Tokens, prompt and answer together, of `default` and of users' own models: presets have their own.
    CONTEXT_WINDOW: int = 8192
    # Fernet keys: the first encrypts, all decrypt.
    ENCRYPTION_KEYS: list[str] = field(default_factory=list, repr=False)
    # Backend name -> dotted path of a Provider class.
    BACKENDS: Mapping[str, str] = field(default_factory=lambda: BACKENDS)
    # Whether the operator's endpoints may have private addresses; users' own never may.
    ALLOW_PRIVATE_UPSTREAMS: bool = True
    # Hosts ("llm.internal", "10.0.0.5:8000") that may have private addresses and plain http, whoever set the URL.
    ALLOWED_UPSTREAM_HOSTS: list[str] = field(default_factory=list)
    # A proxy ("http://user:password@proxy:3128") for the operator's endpoints outside; never for users' own.
    UPSTREAM_PROXY: str = field(default="", repr=False)
    CONNECT_TIMEOUT: float = 10.0
    FIRST_TOKEN_TIMEOUT: float = 120.0
    BETWEEN_TOKENS_TIMEOUT: float = 60.0
    TOTAL_TIMEOUT: float = 1800.0
    # Before the first token only; a longer Retry-After is handed to the caller instead of waited for.
    MAX_RETRIES: int = 2
    MAX_RETRY_WAIT: float = 5.0
    MAX_CONNECTIONS: int = 2000
    MAX_LINE_BYTES: int = 1_048_576
    MAX_ANSWER_BYTES: int = 4_194_304
    # The embedded llama.cpp server, and the GGUF file of another model for it than the demo model.
    LOCAL_MODEL_FILE: str = ""
    LOCAL_CONTEXT_WINDOW: int = 8192
    LOCAL_PARALLEL: int = 2
    LOCAL_START_TIMEOUT: float = 30.0


@cache
def get() -> Settings:
    """Return the settings in force; unknown keys are left to the system checks."""
    given = getattr(django_settings, NAME, {})
    if not isinstance(given, Mapping):  # the system checks say so
        given = {}
    known = {item.name for item in fields(Settings)}
    return Settings(**{key: value for key, value in given.items() if key in known})


def _forget(*, setting: str, **_kwargs: Any) -> None:
    if setting == NAME:
        get.cache_clear()


setting_changed.connect(_forget)
