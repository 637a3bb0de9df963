"""``manage.py chat``: talk to a model in the terminal."""

from __future__ import annotations

import asyncio
import logging
import sys
import uuid
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError
from django.utils.translation import gettext as _

from conversations import conf
from conversations.access.rules import ACCOUNT_PREFIX, Caller
from conversations.exceptions import ChatError
from conversations.management import terminal
from conversations.management.accounts import account_named
from conversations.models import IDENTIFIER_LENGTH


def session_id(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise ArgumentTypeError(_("%(text)s is not a session id") % {"text": repr(text)}) from None


def user_id(text: str) -> str:
    if text.startswith(ACCOUNT_PREFIX) or len(text) > IDENTIFIER_LENGTH:
        problem = _("a user id may not begin with %(prefix)s, and has at most %(limit)d characters")
        raise ArgumentTypeError(problem % {"prefix": repr(ACCOUNT_PREFIX), "limit": IDENTIFIER_LENGTH})
    return terminal.clean(text)


class Command(BaseCommand):
    help = "Talk to a model in the terminal. Without MESSAGE: a line is a message, from the keyboard or a pipe."
    requires_migrations_checks = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("message", nargs="?", metavar="MESSAGE", help="answer this one message and leave")
        parser.add_argument("--model", default="", metavar="TYPE", help="a preset's type, `default` or `custom`")
        parser.add_argument("--session", type=session_id, metavar="UUID", help="go on with this conversation")
        whose = parser.add_mutually_exclusive_group()
        whose.add_argument("--user", metavar="NAME", help="with login on: the account that chats; else you are nobody")
        whose.add_argument(
            "--user-id", type=user_id, metavar="X", help="without login: whose conversation and settings"
        )
        parser.add_argument("--system", default="", metavar="TEXT", help="the system prompt of new conversations")

    def handle(self, *args: Any, **options: Any) -> None:
        message = None if options["message"] is None else terminal.clean(options["message"])
        if message is not None and not message.strip():
            raise CommandError(_("The message is empty."))
        system_prompt = terminal.clean(options["system"])
        if len(system_prompt) > (limit := conf.get().MAX_SYSTEM_PROMPT_LENGTH):
            raise CommandError(_("The system prompt has more than %(limit)d characters.") % {"limit": limit})
        with _quiet(unless=options["verbosity"] > 1), _told():
            chat = terminal.Chat(
                caller=_caller(options["user"], options["user_id"]),
                session_id=options["session"],
                model_type=options["model"],
                user_id=options["user_id"] or "",
                system_prompt=system_prompt,
                color=not options["no_color"],
            )
            code = asyncio.run(chat.run(message))
        if code:
            sys.exit(code)


def _caller(user: str | None, label: str | None) -> Caller:
    """Return who chats: the account ``user``, or the operator, who may say whose label it is on an open server."""
    if not conf.get().REQUIRE_LOGIN:
        if user is not None:
            raise CommandError(_("Nobody has to log in here, and conversations are no account's: use --user-id."))
        return Caller(sees_all=True)
    if label is not None:
        raise CommandError(_("Everybody has to log in here, and a user id is no account: use --user."))
    if user is None:
        return Caller(sees_all=True)
    account = account_named(user)
    if not account.is_active:
        raise CommandError(_("The account %(user)s is not active.") % {"user": repr(user)})
    return Caller.of(account)


@contextmanager
def _told() -> Iterator[None]:
    """Say in one line what a person can do something about."""
    try:
        yield
    except ChatError as error:
        raise CommandError(str(error)) from error
    except DatabaseError as error:
        raise CommandError(_("The database does not answer: %(reason)s") % {"reason": error}) from error


@contextmanager
def _quiet(*, unless: bool) -> Iterator[None]:
    """Keep the log out of the conversation: what a person has to know is shown to them anyway."""
    before = logging.root.manager.disable
    logging.disable(before if unless else max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)
