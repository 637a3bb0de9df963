"""The project's settings as the tests want them."""

import os

from chatproject.settings import *  # noqa: F403
from chatproject.settings import CONVERSATIONS, DATABASES, VAR_DIR

# A file, not Django's default shared memory: that has no WAL, and a read beside an open write fails at once.
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # Of this process alone: two runs at once must not share one.
    DATABASES["default"]["TEST"] = {"NAME": str(VAR_DIR / f"test-{os.getpid()}.sqlite3")}
# Tests do not wait for answers that they hold up themselves.
CONVERSATIONS = {**CONVERSATIONS, "DRAIN_SECONDS": 0.1}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
