"""Settings of the server processes under test: the project's own, and what a test changes in them.

``OVERRIDES`` of the environment is a JSON object: ``conversations`` and ``providers`` hold keys of the two apps'
settings, ``pragmas`` SQL for each new SQLite connection, ``timeout`` what a job waits for a lock. While the file
that ``STOP_IN_TRANSACTION`` names exists, a process removes it and stops itself as SIGSTOP would, inside a
transaction that has written text. With ``OTHER_MACHINES`` each process takes itself for one on a machine of its own,
where only its counter shows that it lives.
"""

import json
import math
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.db.backends.signals import connection_created

from chatproject.settings import *  # noqa: F403
from chatproject.settings import CONVERSATIONS, DATABASES, LLMPROVIDERS

if "OTHER_MACHINES" in os.environ:
    _name = f"machine-{os.getpid()}"
    socket.gethostname = lambda: _name
_overrides = json.loads(os.environ.get("OVERRIDES", "{}"))
CONVERSATIONS = {**CONVERSATIONS, **_overrides.get("conversations", {})}
LLMPROVIDERS = {**LLMPROVIDERS, **_overrides.get("providers", {})}
_options = DATABASES["default"].setdefault("OPTIONS", {})
if "timeout" in _overrides:
    _seconds = _overrides["timeout"]
    _options |= {
        "sqlite3": {"timeout": _seconds},
        "postgresql": {"options": f"-c lock_timeout={_seconds * 1000:.0f}"},
        "mysql": {"init_command": f"SET innodb_lock_wait_timeout={math.ceil(_seconds)}"},
    }[DATABASES["default"]["ENGINE"].rpartition(".")[2]]
if _overrides.get("pragmas"):
    _options["init_command"] = f"{_options['init_command'].rstrip('; ')}; {_overrides['pragmas']}"


def _stop_after_chunks(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
    result = execute(sql, *rest)
    flag = Path(os.environ["STOP_IN_TRANSACTION"])
    if "conversations_generationchunk" in sql and sql.startswith("INSERT") and flag.exists():
        flag.unlink()
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(0.5)  # another thread may take the signal: this one must not commit meanwhile
    return result


def _watch(connection: Any, **_kwargs: Any) -> None:
    connection.execute_wrappers.append(_stop_after_chunks)


if "STOP_IN_TRANSACTION" in os.environ:
    connection_created.connect(_watch, dispatch_uid="tests.reliability.stop")
