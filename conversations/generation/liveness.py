"""Which processes live, and what the dead left running.

Each process raises the counter of its own row. Another judges it dead when that counter stood still while it
wrote several of its own: no wall clock is compared, and a database that takes no writes makes nobody dead.
Everything here is a database job.
"""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from django.db import transaction
from django.db.models import F

from .. import conf
from ..compiled import Select, given
from ..models import Generation, Worker
from .storage import INTERRUPTED_ENDING, finish

logger = logging.getLogger("conversations.liveness")


def _host() -> str:
    """Name the space in which a process id means something: containers of one host each have their own."""
    namespace = ""
    with suppress(OSError):  # not Linux
        namespace = os.readlink("/proc/self/ns/pid")
    return f"{socket.gethostname()} {namespace}".strip()[:255]


HOST = _host()
_worker = Select(lambda: Worker.objects.filter(pk=given(Worker, "id")).values_list("pk", flat=True))


@dataclass(slots=True)
class Pulse:
    """One process's own counter and what it saw of the others'."""

    worker_id: uuid.UUID = field(default_factory=uuid.uuid4)
    beats: int = 0
    # worker -> (its counter, our beats when we first saw it at that)
    seen: dict[uuid.UUID, tuple[int, int]] = field(default_factory=dict)


def ensure_registered(worker_id: uuid.UUID) -> None:
    """See that the worker has a row, in the caller's transaction."""
    if _worker.first(id=worker_id) is None:
        Worker.objects.get_or_create(pk=worker_id, defaults={"host": HOST, "pid": os.getpid()})


def beat(pulse: Pulse) -> int:
    """Raise our counter, look at the others', end what the dead left; return how many answers that were.

    Gives ``pulse`` a new id when others have given us up meanwhile.
    """
    with transaction.atomic():
        if not Worker.objects.filter(pk=pulse.worker_id).update(counter=F("counter") + 1):
            if pulse.beats:
                logger.warning("worker %s was given up by another process and starts over", pulse.worker_id)
                pulse.worker_id = uuid.uuid4()
            ensure_registered(pulse.worker_id)
    pulse.beats += 1
    others = dict(Worker.objects.exclude(pk=pulse.worker_id).values_list("pk", "counter"))
    dead = [worker_id for worker_id, counter in others.items() if _stood_still(pulse, worker_id, counter)]
    pulse.seen = {worker_id: entry for worker_id, entry in pulse.seen.items() if worker_id in others}
    return sum(give_up(worker_id) for worker_id in dead) + end_orphans()


def _stood_still(pulse: Pulse, worker_id: uuid.UUID, counter: int) -> bool:
    seen_counter, since = pulse.seen.get(worker_id, (None, 0))
    if seen_counter != counter:
        pulse.seen[worker_id] = (counter, pulse.beats)
        return False
    return pulse.beats - since >= conf.get().BEATS_TO_GIVE_UP


def give_up(worker_id: uuid.UUID) -> int:
    """Remove a dead worker and end its answers as interrupted, with their text; return how many."""
    Worker.objects.filter(pk=worker_id).delete()
    ended = _end(Generation.objects.running().filter(worker=worker_id).values_list("pk", flat=True))
    logger.warning("worker %s is dead: %d answers ended as interrupted", worker_id, ended)
    return ended


def end_orphans() -> int:
    """End the running answers whose worker has no row; return how many."""
    living = Worker.objects.values("pk")
    return _end(Generation.objects.running().exclude(worker__in=living).values_list("pk", flat=True))


def end_all() -> int:
    """End every running answer, whoever makes it; return how many."""
    return _end(Generation.objects.running().values_list("pk", flat=True))


def _end(generation_ids: Iterable[uuid.UUID]) -> int:
    return sum(finish(generation_id, INTERRUPTED_ENDING) for generation_id in list(generation_ids))


def give_up_dead_neighbours(worker_id: uuid.UUID) -> int:
    """At start: give up the workers of this host whose process is gone, without waiting; return the answers."""
    neighbours = Worker.objects.filter(host=HOST).exclude(pk=worker_id).values_list("pk", "pid")
    return sum(give_up(pk) for pk, pid in neighbours if not _is_alive(pid))


def _is_alive(pid: int) -> bool:
    if pid == os.getpid():
        return True  # another event loop of this process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def sign_off(worker_id: uuid.UUID) -> None:
    """Remove our own row, once our answers have ended."""
    Worker.objects.filter(pk=worker_id).delete()
