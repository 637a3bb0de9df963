"""The project's settings as the tests want them."""

import atexit
import os
import shutil
import tempfile

from chatproject.settings import *  # noqa: F403
from chatproject.settings import CONVERSATIONS, DATABASES, STORAGES, VAR_DIR

# Of this process alone: two runs at once must not share one.
_name = f"test-{os.getpid()}"
VAR_DIR.mkdir(exist_ok=True)
# A file, not Django's default shared memory: that has no WAL, and a read beside an open write fails at once.
_is_file = DATABASES["default"]["ENGINE"].endswith("sqlite3")
DATABASES["default"]["TEST"] = {"NAME": str(VAR_DIR / f"{_name}.sqlite3") if _is_file else _name}
if DATABASES["default"]["ENGINE"].endswith("mysql"):
    # As docs/database.md says.
    DATABASES["default"]["TEST"] |= {"CHARSET": "utf8mb4", "COLLATION": "utf8mb4_unicode_520_ci"}
_files = tempfile.mkdtemp(prefix="chatproject-test-")
atexit.register(shutil.rmtree, _files, ignore_errors=True)
STORAGES["attachments"]["OPTIONS"]["location"] = _files
# Tests do not wait for answers that they hold up themselves.
CONVERSATIONS = {**CONVERSATIONS, "THREADS_IN_TESTS": True, "DRAIN_LISTEN_SECONDS": 0.0, "DRAIN_SECONDS": 0.1}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
