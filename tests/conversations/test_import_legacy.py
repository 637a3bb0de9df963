"""``manage.py import_legacy``: every version of the old tables comes over, whole, once, and with nothing harmful."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from conversations import services
from conversations.management.legacy import SourceError, open_source, values
from conversations.models import Conversation, Message, UserConfig

pytestmark = pytest.mark.django_db

SESSION = "0b5f0e0e-6a63-4a8f-9a1b-3f6f2f1d9c11"
Bring = Callable[..., tuple[str, str]]

KEY = "sk-old-0123456789"
URL = "https://models.example.com/v1/chat/completions"
# The tables of the first version, as SQLAlchemy made them.
TABLES = """
    CREATE TABLE conversations (
        id INTEGER NOT NULL PRIMARY KEY, session_id VARCHAR(100) NOT NULL, title VARCHAR(200) NOT NULL,
        created_at DATETIME, updated_at DATETIME
    );
    CREATE UNIQUE INDEX ix_conversations_session_id ON conversations (session_id);
    CREATE TABLE messages (
        id INTEGER NOT NULL PRIMARY KEY, conversation_id INTEGER NOT NULL REFERENCES conversations (id),
        role VARCHAR(20) NOT NULL, content TEXT NOT NULL, created_at DATETIME
    );
    CREATE TABLE user_configs (
        id INTEGER NOT NULL PRIMARY KEY, user_identifier VARCHAR(100) NOT NULL,
        current_model_type VARCHAR(50) NOT NULL, max_tokens INTEGER NOT NULL,
        custom_api_url VARCHAR(500), custom_model VARCHAR(100), custom_api_key VARCHAR(200),
        created_at DATETIME, updated_at DATETIME
    );
"""


class Old:
    """An old database that tests write into."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.path)) as database:
            for statement in statements:
                database.executescript(statement)

    def insert(self, table: str, **row: Any) -> int:
        names, places = ", ".join(row), ", ".join("?" * len(row))
        with closing(sqlite3.connect(self.path)) as database, database:
            return (
                database.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", list(row.values())).lastrowid or 0
            )

    def converse(self, *contents: str, session: str = SESSION, title: str = "Trip", **row: Any) -> int:
        """A conversation of alternating messages, a minute each, from 12:00 on."""
        times = {"created_at": "2025-10-04 12:00:00.000000", "updated_at": "2025-10-04 12:00:00.000000"}
        number = self.insert("conversations", session_id=session, title=title, **times, **row)
        self.say(number, *contents)
        return number

    def say(self, conversation: int, *contents: str, start: int = 0) -> None:
        for position, content in enumerate(contents, start=start):
            role = "assistant" if position % 2 else "user"
            at = f"2025-10-04 12:{position + 1:02}:00.123456"
            self.insert("messages", conversation_id=conversation, role=role, content=content, created_at=at)


@pytest.fixture
def old(tmp_path: Path) -> Old:
    database = Old(tmp_path / "conversation.db")
    database.run(TABLES)
    return database


@pytest.fixture
def bring(old: Old) -> Bring:
    """Run the command on ``old``; return what it writes to standard output and error."""

    def run(*arguments: str, source: str = "") -> tuple[str, str]:
        out, err = StringIO(), StringIO()
        call_command("import_legacy", source or str(old.path), *arguments, stdout=out, stderr=err)
        return out.getvalue(), err.getvalue()

    return run


def branch(conversation: Conversation) -> list[tuple[str, str]]:
    """Role and content of what is shown, oldest first."""
    messages = list(services.branch(conversation.active_leaf_id, conversation))[::-1]
    return [(message.role, message.content) for message in messages]


# What comes over --------------------------------------------------------------------------------------------------


def test_a_conversation_comes_over_whole(old: Old, bring: Bring) -> None:
    old.converse("hello", "hi", "你好 😀", "再见")
    out, err = bring()
    assert out.splitlines() == [
        "conversations: 1 added, 0 continued, 0 unchanged",
        "messages: 4 added, 0 left out",
        "user settings: 0 added, 0 kept as they are here",
    ]
    assert err == ""
    conversation = Conversation.objects.get()
    assert str(conversation.session_id) == SESSION
    assert (conversation.title, conversation.title_source) == ("Trip", "person")
    assert conversation.message_count == 4
    assert conversation.created_at == datetime(2025, 10, 4, 12, 0, tzinfo=UTC)
    assert conversation.updated_at == datetime(2025, 10, 4, 12, 4, 0, 123456, tzinfo=UTC)
    assert branch(conversation) == [("user", "hello"), ("assistant", "hi"), ("user", "你好 😀"), ("assistant", "再见")]
    first = conversation.messages.earliest("pk")
    assert first.created_at == datetime(2025, 10, 4, 12, 1, 0, 123456, tzinfo=UTC)
    assert first.parent is None


