"""A canary in every place for a secret, put there through its real door, is then found nowhere.

One more secret is one more line of ``SECRETS``; one more place where it could show is one more line of ``look``.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import sqlite3
import string
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest
from cryptography.fernet import Fernet
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils.log import AdminEmailHandler

from conversations.access import api_keys
from conversations.models import ApiKey, Attachment, Generation, UserConfig
from llmproviders.models import Preset
from tests.conftest import Server
from tests.conversations.helpers import chat
from tests.upstream import Request, ScriptedUpstream, answer, events, raw, status

# What everybody may see; found in each place, it shows that the search there finds something.
CONTROL = "PlainlyToBeSeen"
PASSWORD = "a-password-of-no-interest"
# Parts of this length are looked for, so that half a secret counts too. Four characters of a mask do not.
PART = 10
# Where is looked, at least. Django logs SQL with DEBUG only; its parameters are what the database holds.
PLACES = (
    "admin pages",
    "API answers",
    "commands",
    "database",
    "dumps",
    "error pages",
    "logs",
    "mails",
    "reprs",
)
# Of each model, so many rows are shown in admin.
ROWS = 4
# These may name whole URLs at INFO; llmproviders/net/http.py keeps them silent below WARNING.
SILENCED = ("httpx", "httpcore")


def canary(length: int = 24) -> str:
    """Letters of no known shape: what keeps them out must not be a pattern of usual keys."""
    return "".join(secrets.choice(string.ascii_letters) for _ in range(length))


# Doors ------------------------------------------------------------------------------------------------------
@dataclass
class World:
    """A running server, and those who use it."""

    api: httpx.Client
    server: Server
    upstream: ScriptedUpstream
    settings: Any
    folder: Path
    staff: Client = field(default_factory=lambda: Client(raise_request_exception=False))
    answers: dict[str, bytes] = field(default_factory=dict)
    # (user_id, model_type) of those whom the upstream answers, by the secret that it is sent.
    chatters: dict[str, tuple[str, str]] = field(default_factory=dict)

    def keep(self, name: str, *parts: bytes | str) -> None:
        """Keep an answer, so that it is searched."""
        text = b"\n".join(part if isinstance(part, bytes) else part.encode() for part in parts)
        self.answers[name] = self.answers.get(name, b"") + text

    def post(self, name: str, path: str, data: dict[str, Any]) -> int:
        """Post a form of the admin."""
        response = self.staff.post(path, data)
        self.keep("admin pages", str(response.headers), response.content)
        assert response.status_code in (200, 302), (name, response.status_code)
        return response.status_code


def of_settings(name: str) -> Callable[[World, str], None]:
    """A setting as it is."""
    return lambda world, secret: setattr(world.settings, name, secret)


def of_provider_settings(**change: Callable[[str], Any]) -> Callable[[World, str], None]:
    """Keys of LLMPROVIDERS, made from the secret."""

    def put(world: World, secret: str) -> None:
        world.settings.LLMPROVIDERS |= {name: make(secret) for name, make in change.items()}

    return put


def llm_api_key(world: World, secret: str) -> None:
    world.settings.LLMPROVIDERS |= {"API_KEY": secret, "MODEL": CONTROL}
    world.chatters[secret] = ("someone", "default")


def query_of_llm_api_url(world: World, secret: str) -> None:
    world.settings.LLMPROVIDERS |= {"API_URL": f"{world.upstream.url}?api-key={secret}"}


def redis_url(world: World, secret: str) -> None:
    address = f"redis://user:{secret}@127.0.0.1:6379/0"
    world.settings.REDIS_URL = address
    # Where it stands in CHANNEL_LAYERS, which the running server has read already.
    world.settings.CHANNEL_LAYERS = {**world.settings.CHANNEL_LAYERS, "other": {"CONFIG": {"hosts": [address]}}}


def login_form(world: World, secret: str) -> None:
    """A password: of an account, typed at the login, and typed wrong."""
    User.objects.create_superuser("boss", password=secret)
    page = reverse("admin:login")
    world.post("a wrong password", page, {"username": "boss", "password": f"{secret}x"})
    assert world.post("login", page, {"username": "boss", "password": secret}) == 302


def config_api(world: World, secret: str) -> None:
    body = {"model_type": "custom", "custom_api_url": world.upstream.url, "custom_model": CONTROL}
    response = world.api.post("/api/config", json={"user_id": "by-api", "custom_api_key": secret, **body})
    assert response.status_code == 200, response.text
    world.chatters[secret] = ("by-api", "custom")


def refused_by_config_api(world: World, secret: str) -> None:
    for key in (f"{secret} with blanks", f"env:{secret}", f"encrypted:{secret}", secret * 30):
        response = world.api.post("/api/config", json={"model_type": "custom", "custom_api_key": key})
        assert response.status_code == 400


PRESET = {"name": CONTROL, "backend": "openai_compatible", "model": CONTROL, "context_window": "8192", "order": "5"}


def preset_form(world: World, secret: str) -> None:
    form = {**PRESET, "type": "by-admin", "api_url": world.upstream.url, "api_key": secret, "is_enabled": "on"}
    assert world.post("preset", reverse("admin:llmproviders_preset_add"), form) == 302
    world.chatters[secret] = ("someone", "by-admin")


def refused_preset_form(world: World, secret: str) -> None:
    form = {**PRESET, "type": "refused", "api_url": "no url", "api_key": secret}
    assert world.post("preset", reverse("admin:llmproviders_preset_add"), form) == 200


def changed_preset_form(world: World, secret: str) -> None:
    """A key that replaces another, and so comes into the admin's history."""
    preset = Preset.objects.create(**{**PRESET, "type": "changed", "api_url": world.upstream.url})
    form = {**PRESET, "type": "changed", "api_url": world.upstream.url, "api_key": secret}
    assert world.post("preset", reverse("admin:llmproviders_preset_change", args=[preset.pk]), form) == 302


