"""Which processes live, and what the dead left running.

Each process raises the counter of its own row. Another judges it dead when that counter stood still while it
wrote several of its own: no wall clock is compared, and a database that takes no writes makes nobody dead. On one
machine the process itself is looked at, and its counter is not asked. Everything here is a database job.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.db import Error as DatabaseError
from django.db import IntegrityError
from django.db.models import F

from .. import conf
from ..database import outages
from ..database.compiled import Select, given
from ..database.transactions import replayed
from ..limits import relays
from ..models import Generation, Worker
from . import local_processes
from .log_keys import LogKeys
from .storage import INTERRUPTED_ENDING, finish

logger = logging.getLogger("conversations.liveness")

_worker = Select(lambda: Worker.objects.filter(pk=given(Worker, "id")).values_list("pk", flat=True))


@dataclass(slots=True)
class Heartbeat:
    """One process's own counter and what it saw of the others'."""

    worker_id: uuid.UUID = field(default_factory=uuid.uuid4)
    log_keys: LogKeys = field(default_factory=LogKeys)
    beats: int = 0
    # worker -> (its counter, our beats when we first saw it at that)
    seen: dict[uuid.UUID, tuple[int, int]] = field(default_factory=dict)


def ensure_registered(heartbeat: Heartbeat) -> None:
    """See that the worker has a row. Not in a transaction that does more: the beat would wait for its end."""
    while _worker.first(id=heartbeat.worker_id) is None:
        number = heartbeat.log_keys.number
        try:
            _register(heartbeat.worker_id, number)
        except IntegrityError:
            # Another worker has this number, unless a thread of ours was quicker with the row.
            if Worker.objects.exclude(pk=heartbeat.worker_id).filter(log_number=number).exists():
                heartbeat.log_keys.draw_number()


@replayed
def _register(worker_id: uuid.UUID, log_number: int) -> None:
    pid = os.getpid()
    values = {
        "host": local_processes.HOST,
        "pid": pid,
        "process_start": local_processes.start_of(pid),
        "log_number": log_number,
    }
    Worker.objects.get_or_create(pk=worker_id, defaults=values)


def beat(heartbeat: Heartbeat) -> list[uuid.UUID]:
    """Raise our counter, then look at the others'; return the dead. It waits for nobody's lock.

    Gives ``heartbeat`` a new id when others have given us up meanwhile.
    """
    if not Worker.objects.filter(pk=heartbeat.worker_id).update(counter=F("counter") + 1):
        if heartbeat.beats:
            logger.warning("worker %s was given up by another process and starts over", heartbeat.worker_id)
            heartbeat.worker_id = uuid.uuid4()
        ensure_registered(heartbeat)
    heartbeat.beats += 1
    others = list(
        Worker.objects.exclude(pk=heartbeat.worker_id).values_list("pk", "counter", "host", "pid", "process_start")
    )
    dead = [row[0] for row in others if _is_dead(heartbeat, *row)]
    known = {row[0] for row in others}
    heartbeat.seen = {worker_id: entry for worker_id, entry in heartbeat.seen.items() if worker_id in known}
    return dead


def _is_dead(heartbeat: Heartbeat, worker_id: uuid.UUID, counter: int, host: str, pid: int, start: int) -> bool:
    stood_still = _stood_still(heartbeat, worker_id, counter)
    lives = local_processes.lives(host, pid, start)
    return stood_still if lives is None else not lives


def _stood_still(heartbeat: Heartbeat, worker_id: uuid.UUID, counter: int) -> bool:
    seen_counter, since = heartbeat.seen.get(worker_id, (None, 0))
    if seen_counter != counter:
        heartbeat.seen[worker_id] = (counter, heartbeat.beats)
        return False
    return heartbeat.beats - since >= conf.get().BEATS_TO_GIVE_UP


def seems_alive(worker: Worker, heartbeats: Iterable[Heartbeat]) -> bool | None:
    """Whether a process lives, as far as this one's engines know; None where they cannot tell."""
    known = list(heartbeats)
    if any(beat.worker_id == worker.pk and beat.beats for beat in known):
        return True
    lives = local_processes.lives(worker.host, worker.pid, worker.process_start)
    if lives is not None:
        return lives
    stood_still = [beat.beats - entry[1] for beat in known if (entry := beat.seen.get(worker.pk))]
    return min(stood_still) < conf.get().BEATS_TO_GIVE_UP if stood_still else None


def give_up(worker_id: uuid.UUID) -> int:
    """Remove a dead worker and end its answers as interrupted, with their text; return how many."""
    Worker.objects.filter(pk=worker_id).delete()
    ended = interrupt(running_of(worker_id)) + relays.give_up(relays.of_worker(worker_id))
    logger.warning("worker %s is dead: %d answers ended as interrupted", worker_id, ended)
    return ended


def end_orphans() -> int:
    """End the running answers whose worker has no row; return how many."""
    living = Worker.objects.values("pk")
    ended = interrupt(Generation.objects.running().exclude(worker__in=living).values_list("pk", flat=True))
    return ended + relays.give_up(relays.orphans())


def end_all() -> int:
    """End every running answer, whoever makes it; return how many."""
    return interrupt(Generation.objects.running().values_list("pk", flat=True))


def running_of(worker_id: uuid.UUID) -> set[uuid.UUID]:
    """Return the answers of a worker that run."""
    return set(Generation.objects.running().filter(worker=worker_id).values_list("pk", flat=True))


def interrupt(generation_ids: Iterable[uuid.UUID]) -> int:
    """End answers as interrupted; return how many. One that somebody holds locked costs others a single wait."""
    ended = 0
    for generation_id in list(generation_ids):
        try:
            ended += finish(generation_id, INTERRUPTED_ENDING)
        except DatabaseError as error:
            if not outages.is_lock(error):
                raise
            logger.warning("generation %s is locked and stays for the next time: %s", generation_id, error)
    return ended


def sign_off(worker_id: uuid.UUID) -> None:
    """Remove our own row, once our answers have ended."""
    Worker.objects.filter(pk=worker_id).delete()