def test_a_second_import_adds_nothing(old: Old, bring: Bring) -> None:
    old.converse("same", "same", "same", "same")
    old.insert("user_configs", user_identifier="kim", current_model_type="glm", max_tokens=100)
    bring()
    before = list(Message.objects.values_list("pk", "parent_id", "content"))
    out, _err = bring()
    assert out.splitlines() == [
        "conversations: 0 added, 0 continued, 1 unchanged",
        "messages: 0 added, 0 left out",
        "user settings: 0 added, 1 kept as they are here",
    ]
    assert list(Message.objects.values_list("pk", "parent_id", "content")) == before


def test_a_second_import_adds_only_what_is_new(old: Old, bring: Bring) -> None:
    number = old.converse("one", "two")
    bring()
    old.say(number, "three", "four", start=2)
    old.converse("other", session=str(uuid.uuid4()))
    out, _err = bring()
    assert "1 added, 1 continued, 0 unchanged" in out
    assert "messages: 3 added" in out
    conversation = Conversation.objects.get(session_id=SESSION)
    assert [content for _role, content in branch(conversation)] == ["one", "two", "three", "four"]
    assert conversation.message_count == 4
    assert conversation.updated_at.minute == 4


def test_what_went_on_in_both_services_is_kept_on_two_branches(old: Old, bring: Bring) -> None:
    number = old.converse("one", "two")
    bring()
    conversation = Conversation.objects.get()
    here = conversation.messages.create(role="user", content="asked here", parent_id=conversation.active_leaf_id)
    Conversation.objects.update(active_leaf=here, message_count=3, title="renamed here")
    old.say(number, "asked there", "answered there", start=2)
    _out, err = bring()
    assert "went on here too" in err
    conversation.refresh_from_db()
    assert [content for _role, content in branch(conversation)] == ["one", "two", "asked here"]
    assert (conversation.message_count, conversation.title) == (3, "renamed here")
    assert conversation.messages.count() == 5
    assert "messages: 0 added" in bring()[0]


def test_an_empty_conversation_is_filled_by_a_later_import(old: Old, bring: Bring) -> None:
    number = old.converse()
    bring()
    assert Conversation.objects.get().active_leaf is None
    old.say(number, "hello", "hi")
    bring()
    assert [content for _role, content in branch(Conversation.objects.get())] == ["hello", "hi"]


@pytest.mark.parametrize("title", ["", "新对话", " New Conversation "])
def test_what_nobody_named_is_named_by_its_first_words(old: Old, bring: Bring, title: str) -> None:
    old.converse("what is a tree?", "a plant", title=title)
    old.converse(title=title, session=str(uuid.uuid4()))
    bring()
    named, empty = Conversation.objects.order_by("-message_count")
    assert (named.title, named.title_source) == ("what is a tree?", "first_words")
    assert (empty.title, empty.title_source) == ("", "")


def test_a_session_id_that_is_no_uuid_becomes_always_the_same_one(old: Old, bring: Bring) -> None:
    old.converse("hello", session="chat-42")
    out, _err = bring()
    conversation = Conversation.objects.get()
    assert out.splitlines()[0] == f"session 'chat-42' is now {conversation.session_id}"
    assert conversation.session_id == values.session_uuid("chat-42")
    assert str(conversation.session_id) == "3ea7b97d-b81f-5b68-837e-23b5c27e472a"
    assert "is now" not in bring()[0]
    assert Conversation.objects.count() == 1


def test_a_leading_system_message_becomes_the_system_prompt(old: Old, bring: Bring) -> None:
    number = old.converse()
    for role, content in [("System", "Be brief."), ("user", "hi"), ("tool", "42"), ("system", "late"), ("AI", "yo")]:
        old.insert("messages", conversation_id=number, role=role, content=content)
    out, _err = bring()
    conversation = Conversation.objects.get()
    assert conversation.system_prompt == "Be brief."
    assert branch(conversation) == [("user", "hi"), ("assistant", "yo")]
    assert "messages: 2 added, 2 left out" in out
    assert "messages: 0 added, 2 left out" in bring()[0]