def query_of_a_preset_url(world: World, secret: str) -> None:
    url = f"{world.upstream.url}?model={CONTROL}&api-key={secret}"
    Preset.objects.create(**{**PRESET, "type": "with-query", "api_url": url, "is_enabled": True})
    chat(world.api, "Hello", model_type="with-query")


def user_config_form(world: World, secret: str) -> None:
    form = {"user_identifier": "by-admin", "custom_api_url": world.upstream.url, "custom_model": CONTROL}
    page = reverse("admin:conversations_userconfig_add")
    assert world.post("config", page, {**form, "current_model_type": "custom", "custom_api_key": secret}) == 302
    world.chatters[secret] = ("by-admin", "custom")


def posted_to_a_failing_view(world: World, secret: str) -> None:
    for path in ("/admin/raises", "/raises"):
        for accept in ("text/html", "text/plain"):
            response = world.staff.post(path, {"note": secret}, headers={"Accept": accept})
            assert response.status_code == 500
            world.keep("error pages", str(response.headers), response.content, CONTROL)


def old_database(world: World, secret: str) -> None:
    path = world.folder / "old.sqlite3"
    with sqlite3.connect(path) as old:
        old.executescript(
            "CREATE TABLE conversations (id INTEGER, session_id TEXT); CREATE TABLE messages "
            "(id INTEGER, conversation_id INTEGER, role TEXT, content TEXT); "
            "CREATE TABLE user_configs (user_id TEXT, custom_api_url TEXT, custom_model TEXT, custom_api_key TEXT)"
        )
        for name, key in (("old", secret), ("refused", f"{secret} {secret}")):
            row = (name, world.upstream.url, CONTROL, key)
            old.execute("INSERT INTO user_configs VALUES (?, ?, ?, ?)", row)
    old.close()
    world.keep("commands", command("import_legacy", str(path)))
    world.chatters[secret] = ("old", "custom")


def api_key(world: World, secret: str) -> None:
    """A key that lets a program in, shown rightly and wrongly."""
    with mock.patch.object(api_keys.secrets, "token_urlsafe", return_value=secret):
        _key, token = api_keys.make(user=User.objects.create_user("program"), name=CONTROL)
    open_server = world.settings.CONVERSATIONS
    world.settings.CONVERSATIONS = {**open_server, "REQUIRE_LOGIN": True}
    for shown, expected in ((token, 200), (f"{token}x", 401)):
        response = world.api.get("/conversations", headers={"Authorization": f"Bearer {shown}"})
        assert response.status_code == expected
    world.settings.CONVERSATIONS = open_server


