"""Typed values from the environment, with errors that name the variable.

django-environ parses URLs only: it reads a value which starts with ``$`` as the name of another variable, and
secrets may, and it leaves out the lines of `.env` that it does not understand.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import available_timezones

import environ
from django.core.exceptions import ImproperlyConfigured

from conversations.conf import RATE
from conversations.database.sqlite import PrivateConnection

from . import dotenv

TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off"})
ENGINES = {
    "sqlite": "django.db.backends.sqlite3",
    "postgresql": "django.db.backends.postgresql",
    "mysql": "django.db.backends.mysql",
}

# What each needs beside the base: one of these modules, and the file of requirements/ that brings it.
DRIVERS = {
    "django.db.backends.postgresql": (("psycopg", "psycopg2"), "postgres"),
    "django.db.backends.mysql": (("MySQLdb",), "mysql"),
    "channels_redis.core.RedisChannelLayer": (("channels_redis",), "redis"),
}

# The variables that were asked for so far.
known: set[str] = set()


def read_dotenv(path: Path) -> None:
    """Read `.env` if it is there; what the process environment already says wins."""
    try:
        dotenv.load(path, os.environ)
    except dotenv.DotenvError as error:
        raise ImproperlyConfigured(str(error)) from error


def misspelled(path: Path) -> Iterator[str]:
    """Say of each variable in this `.env` that nothing reads, and whose name is nearly one that is read, which."""
    for name in sorted(dotenv.read(path).keys() - known):
        for meant in get_close_matches(name.upper().replace("-", "_"), known, n=1, cutoff=0.85):
            yield f"{path.name}: nothing reads {name}; is {meant} meant?"


def text(name: str, default: str = "") -> str:
    """The value, stripped; an empty one counts as unset."""
    known.add(name)
    value = os.environ.get(name, "").strip()
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ImproperlyConfigured(f"{name} is not UTF-8.") from None
    return value or default


def boolean(name: str, default: bool) -> bool:
    value = text(name).lower()
    if not value:
        return default
    if value not in TRUE | FALSE:
        raise ImproperlyConfigured(f"{name}={value!r} is not a yes or no: use true or false.")
    return value in TRUE


def integer(name: str, default: int, *, low: int, high: int) -> int:
    value = text(name)
    if not value:
        return default
    if not re.fullmatch(r"-?[0-9]{1,18}", value) or not low <= int(value) <= high:
        raise ImproperlyConfigured(f"{name}={value!r} is not a whole number from {low} to {high}.")
    return int(value)


def seconds(name: str, default: float, *, may_be_zero: bool = False) -> float:
    """A duration above zero (or zero, where that means something), at most a day."""
    value = text(name)
    if not value:
        return default
    number = float(value) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?|\.[0-9]{1,9}", value) else -1.0
    if not 0 <= number <= 86_400 or (number == 0 and not may_be_zero):
        least = "from 0" if may_be_zero else "above 0"
        raise ImproperlyConfigured(f"{name}={value!r} is not a number of seconds {least} (at most 86400).")
    return number


def words(name: str) -> list[str]:
    """A comma-separated list."""
    return [word.strip() for word in text(name).split(",") if word.strip()]


def hosts(name: str) -> list[str]:
    """A list of hosts as they stand in a Host header, without port; ``*`` and ``.example.com`` too."""
    found = words(name)
    for host in found:
        if not re.fullmatch(r"\*|\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]+\]", host):
            raise ImproperlyConfigured(
                f"{name}: {host!r} is not a host; write a name or address alone, such as chat.example.com or [::1]."
            )
    return found


def hosts_and_ports(name: str) -> list[str]:
    """A list of hosts, each perhaps with a port: ``llm.internal``, ``10.0.0.5:8000``, ``[fd00::1]:8000``."""
    found = words(name)
    for host in found:
        if not re.fullmatch(r"([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", host):
            raise ImproperlyConfigured(
                f"{name}: {host!r} is not a host; write a name or address, such as llm.internal or 10.0.0.5:8000."
            )
    return found


def root_path(name: str) -> str:
    """A path such as ``/chat-api``, without a slash at its end; ``""`` for none."""
    value = text(name).rstrip("/")
    if value and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", value):
        raise ImproperlyConfigured(f"{name}={value!r} is not a path such as /chat-api.")
    return value


def choice(name: str, default: str, choices: Iterable[str]) -> str:
    value = text(name, default)
    if value not in (known := tuple(choices)):
        raise ImproperlyConfigured(f"{name}={value!r} is not one of {', '.join(known)}.")
    return value


def time_zone(name: str, default: str) -> str:
    """A name of the time zone database, such as ``Europe/Berlin``."""
    value = text(name, default)
    if value not in available_timezones():
        raise ImproperlyConfigured(f"{name}={value!r} is not a time zone such as UTC, Europe/Berlin or Asia/Shanghai.")
    return value


def model_type(name: str) -> str:
    """What may be the type of a preset, or ``""``."""
    value = text(name)
    if value and not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", value):
        raise ImproperlyConfigured(
            f"{name}={value!r} is not a model type: small letters, digits, dots, hyphens and underscores."
        )
    return value


def rate(name: str, default: str) -> str:
    """Requests in a time, such as ``300/minute``; ``none`` is no limit, and becomes ``""``."""
    value = text(name, default).lower()
    if value == "none":
        return ""
    if not RATE.fullmatch(value):
        raise ImproperlyConfigured(f"{name}={value!r} is not a rate such as 300/minute (second, hour, day), or none.")
    return value


def url(name: str, schemes: tuple[str, ...]) -> str:
    """A URL with one of ``schemes`` and a host, or ``""``. The error never quotes it: it may hold a password."""
    value = text(name)
    if not value:
        return ""
    try:
        parts = urlsplit(value)
        has_target = bool(parts.path if parts.scheme == "unix" else parts.hostname)
        valid = parts.scheme in schemes and has_target and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise ImproperlyConfigured(f"{name} is not a URL that begins with {' or '.join(f'{s}://' for s in schemes)}.")
    return value


def origins(name: str, *, may_have_wildcards: bool = False) -> list[str]:
    """A list of browser origins, such as ``https://chat.example.com``, in small letters, as browsers write them."""
    found = [origin.lower() for origin in words(name)]
    star = "*" if may_have_wildcards else ""
    for origin in found:
        if not re.fullmatch(rf"https?://([a-z0-9_.{star}-]+|\[[0-9a-f:.]+\])(:[0-9]{{1,5}})?", origin):
            raise ImproperlyConfigured(
                f"{name}: {origin!r} is not an origin; write a scheme and a host, such as https://chat.example.com."
            )
    return found


