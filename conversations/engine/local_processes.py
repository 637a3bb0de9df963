"""Which process of this machine lives: by its id and the moment it began, as an id alone is given again.

Only where both are sure to mean the same to all who ask: on one boot of one machine, in one space of process ids.
Elsewhere nothing is said, and whoever asks has to go by the counter.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

from ..models import HOST_LENGTH

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Of the fields of /proc/PID/stat after the name: the state, and the start in ticks since the boot.
STATE, START = 0, 19
ENDED = frozenset("ZXx")


def _host() -> str:
    """Name the machine, its boot and the space in which a process id means something: containers have each their own.

    Outside of containers that space has the same number on every Linux, hence the boot.
    """
    parts = [socket.gethostname()]
    with suppress(OSError):  # not Linux
        parts.append(os.readlink("/proc/self/ns/pid"))
        if os.readlink("/proc/self") == str(os.getpid()):  # else /proc shows another space than ours
            parts.append(BOOT_ID.read_text().strip())
    return " ".join(parts)[:HOST_LENGTH] if len(parts) == 3 else ""


# Where a process id means something, empty where that is not known; and what a worker's row names.
SPACE = _host()
HOST = SPACE or socket.gethostname()[:HOST_LENGTH]


def start_of(pid: int) -> int:
    """Return when a process began, in ticks since the boot; 0 where that is not known."""
    fields = _fields(pid)
    return int(fields[START]) if fields else 0


def lives(host: str, pid: int, start: int) -> bool | None:
    """Return whether a process lives; None where that cannot be told from here."""
    if not SPACE or host != SPACE:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return None
    fields = _fields(pid)
    if fields is None or not start:
        return None
    if fields[STATE] in ENDED or int(fields[START]) != start:
        return False
    return None if pid == os.getpid() else True  # another event loop of this process may have ended


def _fields(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # hidden from us, or just gone
        return None