@dataclass(frozen=True)
class Secret:
    """``put`` brings the canary in. In the places ``shown_in`` it may be seen."""

    name: str
    put: Callable[[World, str], None]
    make: Callable[[], str] = canary
    shown_in: frozenset[str] = frozenset()


# In the order in which they are put.
SECRETS = [
    Secret("SECRET_KEY", of_settings("SECRET_KEY"), lambda: canary(60)),
    Secret(
        "FIELD_ENCRYPTION_KEYS",
        of_provider_settings(ENCRYPTION_KEYS=lambda key: [key, Fernet.generate_key().decode()]),
        lambda: Fernet.generate_key().decode(),
    ),
    Secret("REDIS_URL", redis_url),
    Secret("EMAIL_HOST_PASSWORD", of_settings("EMAIL_HOST_PASSWORD")),
    Secret("LLM_API_KEY", llm_api_key),
    Secret("the query of LLM_API_URL", query_of_llm_api_url),
    Secret("an account's password", login_form),
    Secret("an API key of ours", api_key),
    Secret("a user's key, by API", config_api),
    Secret("a user's key, refused by the API", refused_by_config_api),
    Secret("a user's key, in admin", user_config_form),
    Secret("a user's key of the old service", old_database),
    Secret("a preset's key, in admin", preset_form),
    Secret("a preset's key, with a mistake in the form", refused_preset_form),
    Secret("a preset's key, replaced in admin", changed_preset_form),
    # For those who may see presets in admin it is no secret; keys belong into the field for keys.
    Secret(
        "the query of a preset's URL",
        query_of_a_preset_url,
        shown_in=frozenset({"database", "admin pages", "dumps", "logs of SQL"}),
    ),
    Secret("what was typed into a form whose view fails", posted_to_a_failing_view),
]


# Upstreams that repeat the key ------------------------------------------------------------------------------
def _key(request: Request) -> str:
    return request.headers["authorization"].removeprefix("Bearer ")


def _error(request: Request) -> dict[str, Any]:
    return {"error": {"message": f"wrong key {_key(request)} ({CONTROL})", "code": _key(request), "type": "x"}}


def _finish(request: Request) -> str:
    choice = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": f"stop {_key(request)}"}
    return json.dumps({"model": f"m {_key(request)}", "choices": [choice]})


ECHOES: dict[str, Callable[[Request], Any]] = {
    "401": lambda r: status(401, _error(r)),
    "403, no JSON": lambda r: status(403, f"<html>{_key(r)}", content_type="text/html"),
    "400": lambda r: status(400, {"detail": [{"msg": f"{_key(r)}"}]}),
    "500": lambda r: status(500, _error(r)),
    "500, text": lambda r: status(500, f"at {_key(r)}", content_type="text/plain"),
    "in the stream": lambda r: events(json.dumps({"choices": [{"delta": {"content": "a"}}]}), json.dumps(_error(r))),
    "broken JSON in the stream": lambda r: events(f'{{"error": "{_key(r)}'),
    "an error event": lambda r: events(f"event: error\ndata: {json.dumps(_error(r))}\n\n".encode()),
    "in headers": lambda r: status(429, _error(r), {"Retry-After": _key(r), "X-Key": _key(r), "Set-Cookie": _key(r)}),
    "in a malformed header": lambda r: raw(f"HTTP/1.1 200 OK\r\n{_key(r)}\x00 {_key(r)}\r\n\r\n".encode()),
    "in the status line": lambda r: raw(f"HTTP/1.1 {_key(r)}\r\n\r\n".encode()),
    "in a content type": lambda r: status(200, "x", content_type=f"text/{_key(r)}"),
    "in an encoding": lambda r: status(200, "x", {"Content-Encoding": _key(r)}),
    "in a redirect": lambda r: status(302, "", {"Location": f"http://127.0.0.1/?key={_key(r)}"}),
    "as finish reason and model": lambda r: events(_finish(r), "[DONE]"),
    "a cut answer": lambda r: answer("a", "b", cut=1, extra={"key": _key(r)}),
}


