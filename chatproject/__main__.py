"""`python -m chatproject`: serve, after looking whether that can work.

Exit codes: 1 the arguments, the environment or the settings are wrong, 2 the address cannot be listened on, 3 the
database is missing, out of reach or not migrated. Each with one line on standard error that says what to do.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext as _

from conversations.web.lifespan import HANG_UP

from . import early_signals
from .environment import misspelled
from .greeting import greet
from .workers import work

BAD_SETTINGS, NO_ADDRESS, NO_DATABASE = 1, 2, 3
MIGRATE = "`make migrate` (`python manage.py migrate`)"


class Parser(argparse.ArgumentParser):
    """Ends the process as everything here does."""

    def error(self, message: str) -> NoReturn:
        fail(BAD_SETTINGS, f"{message}; `python -m chatproject --help` tells more.")


def parser() -> Parser:
    """Return what reads the command line."""
    parser = Parser(
        prog="python -m chatproject",
        allow_abbrev=False,
        description="Serve. Settings come from the environment and .env; README.md tells of them all.",
        epilog="Exit codes: 1 arguments, environment or settings are wrong, 2 the address cannot be listened on, "
        "3 the database cannot be used.",
    )
    parser.add_argument("--host", type=some_text, help="the address to listen on (HOST; 127.0.0.1)")
    parser.add_argument("--port", type=some_text, help="the port to listen on (PORT; 8000)")
    parser.add_argument("--workers", type=some_text, help="how many processes serve (WORKERS; 1)")
    parser.add_argument("--serve-on", type=descriptors, help=argparse.SUPPRESS)  # what workers.py starts
    parser.add_argument("--migrate", action="store_true", help="bring the database up to date first")
    return parser


def some_text(value: str) -> str:
    """Return the value of an argument. What it may be is the settings' business."""
    if not value.strip():
        raise argparse.ArgumentTypeError("is empty")
    return value


def descriptors(value: str) -> list[int]:
    """Return the numbers of sockets that were inherited."""
    return [int(number) for number in value.split(",")]


def main() -> None:
    """Serve until SIGTERM, SIGHUP or Ctrl-C."""
    # Until the server handles signals, and once it is done with the one that ended it.
    early_signals.end_at((signal.SIGTERM, signal.SIGINT, *HANG_UP))
    arguments = parser().parse_args()
    given = {"HOST": arguments.host, "PORT": arguments.port, "WORKERS": arguments.workers}
    os.environ.update({name: value for name, value in given.items() if value})
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatproject.settings")
    environment = dict(os.environ)  # before `.env` is read into it
    if arguments.serve_on:
        serve_on(arguments.serve_on)
    try:
        host, port = str(settings.HOST), int(settings.PORT)
        listeners = listen(host, port)
        django.setup()
    except (ImproperlyConfigured, OSError) as error:
        fail(BAD_SETTINGS, str(error))
    if settings.WORKERS > 1:
        early_signals.pass_over(HANG_UP)  # with several workers it replaces them; until there are any it means nothing
    check_settings()
    if arguments.migrate:
        migrate()
    check_database()
    check_default_model()
    greet(host, port)
    if settings.WORKERS > 1:
        sys.exit(work(listeners, settings.WORKERS, environment))
    from .server import serve  # it imports what needs the settings

    serve(listeners)


def serve_on(descriptors: list[int]) -> NoReturn:
    """Serve on sockets that another process made and looked after: as one of several workers."""
    manager, *listeners = (socket.socket(fileno=descriptor) for descriptor in descriptors)
    try:
        django.setup()
    except (ImproperlyConfigured, OSError) as error:
        fail(BAD_SETTINGS, str(error))
    from .server import serve

    serve(listeners, manager)
    sys.exit(0)


def fail(code: int, reason: str) -> NoReturn:
    """Print one line and end the process."""
    print("chatproject:", " ".join(reason.split()), file=sys.stderr)
    sys.exit(code)


