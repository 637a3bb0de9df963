"""Typed values from the environment, with errors that name the variable.

django-environ reads `.env` and parses URLs. Plain values are taken from its mapping rather than through
``env.str``: that reads a value which starts with ``$`` as the name of another variable, and secrets may.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from conversations.conf import RATE

TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off"})
ENGINES = {
    "sqlite": "django.db.backends.sqlite3",
    "postgresql": "django.db.backends.postgresql",
    "mysql": "django.db.backends.mysql",
}


def read_dotenv(path: Path) -> None:
    """Read `.env` if it is there; what the process environment already says wins."""
    if path.is_file():
        reader = logging.getLogger("environ.environ")
        reader.addFilter(_without_the_line)
        try:
            environ.Env.read_env(path)
        except OSError as error:
            raise ImproperlyConfigured(f"{path} cannot be read: {error}") from error
        except UnicodeDecodeError:
            # Not chained: the error holds the whole file.
            raise ImproperlyConfigured(f"{path} cannot be read: it is not UTF-8") from None
        finally:
            reader.removeFilter(_without_the_line)


def _without_the_line(record: logging.LogRecord) -> bool:
    """A line that could not be read is logged whole, and it may be a secret with a blank around its ``=``."""
    if record.levelno >= logging.WARNING:
        record.msg, record.args = "a line of .env is not NAME=value, and was left out", ()
    return True


def text(name: str, default: str = "") -> str:
    """The value, stripped; an empty one counts as unset."""
    return os.environ.get(name, "").strip() or default


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


def seconds(name: str, default: float) -> float:
    """A duration above zero, at most a day."""
    value = text(name)
    if not value:
        return default
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 < number <= 86_400:
        raise ImproperlyConfigured(f"{name}={value!r} is not a number of seconds above 0 (at most 86400).")
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


def choice(name: str, default: str, choices: Iterable[str]) -> str:
    value = text(name, default)
    if value not in (known := tuple(choices)):
        raise ImproperlyConfigured(f"{name}={value!r} is not one of {', '.join(known)}.")
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


def origins(name: str) -> list[str]:
    """A list of browser origins, such as ``https://chat.example.com``."""
    found = words(name)
    for origin in found:
        if not re.fullmatch(r"https?://([A-Za-z0-9_*.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", origin):
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
    # `sqlite://x.db` would silently be a database in memory.
    malformed = family == "sqlite" and not rest.startswith("/") and rest != ":memory:"
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
    if family == "sqlite" and config["NAME"] != ":memory:":
        path = base_dir / config["NAME"]  # an absolute path stays as it is
        if not path.parent.is_dir():
            raise ImproperlyConfigured(f"{name}: the folder {path.parent} does not exist; make it, or name another.")
        config["NAME"] = str(path)
    return config


# Why each: docs/database.md. IMMEDIATE, so that a transaction which reads and then writes waits for its turn
# instead of failing at once; WAL, so that readers never wait for the writer.
DATABASE_OPTIONS: dict[str, dict[str, Any]] = {
    "sqlite": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": (
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON; "
            "PRAGMA cache_size=-16000; PRAGMA journal_size_limit=67108864"
        ),
    },
    "postgresql": {"options": "-c lock_timeout=20s"},
    "mysql": {"charset": "utf8mb4", "isolation_level": "read committed"},
}


def secret_key(path: Path, *, may_create: bool) -> str:
    """``SECRET_KEY``, or on one's own machine a key that is made once and kept in ``path``."""
    value = text("SECRET_KEY")
    if not value and may_create:
        return _kept_secret(path, lambda: secrets.token_urlsafe(50))
    if len(value) < 50 or len(set(value)) < 5 or value.startswith("django-insecure-"):
        problem = "is too weak" if value else "is not set"
        raise ImproperlyConfigured(
            f"SECRET_KEY {problem}: it has at least 50 random characters, and only where ALLOWED_HOSTS names nothing "
            "but this machine may it be left out. Make one: "
            "python -c 'import secrets; print(secrets.token_urlsafe(50))'"
        )
    return value


def encryption_keys(path: Path, *, may_create: bool) -> list[str]:
    """``FIELD_ENCRYPTION_KEYS`` (the first encrypts, all decrypt), or one that is made once and kept."""
    keys = words("FIELD_ENCRYPTION_KEYS")
    if not keys and may_create:
        keys = [_kept_secret(path, lambda: Fernet.generate_key().decode())]
    if not keys:
        raise ImproperlyConfigured(
            "FIELD_ENCRYPTION_KEYS is not set, and ALLOWED_HOSTS names more than this machine. Make one: "
            "python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"
        )
    for number, key in enumerate(keys, start=1):
        try:
            Fernet(key)
        except ValueError as error:
            raise ImproperlyConfigured(
                f"FIELD_ENCRYPTION_KEYS: key {number} is not a Fernet key (32 url-safe base64-encoded bytes)."
            ) from error
    return keys


def _kept_secret(path: Path, make: Callable[[], str]) -> str:
    """Read the secret in ``path``, making it first if need be: mode 600, and two processes agree on one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Written whole under another name and then linked, so that nobody ever reads half a key.
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(make())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another process was first: its key counts
        finally:
            draft.unlink()
    return path.read_text().strip()