def talk(world: World) -> None:
    """Chat with every key that is sent anywhere, and have it repeated in every way."""
    for secret, (user, model_type) in world.chatters.items():
        for name, behaviour in ECHOES.items():
            world.upstream.script = [behaviour]
            stream = chat(world.api, CONTROL, user_id=user, model_type=model_type)
            assert stream.status == 200, (name, stream.status)
            assert world.upstream.completions[-1].headers["authorization"] == f"Bearer {secret}", (user, name)
    world.upstream.script = []


# Where it could show ----------------------------------------------------------------------------------------
def command(name: str, *arguments: str) -> str:
    """What a command prints and how it ends."""
    out = StringIO()
    try:
        call_command(name, *arguments, stdout=out, stderr=out)
    except CommandError as error:
        out.write(str(error))
    return out.getvalue()


def database() -> Iterator[bytes]:
    """Every row, and where the database is a file, its bytes and those of its log."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            yield repr(cursor.fetchall()).encode()
    if connection.vendor == "sqlite":
        name = str(connection.settings_dict["NAME"])
        assert Path(f"{name}-wal").stat().st_size, "no log is beside the database"
        yield from (path.read_bytes() for path in Path(name).parent.glob(f"{Path(name).name}*"))


def paths(patterns: list[Any] | None = None, before: str = "") -> Iterator[str]:
    """The route of every path but the admin's; a new one is there by itself."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        if isinstance(pattern, URLResolver) and pattern.app_name != "admin":
            yield from paths(pattern.url_patterns, f"{before}{pattern.pattern}")
        elif isinstance(pattern, URLPattern) and "^" not in str(pattern.pattern):
            yield f"{before}{pattern.pattern}"


# It tells of a conversation what its own path does.
ENDLESS = {"events"}


def api_answers(world: World) -> None:
    """GET every path, with all values that its parameters can have together."""
    columns = {"session_id": "message__conversation__session_id", "generation_id": "pk", "message_id": "message_id"}
    made = [
        {name: str(row[path]) for name, path in columns.items()}
        for row in Generation.objects.values(*columns.values())
    ]
    for row in made:
        row |= {
            "response_id": row["generation_id"],
            "conversation_id": row["session_id"],
            "chat_id": row["session_id"],
        }
        row |= {"item_id": f"msg_{row['message_id']}", "model": "default", "rest": "completions"}
    keys = [{"key_id": str(pk)} for pk in ApiKey.objects.values_list("pk", flat=True)]
    kept = [{"attachment_id": str(pk)} for pk in Attachment.objects.values_list("pk", flat=True)]
    for route in {*paths(), "nowhere"} - ENDLESS:
        parameters = re.findall(r"<(?:\w+:)?(\w+)>", route)
        rows = keys if "key_id" in parameters else kept if "attachment_id" in parameters else made
        values = {tuple(row[name] for name in parameters) for row in rows}
        for found in sorted(values):
            filled = iter(found)
            path = re.sub(r"<.*?>", lambda _match, filled=filled: next(filled), route)
            world.api.get(f"/{path}", headers={"Accept": "application/json"})
        world.api.get("/" + re.sub(r"<.*?>", "nowhere", route), headers={"Accept": "text/html"})
    for user in ("by-api", "by-admin", "old", "nobody"):
        assert world.api.get("/api/config", params={"user_id": user}).status_code == 200


def admin_pages(world: World) -> None:
    """GET every page of the admin, as one who may all and as one who may only look."""
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    looking = Client()
    looking.force_login(viewer)
    pages = [reverse("admin:index"), reverse("admin:password_change")]
    for model, model_admin in admin.site._registry.items():
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        pages += [reverse(f"{name}_changelist"), reverse(f"{name}_changelist") + "?q=a", reverse(f"{name}_add")]
        pages += [reverse("admin:app_list", args=[model._meta.app_label])]
        for pk in model_admin.model._base_manager.values_list("pk", flat=True)[:ROWS]:
            pages += [reverse(f"{name}_{page}", args=[pk]) for page in ("change", "history", "delete")]
    seen = 0
    for client in (world.staff, looking):
        for page in pages:
            response = client.get(page)
            assert response.status_code in (200, 302, 403), (page, response.status_code)
            seen += response.status_code == 200
            world.keep("admin pages", page, str(response.headers), response.content)
    assert seen > len(pages), "most pages were refused"