def listen(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of ``host``. The server takes these sockets over, so nobody can come between."""
    listeners: list[socket.socket] = []
    try:
        for family, _type, _protocol, _name, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            try:
                listeners.append(socket.create_server((str(address[0]), port), family=family, backlog=2048))
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                unavailable = error
        if not listeners:
            raise unavailable
    except (OSError, UnicodeError) as error:  # the latter: no name can be so
        fail(NO_ADDRESS, address_problem(host, port, error))
    return listeners


def address_problem(host: str, port: int, error: OSError | UnicodeError) -> str:
    """Say why nothing can listen at ``host:port``, and what to do."""
    if not isinstance(error, OSError):
        return f"cannot listen on {host}:{port} ({error}); HOST and PORT say where."
    if error.errno == errno.EADDRINUSE:
        other = port + 1 if port < 65_535 else port - 1
        return f"{host}:{port} is taken by another program; choose another port: `make run PORT={other}`."
    return f"cannot listen on {host}:{port} ({error.strerror or error}); HOST and PORT say where."


def check() -> None:
    """Look whether serving can work, for other servers' start: end the process as `python -m chatproject` does."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatproject.settings")
    try:
        django.setup()
    except (ImproperlyConfigured, OSError) as error:
        fail(BAD_SETTINGS, str(error))
    check_settings()
    check_database()
    check_default_model()


def check_settings() -> None:
    """Run Django's system checks; warnings are shown, errors end the process."""
    from django.core.checks import run_checks

    for problem in misspelled(settings.BASE_DIR / ".env"):
        print("chatproject:", problem, file=sys.stderr)
    # No database: what it is good for is looked at later. Left out, Django 6.1 would ask all of them.
    found = run_checks(databases=[])
    for message in found:
        print("chatproject:", " ".join(str(message).split()), file=sys.stderr)
    if any(message.is_serious() and not message.is_silenced() for message in found):
        sys.exit(BAD_SETTINGS)


def migrate() -> None:
    """Apply the migrations that are missing, or end the process."""
    from django.core.management import CommandError, call_command

    try:
        call_command("migrate", interactive=False, verbosity=0, skip_checks=True)
    except CommandError as error:
        fail(error.returncode, str(error))


def check_database() -> None:
    """End the process unless the database answers and every migration is applied."""
    from django.db import Error, connection
    from django.db.migrations.executor import MigrationExecutor

    from conversations.database.encoding import unfit

    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite" and not Path(name).exists():
        problem = _("the database %(name)s does not exist yet: run %(command)s.")
        fail(NO_DATABASE, problem % {"name": name, "command": MIGRATE})
    try:
        reason = unfit(connection)
        executor = MigrationExecutor(connection)
        missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    except (Error, TypeError, ValueError) as error:  # the last two: options of the URL that a driver cannot take
        problem = _("the database cannot be used (%(reason)s); DATABASE_URL says which it is.")
        fail(NO_DATABASE, problem % {"reason": without_password(error)})
    finally:
        with suppress(Error):
            connection.close()
    if reason:
        fail(NO_DATABASE, f"{reason}.")
    if missing:
        problem = _("the database lacks %(count)d migrations: run %(command)s.")
        fail(NO_DATABASE, problem % {"count": missing, "command": MIGRATE})


def check_default_model() -> None:
    """Say so where DEFAULT_MODEL_TYPE names nothing; it may be a preset that is yet to be made."""
    from django.db import connection

    from conversations import conf
    from conversations.engine import completions

    wanted = conf.get().DEFAULT_MODEL_TYPE
    # Asked for in any case: a preset whose key cannot be decrypted is said in the log now, not with the first answer.
    known = [endpoint.model_type for endpoint in completions.list_endpoints()]
    connection.close()
    if wanted not in known and wanted:
        problem = _(
            "DEFAULT_MODEL_TYPE=%(type)s is not offered, and another model answers in its place. Offered: %(known)s."
        )
        print("chatproject:", problem % {"type": repr(wanted), "known": ", ".join(known)}, file=sys.stderr)


def without_password(error: Exception) -> str:
    """Return the error's text with the database's password blotted out.

    One of less than four characters stays: it stands in too many words, and the gaps would tell it all the same.
    """
    from django.db import connection

    password = str(connection.settings_dict.get("PASSWORD") or "")
    return str(error).replace(password, "***") if len(password) >= 4 else str(error)


if __name__ == "__main__":
    main()
