"""Accounts, their keys and sessions, and rows that are theirs: for tests of who gets in and to what."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.utils import timezone

from conversations.access import api_keys
from conversations.access.rules import Caller
from conversations.models import (
    ApiKey,
    Attachment,
    Conversation,
    DailyUsage,
    Feedback,
    Generation,
    Message,
    Scope,
    UserConfig,
)
from conversations.services import attachments

from .pictures import picture

CSRF = "c" * 32
# Stands in every text of `Belongings`: who must not see them must not see this.
CANARY = "canary-of-kim"
NO_ID = uuid.UUID(int=9)
Headers = dict[str, str]


def require_login(settings: Any, **more: Any) -> None:
    """Let the server of the test ask for login."""
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "REQUIRE_LOGIN": True, **more}


def make_user(name: str, **flags: bool) -> User:
    return User.objects.create_user(name, password=f"{name} has a password", **flags)


def make_key(user: User, scopes: Iterable[str] = Scope.values, **fields: Any) -> str:
    """A key of ``user``; ``fields`` are set on its row."""
    key, token = api_keys.make(user=user, name="a key", scopes=scopes)
    ApiKey.objects.filter(pk=key.pk).update(**fields)
    return token


def bearer(token: str) -> Headers:
    return {"Authorization": f"Bearer {token}"}


def key_of(user: User, scopes: Iterable[str] = Scope.values) -> Headers:
    return bearer(make_key(user, scopes))


def revoked_key_of(user: User) -> Headers:
    return bearer(make_key(user, revoked_at=timezone.now()))


def expired_key_of(user: User) -> Headers:
    return bearer(make_key(user, expires_at=timezone.now() - timedelta(seconds=1)))


def make_session(user: User) -> Any:
    """A browser's session in which ``user`` has logged in."""
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return session


def cookie_of(session_key: str) -> Headers:
    return {"Cookie": f"{settings.SESSION_COOKIE_NAME}={session_key}; {settings.CSRF_COOKIE_NAME}={CSRF}"}


def session_of(user: User) -> Headers:
    """What a browser sends of a session, by itself and from a page of ours."""
    return {**cookie_of(make_session(user).session_key), "X-CSRFToken": CSRF}


def ended_session_of(user: User) -> Headers:
    session = make_session(user)
    headers = cookie_of(session.session_key)
    session.flush()
    return {**headers, "X-CSRFToken": CSRF}


@dataclass(frozen=True)
class Belongings:
    """What somebody has: a conversation with one answer, model settings, a key, an image."""

    session_id: uuid.UUID
    message_id: int
    generation_id: uuid.UUID
    key_id: int
    attachment_id: uuid.UUID = NO_ID


def belongings_of(user: User) -> Belongings:
    """Make rows of ``user``."""
    mine = {"owner": user, "user_identifier": f"user:{user.pk}"}
    conversation = Conversation.objects.create(**mine, title=f"{CANARY} title", system_prompt=f"{CANARY} prompt")
    question = Message.objects.create(conversation=conversation, role="user", content=f"{CANARY} question")
    answer = Message.objects.create(
        conversation=conversation, parent=question, role="assistant", content=f"{CANARY} answer", model="scripted"
    )
    generation = Generation.objects.create(
        **mine, message=answer, status=Generation.Status.COMPLETED, ended_at=timezone.now()
    )
    conversation.active_leaf = answer
    conversation.message_count = 2
    conversation.save()
    UserConfig.objects.get_or_create(
        user_identifier=mine["user_identifier"],
        defaults={"owner": user, "custom_api_url": f"https://{CANARY}.example.com/v1", "custom_model": CANARY},
    )
    key, _token = api_keys.make(user=user, name=f"{CANARY} key")
    image = attachments.store_attachment(caller=Caller.of(user), upload=picture())
    return Belongings(conversation.session_id, answer.pk, generation.pk, key.pk, image.pk)


def rows_of(user: User) -> dict[str, list[dict[str, Any]]]:
    """Every column of everything that ``user`` has, but for when their keys were used."""
    mine = {"user_identifier": f"user:{user.pk}"}
    return {
        "conversations": list(Conversation.objects.filter(**mine).order_by("pk").values()),
        "attachments": list(Attachment.objects.filter(**mine).order_by("pk").values()),
        "messages": list(Message.objects.filter(conversation__owner=user).order_by("pk").values()),
        "generations": list(Generation.objects.filter(**mine).order_by("pk").values()),
        "feedback": list(Feedback.objects.filter(message__conversation__owner=user).order_by("pk").values()),
        "usage": list(DailyUsage.objects.filter(**mine).order_by("pk").values()),
        "configs": list(UserConfig.objects.filter(**mine).order_by("pk").values()),
        "keys": [
            {name: value for name, value in row.items() if name != "last_used_at"}
            for row in ApiKey.objects.filter(user=user).order_by("pk").values()
        ],
    }