def test_what_no_database_stores_is_cleaned(old: Old, bring: Bring) -> None:
    number = old.converse(title="a\x00b\n  c" + "x" * 300)
    old.insert("messages", conversation_id=number, role="user", content="nul\x00 here")
    old.run(f"INSERT INTO messages VALUES (NULL, {number}, 'assistant', CAST(x'ff414243' AS TEXT), 'yesterday')")
    bring()
    conversation = Conversation.objects.get()
    assert conversation.title == ("ab c" + "x" * 300)[:200]
    assert branch(conversation) == [("user", "nul here"), ("assistant", "�ABC")]


def test_messages_of_no_conversation_are_left_out_and_counted(old: Old, bring: Bring) -> None:
    old.converse("hello")
    old.say(4711, "lost", "too")
    out, err = bring()
    assert "messages: 1 added, 2 left out" in out
    assert "2 messages belong to no conversation" in err


def test_more_than_a_batch_comes_over(old: Old, bring: Bring) -> None:
    for number in range(205):
        old.converse(f"hello {number}", session=str(uuid.UUID(int=number)))
    assert "205 added" in bring()[0]
    assert Message.objects.count() == 205
    assert {conversation.message_count for conversation in Conversation.objects.all()} == {1}


def test_nothing_is_pruned(old: Old, bring: Bring, settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "KEEP_LATEST": 1}
    for _ in range(3):
        old.converse("hello", session=str(uuid.uuid4()))
    bring()
    assert Conversation.objects.count() == 3


def test_a_dry_run_says_the_same_and_stores_nothing(old: Old, bring: Bring) -> None:
    old.converse("hello", "hi", session="chat-42")
    old.insert("user_configs", user_identifier="kim", current_model_type="glm", max_tokens=100)
    out, err = bring("--dry-run")
    assert "nothing was stored" in err
    assert not Conversation.objects.exists()
    assert not UserConfig.objects.exists()
    assert bring()[0] == out


def test_the_old_database_is_not_changed(old: Old, bring: Bring) -> None:
    old.converse("hello", "hi")
    before = old.path.read_bytes()
    bring()
    assert old.path.read_bytes() == before
    assert sorted(path.name for path in old.path.parent.iterdir()) == [old.path.name]
    with open_source(str(old.path)) as source, pytest.raises(SourceError, match="readonly database"):
        source._query("DELETE FROM messages")


# Versions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "hour"), [((), 18), (("--timezone", "UTC"), 18), (("--timezone", "Asia/Shanghai"), 10)]
)
def test_times_without_a_zone_mean_the_one_that_is_given(
    old: Old, bring: Bring, zone: tuple[str, ...], hour: int
) -> None:
    old.insert("conversations", session_id=SESSION, title="x", created_at="2025-10-04 18:00:00.000000")
    bring(*zone)
    assert Conversation.objects.get().created_at == datetime(2025, 10, 4, hour, tzinfo=UTC)


def test_the_version_with_logins_keeps_its_users_apart(old: Old, bring: Bring) -> None:
    old.run(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, username VARCHAR(50))",
        "ALTER TABLE conversations ADD COLUMN user_id INTEGER",
        "ALTER TABLE messages ADD COLUMN sources TEXT",
        "ALTER TABLE user_configs RENAME COLUMN user_identifier TO user_id",
    )
    old.converse("hello", user_id=7)
    old.insert("user_configs", user_id=7, current_model_type="glm", max_tokens=8000)
    _out, err = bring()
    assert "--timezone Asia/Shanghai" in err
    assert Conversation.objects.get().user_identifier == "7"
    config = UserConfig.objects.get()
    assert (config.user_identifier, config.current_model_type, config.max_tokens) == ("7", "glm4", 8000)
    assert "Shanghai" not in bring("--timezone", "UTC")[1]


def test_messages_that_name_the_session_are_found(old: Old, bring: Bring) -> None:
    old.run(
        "DROP TABLE messages",
        "CREATE TABLE messages (id INTEGER PRIMARY KEY, session_id TEXT, role TEXT, content TEXT, timestamp DATETIME)",
        "DROP TABLE user_configs",
    )
    old.insert("conversations", session_id=SESSION, title="x")
    old.insert("messages", session_id=SESSION, role="user", content="hello", timestamp="2025-10-04T12:00:00+08:00")
    bring()
    [message] = Message.objects.all()
    assert message.created_at == datetime(2025, 10, 4, 4, tzinfo=UTC)


