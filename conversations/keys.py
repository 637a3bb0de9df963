"""Keys of users' own models."""

from __future__ import annotations

from django.utils.translation import gettext as _

from . import completions


def validate_users_key(key: str) -> str:
    """Return ``key`` if it can be sent; raise ``completions.InvalidEndpoint`` otherwise.

    ``env:NAME`` is refused: it would send a variable of the server's environment to a user's URL.
    """
    if key.startswith("env:"):
        raise completions.InvalidEndpoint("api_key", _("Keys of the form env:NAME are for administrators."))
    return completions.validate_key(key)
