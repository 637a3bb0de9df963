"""SQLite files that nobody else on the machine may read."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any


class PrivateConnection(sqlite3.Connection):
    """Makes the file, where there is none, with mode 600 whatever the umask says, and lets no others read one that is.

    For ``OPTIONS["factory"]`` of a database. SQLite gives what it makes beside the file (``-wal``, ``-shm``,
    ``-journal``) the file's own mode.
    """

    def __init__(self, database: Any, *args: Any, **kwargs: Any) -> None:
        name = os.fspath(database)
        if name and not name.startswith((":memory:", "file:")):
            make_private(Path(name))
        super().__init__(database, *args, **kwargs)


def make_private(path: Path) -> None:
    """Make an empty file with mode 600; one that is there is closed to all but its owner and group.

    Where that cannot be, the database says why.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        for suffix in ("", "-wal", "-shm", "-journal"):
            _close_to_others(path.with_name(path.name + suffix))
    except OSError:
        return
    else:
        with suppress(OSError):
            os.fchmod(descriptor, 0o600)  # the umask may have taken even that
        os.close(descriptor)


def _close_to_others(path: Path) -> None:
    with suppress(OSError):  # gone, or somebody else's
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) and mode & stat.S_IRWXO:
            path.chmod(stat.S_IMODE(mode) & ~stat.S_IRWXO)