def commands(world: World) -> None:
    world.keep("commands", command("check_providers"), command("check_providers", "--json"))
    world.keep("commands", command("rotate_encryption"), command("check", "--deploy"))
    world.keep("dumps", command("dumpdata", "llmproviders", "conversations", "auth", "admin"))


def look(world: World, logs: Logs) -> dict[str, bytes]:
    """Everything that anybody could see, by place."""
    api_answers(world)
    admin_pages(world)
    commands(world)
    world.keep("mails", *(str(message.message()) for message in mail.outbox))
    world.keep("database", *database())
    world.keep("reprs", repr([*Preset.objects.all(), *UserConfig.objects.all()]), repr(_endpoints()))
    return {**world.answers, **logs.by_place()}


def _endpoints() -> list[Any]:
    from llmproviders import catalog, conf

    return [conf.get(), *catalog.list_endpoints()]


class Logs(logging.Handler):
    """Everything that is logged, by any library, at any level."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[tuple[str, str]] = []
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        # Not only the text: another formatter could print any attribute.
        self.records.append((record.name, f"{self._formatter.format(record)} {vars(record)}"))

    def by_place(self) -> dict[str, bytes]:
        places: dict[str, list[str]] = {}
        for name, text in self.records:
            places.setdefault("logs of SQL" if name == "django.db.backends" else "logs", []).append(text)
        return {place: "\n".join(texts).encode("utf-8", "replace") for place, texts in places.items()}


@pytest.fixture
def logs() -> Iterator[Logs]:
    """All loggers at DEBUG, also those that were told to be quiet."""
    everything = Logs()
    known = (logging.getLogger(name) for name in list(logging.root.manager.loggerDict))
    loggers = [logging.root, *known]
    before = [(logger, logger.level, logger.propagate, logger.disabled) for logger in loggers]
    assert all(logging.getLogger(name).getEffectiveLevel() == logging.WARNING for name in SILENCED)
    handlers = logging.root.handlers
    mails = AdminEmailHandler(include_html=True)
    try:
        for logger in loggers:
            logger.setLevel(logging.DEBUG)
            logger.propagate, logger.disabled = True, False
        # Instead of the console, which all of this would go to.
        logging.root.handlers = [everything]
        logging.getLogger("django.request").addHandler(mails)
        yield everything
    finally:
        logging.root.handlers = handlers
        logging.getLogger("django.request").removeHandler(mails)
        for logger, level, propagate, disabled in before:
            logger.setLevel(level)
            logger.propagate, logger.disabled = propagate, disabled


@pytest.fixture
def world(
    client: httpx.Client, server: Server, upstream_thread: ScriptedUpstream, settings: Any, tmp_path: Path
) -> Iterator[World]:
    settings.ROOT_URLCONF = "tests.raising"
    settings.ADMINS = [("Admin", "admin@example.com")]
    settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, "MAX_RETRIES": 0}
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "TITLES": "first_words"}
    # The presets that ship: they have other servers, and keys that the canary does not open.
    Preset.objects.all().delete()
    made = World(client, server, upstream_thread, settings, tmp_path)

    def keep(response: httpx.Response) -> None:
        made.keep("API answers", str(response.url), str(response.headers), response.read())

    client.event_hooks["response"].append(keep)
    with ExitStack() as stack:
        stack.callback(client.event_hooks["response"].clear)
        yield made


def parts(secret: str) -> list[bytes]:
    """Every part of a secret of a length that does not come by chance."""
    return [secret[start : start + PART].encode() for start in range(len(secret) - PART + 1)]


@pytest.mark.parametrize("debug", [False, True], ids=["production", "debug"])
def test_no_secret_is_found_anywhere(world: World, logs: Logs, debug: bool) -> None:
    world.settings.DEBUG = debug
    canaries = [(secret, secret.make()) for secret in SECRETS]
    for secret, value in canaries:
        secret.put(world, value)
    talk(world)

    places = look(world, logs)

    blind = [place for place in PLACES if CONTROL.encode() not in places.get(place, b"")]
    assert not blind, "nothing at all was found there"
    found = [
        f"{secret.name}: {place}"
        for secret, value in canaries
        for place, seen in places.items()
        if place not in secret.shown_in and any(part in seen for part in parts(value))
    ]
    assert not found, "\n".join(found)