def test_conversations_without_numbers_are_found_by_session(old: Old, bring: Bring) -> None:
    old.run(
        "DROP TABLE messages",
        "DROP TABLE conversations",
        "CREATE TABLE conversations (session_id TEXT PRIMARY KEY)",
        "CREATE TABLE messages (id TEXT PRIMARY KEY, conversation_id TEXT, role TEXT, content TEXT, created_at REAL)",
    )
    for number in range(150):
        session = str(uuid.UUID(int=number))
        old.insert("conversations", session_id=session)
        for at, content in ((3, "third"), (1, "first"), (2, "second")):
            row = {"id": str(uuid.uuid4()), "conversation_id": session, "content": content, "created_at": at}
            old.insert("messages", role="user", **row)
    bring()
    for conversation in Conversation.objects.all():
        assert [content for _role, content in branch(conversation)] == ["first", "second", "third"]
    assert Conversation.objects.count() == 150
    assert Conversation.objects.filter(created_at=datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)).count() == 150


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("DROP TABLE messages", "no table 'messages'"),
        ("DROP TABLE conversations", "no table 'conversations'"),
        ("ALTER TABLE messages DROP COLUMN role", "'messages' of the old database has no column 'role'"),
        ("ALTER TABLE messages DROP COLUMN content", "no column 'content'"),
        ("ALTER TABLE messages RENAME COLUMN conversation_id TO c", "no column 'conversation_id'"),
        ("DROP INDEX ix_conversations_session_id; ALTER TABLE conversations DROP COLUMN session_id", "'session_id'"),
        ("ALTER TABLE user_configs RENAME COLUMN user_identifier TO u", "'user_configs' .* no column 'user_id'"),
    ],
)
def test_a_missing_table_or_column_is_named(old: Old, bring: Bring, statement: str, expected: str) -> None:
    old.converse("hello")
    old.run(statement)
    with pytest.raises(CommandError, match=expected):
        bring()
    assert not Conversation.objects.exists()


# Sources ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["sqlite:///{}", "sqlite+pysqlite:///{}", "sqlite+aiosqlite:///{}"])
def test_the_old_url_works(old: Old, bring: Bring, form: str) -> None:
    old.converse("hello")
    assert "1 added" in bring(source=form.format(old.path))[0]


@pytest.mark.parametrize("form", ["sqlite:///./conversation.db", "conversation.db"])
def test_a_relative_path_is_relative_to_the_folder_one_is_in(
    old: Old, bring: Bring, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    old.converse("hello")
    monkeypatch.chdir(old.path.parent)
    assert "1 added" in bring(source=form)[0]


def test_a_path_with_strange_characters_works(old: Old, bring: Bring) -> None:
    old.converse("hello")
    strange = old.path.rename(old.path.with_name("a b?c#d%20é.db"))
    assert "1 added" in bring(source=str(strange))[0]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("nowhere.db", "is not a file"),
        ("sqlite:////nowhere/x.db", "is not a file"),
        ("redis://localhost", "Give a path"),
        ("mysql://u:hunter2@127.0.0.1:port/x", "malformed"),
        # Without the driver, and with it but no server there.
        ("mysql+pymysql://u:hunter2@127.0.0.1:1/x", "Error loading|cannot be read"),
        ("postgresql://u:hunter2@127.0.0.1:1/x", "Error loading|cannot be read"),
    ],
)
def test_what_cannot_be_opened_is_said_without_the_password(bring: Bring, source: str, expected: str) -> None:
    with pytest.raises(CommandError, match=expected) as refused:
        bring(source=source)
    assert "hunter2" not in str(refused.value)


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path, bring: Bring) -> None:
    (tmp_path / "x.db").write_text("this is no database at all, but long enough to be looked at" * 20)
    with pytest.raises(CommandError, match="cannot be read: file is not a database"):
        bring(source=str(tmp_path / "x.db"))


def test_an_unknown_time_zone_is_an_error(bring: Bring) -> None:
    with pytest.raises(CommandError, match="no time zone 'Mars/Base'"):
        bring("--timezone", "Mars/Base")


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "sqlite", reason="the old tables are in a SQLite file")
def test_old_and_new_tables_may_be_in_one_file(bring: Bring) -> None:
    ours = Old(Path(connection.settings_dict["NAME"]))
    ours.run(TABLES)
    try:
        for number in range(120):
            ours.converse("hello", "hi", session=str(uuid.UUID(int=number)))
        assert "120 added" in bring(source=str(ours.path))[0]
        assert "120 unchanged" in bring(source=str(ours.path))[0]
    finally:
        ours.run("DROP TABLE messages; DROP TABLE conversations; DROP TABLE user_configs")


