"""Ends what dead processes left running: by hand what every server process does by itself."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.utils.translation import gettext as _

from conversations import conf
from conversations.generation import liveness
from conversations.generation.liveness import Pulse
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
        ended = liveness.end_all() if options["all"] else self._watch()
        counts = {"ended": ended, "running": Generation.objects.running().count()}
        self.stdout.write(_("%(ended)d ended, %(running)d running") % counts)

    def _watch(self) -> int:
        settings = conf.get()
        pulse = Pulse()
        seconds = settings.BEAT_INTERVAL * settings.BEATS_TO_GIVE_UP
        self.stderr.write(_("Watching the workers for %(seconds)g s …") % {"seconds": seconds})
        try:
            ended = liveness.give_up_dead_neighbours(pulse.worker_id) + liveness.beat(pulse)
            for _beat in range(settings.BEATS_TO_GIVE_UP):
                time.sleep(settings.BEAT_INTERVAL)
                ended += liveness.beat(pulse)
        finally:
            liveness.sign_off(pulse.worker_id)
        return ended
