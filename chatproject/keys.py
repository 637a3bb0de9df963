"""The secrets of the project: from the environment, or on one's own machine made once and kept in a file."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from . import environment as env


def secret_key(path: Path, *, may_create: bool) -> str:
    """``SECRET_KEY``, or on one's own machine a key that is made once and kept in ``path``."""
    value = env.text("SECRET_KEY")
    if not value and may_create:
        return _kept_secret(path, "SECRET_KEY", lambda: secrets.token_urlsafe(50))
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
    keys = env.words("FIELD_ENCRYPTION_KEYS")
    if not keys and may_create:
        keys = [_kept_secret(path, "FIELD_ENCRYPTION_KEYS", lambda: Fernet.generate_key().decode())]
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


def _kept_secret(path: Path, name: str, make: Callable[[], str]) -> str:
    """Read the secret in ``path``, making it first if need be: mode 600, and two processes agree on one."""
    try:
        if not path.exists():
            _keep(path, make())
        secret = path.read_bytes().decode("ascii", "replace").strip()
    except OSError as error:
        raise ImproperlyConfigured(
            f"{name} is not set, and cannot be made and kept in {path} ({error.strerror}); set it."
        ) from error
    if not (secret.isascii() and secret.isprintable() and secret):
        raise ImproperlyConfigured(f"{name} is not set, and {path} holds none; set it, or put that file's copy back.")
    return secret


def _keep(path: Path, secret: str) -> None:
    """Write it whole under another name and then link it, so that nobody ever reads half a key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secret)
            file.flush()
            os.fsync(descriptor)  # a machine that loses its power must not keep the name alone
        os.link(draft, path)
    except FileExistsError:
        pass  # another process was first: its key counts
    finally:
        draft.unlink()
