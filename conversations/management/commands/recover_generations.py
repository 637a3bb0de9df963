"""Ends what dead processes left running: by hand what every server process does by itself."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.utils.translation import gettext as _

from conversations import conf
from conversations.engine import workers
from conversations.engine.workers import Heartbeat
from conversations.models import Generation


class Command(BaseCommand):
    """Watches the workers for a few beats, then ends the answers of the dead as interrupted, with their text."""

    help = "End answers whose process is gone, as interrupted, with the text that they have."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--all",
            action="store_true",
            help="End every running answer at once, without looking who makes it: only when no server runs.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Only say how many answers are running.")

    def handle(self, *args: Any, **options: Any) -> None:
        running = Generation.objects.running().count()
        if options["dry_run"] or not running:
            self.stdout.write(_("%(running)d running") % {"running": running})
            return
        ended = workers.end_all() if options["all"] else self._watch()
        counts = {"ended": ended, "running": Generation.objects.running().count()}
        self.stdout.write(_("%(ended)d ended, %(running)d running") % counts)

    def _watch(self) -> int:
        settings = conf.get()
        heartbeat = Heartbeat()
        seconds = settings.BEAT_INTERVAL * settings.BEATS_TO_GIVE_UP
        self.stderr.write(_("Watching the workers for %(seconds)g s …") % {"seconds": seconds})
        try:
            ended = _beat(heartbeat)
            for _round in range(settings.BEATS_TO_GIVE_UP):
                time.sleep(settings.BEAT_INTERVAL)
                ended += _beat(heartbeat)
        finally:
            workers.sign_off(heartbeat.worker_id)
        return ended


def _beat(heartbeat: Heartbeat) -> int:
    """Do what a server does with each of its beats; return how many answers were ended."""
    return sum(workers.give_up(worker_id) for worker_id in workers.beat(heartbeat)) + workers.end_orphans()