def networks(name: str) -> list[str]:
    """A list of addresses and networks, such as ``127.0.0.1`` and ``10.0.0.0/8``."""
    found = words(name)
    for network in found:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError as error:
            raise ImproperlyConfigured(
                f"{name}: {network!r} is not an address or a network; write for example 127.0.0.1 or 10.0.0.0/8."
            ) from error
    return found


def database(name: str, base_dir: Path, default: str) -> dict[str, Any]:
    """Django's database settings from a URL; the old service's spellings are taken too."""
    value = text(name, default)
    scheme, separator, rest = value.partition("://")
    family = {"postgres": "postgresql", "mysql2": "mysql"}.get(scheme.split("+")[0], scheme.split("+")[0])
    # Each would silently be a database in memory, one for each thread.
    malformed = family == "sqlite" and (not rest.startswith("/") or rest.partition("?")[0] in ("/", "/:memory:"))
    if not separator or family not in ENGINES or malformed:
        raise ImproperlyConfigured(
            f"{name} is not a database URL: use sqlite:///PATH, postgres://USER:PASSWORD@HOST/NAME "
            "or mysql://USER:PASSWORD@HOST/NAME."
        )
    try:
        config: dict[str, Any] = dict(environ.Env.db_url_config(f"{family}://{rest}"))
    except ValueError:
        # Not quoted, not chained: a password with a special character lands in the error's text.
        raise ImproperlyConfigured(
            f"{name} is not a database URL: write special characters of the password as %40 and the like."
        ) from None
    if not config.get("NAME"):
        raise ImproperlyConfigured(f"{name} names no database.")
    config["ENGINE"] = ENGINES[family]
    config["OPTIONS"] = {**DATABASE_OPTIONS[family], **config.get("OPTIONS", {})}
    config["CONN_MAX_AGE"] = 0
    if family == "sqlite":
        path = base_dir / config["NAME"]  # an absolute path stays as it is
        if path.parent == base_dir / "var":
            _make_folder(path.parent, name)
        if not path.parent.is_dir():
            raise ImproperlyConfigured(f"{name}: the folder {path.parent} does not exist; make it, or name another.")
        config["NAME"] = str(path)
    return config


def need_driver(name: str, backend: str) -> None:
    """Raise ImproperlyConfigured if ``backend``, which the variable ``name`` asks for, is not installed."""
    modules, requirements = DRIVERS.get(backend, ((), ""))
    if modules and not any(find_spec(module) for module in modules):
        raise ImproperlyConfigured(
            f"{name} needs a package that is not installed: "
            f"`python -m pip install --require-hashes -r requirements/{requirements}.txt`, or `make run`, installs it."
        )


def _make_folder(path: Path, name: str) -> None:
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(
            f"{name}: the folder {path} cannot be made ({error.strerror}); name a database elsewhere."
        ) from error


# Why each: docs/database.md. IMMEDIATE, so that a transaction which reads and then writes waits for its turn
# instead of failing at once; WAL, so that readers never wait for the writer.
DATABASE_OPTIONS: dict[str, dict[str, Any]] = {
    "sqlite": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "factory": PrivateConnection,
        "init_command": (
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON; "
            "PRAGMA cache_size=-16000; PRAGMA journal_size_limit=67108864"
        ),
    },
    "postgresql": {
        "connect_timeout": 10,
        "keepalives_idle": 20,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    },
    "mysql": {
        "charset": "utf8mb4",
        "isolation_level": "read committed",
        "connect_timeout": 10,
        "read_timeout": 30,
        "write_timeout": 30,
    },
}
