"""How the reliability tests get in: on an open server, or with login, an API key, limits and a budget.

``ACCESS=login`` of the environment (`make test-reliability ACCESS=login`) chooses the second: the promises have to
hold there as well.
"""

from __future__ import annotations

import os
from typing import Any

LOGIN = os.environ.get("ACCESS") == "login"
USER = "reliable"
TOKEN = "chatkey_reliability-tests-0123456789abcdefghijklmnop"
OTHERS_TOKEN = TOKEN.replace("reliability", "some-other")
# Where the scripted upstream is, which a user's own URL may name.
UPSTREAM_HOST = "127.0.0.1"
# What every client of a server under test sends.
HEADERS = {"Authorization": f"Bearer {TOKEN}"} if LOGIN else {}
OTHERS_HEADERS = {"Authorization": f"Bearer {OTHERS_TOKEN}"} if LOGIN else {}
# Limits that count everything and refuse nothing: what they cost is on, and settled at every end.
CONVERSATIONS: dict[str, Any] = (
    {"REQUIRE_LOGIN": True, "RATE_LIMIT": "100000000/minute", "MAX_ANSWERS_PER_CALLER": 100_000}
    | {"TOKENS_PER_DAY": 10**12}
    if LOGIN
    else {}
)
ENVIRONMENT: dict[str, str] = (
    {"REQUIRE_LOGIN": "true", "ALLOWED_UPSTREAM_HOSTS": UPSTREAM_HOST}
    | {name: str(value) for name, value in CONVERSATIONS.items() if name != "REQUIRE_LOGIN"}
    if LOGIN
    else {}
)
MAKE_KEYS = "from tests.entry import make_keys; make_keys()"


def make_keys() -> None:
    """Make two accounts and a key of each in the database of this process."""
    from django.contrib.auth.models import User

    from conversations.access import api_keys
    from conversations.models import ApiKey, Scope

    for name, token in ((USER, TOKEN), ("another", OTHERS_TOKEN)):
        user = User.objects.create_user(name)
        key, _token = api_keys.make(user=user, name="tests", scopes=set(Scope))
        ApiKey.objects.filter(pk=key.pk).update(hash=api_keys.hash_of(token))