# Users' settings --------------------------------------------------------------------------------------------------


def add_config(old: Old, **row: Any) -> None:
    own = {"custom_api_url": URL, "custom_model": "m", "custom_api_key": KEY}
    old.insert(
        "user_configs", **{"user_identifier": "kim", "current_model_type": "custom", "max_tokens": 100, **own, **row}
    )


def test_an_own_model_comes_over_with_its_key_encrypted(old: Old, bring: Bring) -> None:
    add_config(old)
    bring()
    config = UserConfig.objects.get()
    assert (config.current_model_type, config.custom_api_url, config.custom_model) == ("custom", URL, "m")
    assert config.custom_api_key == KEY
    with connection.cursor() as cursor:
        cursor.execute("SELECT custom_api_key FROM conversations_userconfig")
        assert KEY not in str(cursor.fetchall())


@pytest.mark.parametrize(
    ("row", "kept", "note"),
    [
        ({"custom_api_url": "ftp://x"}, ("", "", "m", ""), "the URL of their own model is left out"),
        ({"custom_api_url": "http://169.254.169.254/latest"}, ("", "", "m", ""), "the URL"),
        ({"custom_api_key": "ключ-secret"}, ("custom", URL, "m", ""), "the key of their own model is left out"),
        ({"custom_api_key": "env:SECRET_KEY"}, ("custom", URL, "m", ""), "for administrators"),
        ({"custom_model": "x" * 201}, ("", URL, "", KEY), "the model name"),
        ({"custom_api_url": "", "current_model_type": "glm"}, ("glm4", "", "m", ""), ""),
        ({"current_model_type": "codegeex"}, ("codegeex", URL, "m", KEY), ""),
    ],
)
def test_what_cannot_be_used_is_left_out_and_told_without_the_key(
    old: Old, bring: Bring, row: dict[str, str], kept: tuple[str, ...], note: str
) -> None:
    add_config(old, **row)
    out, err = bring()
    config = UserConfig.objects.get()
    found = (config.current_model_type, config.custom_api_url, config.custom_model, config.custom_api_key)
    assert found == kept
    assert (note in err) if note else not err
    assert "user 'kim'" in err or not note
    assert not [secret for secret in (KEY, "ключ-secret", "env:SECRET_KEY") if secret in out + err]


@pytest.mark.parametrize(("max_tokens", "kept"), [(1, 1), (131_072, 131_072), (0, None), (131_073, None), (-5, None)])
def test_max_tokens_out_of_range_is_left_to_the_model(
    old: Old, bring: Bring, max_tokens: int, kept: int | None
) -> None:
    add_config(old, max_tokens=max_tokens)
    _out, err = bring()
    assert UserConfig.objects.get().max_tokens == kept
    assert ("max_tokens" in err) is (kept is None)


def test_settings_that_are_here_already_stay(old: Old, bring: Bring) -> None:
    UserConfig.objects.create(user_identifier="kim", current_model_type="local")
    add_config(old)
    assert "1 kept" in bring()[0]
    config = UserConfig.objects.get()
    assert (config.current_model_type, config.custom_api_key) == ("local", "")


def test_an_old_user_never_becomes_an_account_of_ours(old: Old, bring: Bring) -> None:
    old.run("ALTER TABLE conversations ADD COLUMN user_id TEXT")
    old.converse("hello", user_id="user:1")
    add_config(old, user_identifier=" user:1")
    bring()
    assert Conversation.objects.get().user_identifier == "legacy:user:1"
    assert UserConfig.objects.get().user_identifier == "legacy:user:1"


# Values -----------------------------------------------------------------------------------------------------------


@given(st.one_of(st.none(), st.text(), st.binary(), st.integers(), st.floats(), st.datetimes()))
def test_no_value_of_a_column_is_an_error(value: Any) -> None:
    text = values.clean_text(value)
    assert "\x00" not in text
    text.encode()
    at = values.moment(value, UTC)
    assert at is None or at.tzinfo is UTC
    values.session_uuid(text)
    assert not values.identifier(value).startswith("user:")
    assert values.role(value) in {"", "user", "assistant", "system"}


def test_surrogates_are_replaced() -> None:
    assert values.clean_text("a\ud800b") == "a?b"
