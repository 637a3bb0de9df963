"""``manage.py chat`` where everybody has to log in: as an account, with all that counts for it over the API."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.upstream import ScriptedUpstream

from .test_chat_command import MANAGE, ROOT, chat, environ, migrated, session_of  # noqa: F401 (fixtures)

pytestmark = pytest.mark.usefixtures("accounts")
Environ = dict[str, str]
SETUP = """
from django.contrib.auth.models import User
User.objects.create_user("ann")
User.objects.create_user("ben")
User.objects.create_user("gone", is_active=False)
User.objects.create_user("o'hara -x")
"""
ROWS = """
import json
from conversations.models import Conversation
rows = Conversation.objects.order_by("pk")
print(json.dumps([[row.owner and row.owner.username, row.user_identifier, row.system_prompt] for row in rows]))
"""
CONFIG = """
from django.contrib.auth.models import User
from conversations.models import UserConfig
ann = User.objects.get(username="ann")
UserConfig.objects.create(user_identifier=f"user:{ann.pk}", owner=ann, """
SPENT = """
from conversations.models import TokenBudget
print(sum(row.spent for row in TokenBudget.objects.all()))
"""


def shell(environ: Environ, code: str) -> str:  # noqa: F811
    command = [*MANAGE, "shell", "-v0", "-c", code]
    return subprocess.run(command, env=environ, check=True, capture_output=True, text=True, cwd=ROOT).stdout


@pytest.fixture
def accounts(environ: Environ) -> None:  # noqa: F811
    environ["REQUIRE_LOGIN"] = "true"
    shell(environ, SETUP)


def rows(environ: Environ) -> Any:  # noqa: F811
    return json.loads(shell(environ, ROWS))


def test_a_conversation_is_the_accounts(environ: Environ) -> None:  # noqa: F811
    done = chat(environ, "--user", "ann", "--system", "Be brief.", "hi")
    assert (done.returncode, done.stdout) == (0, "You said: hi (0 earlier messages)\n")
    [[owner, identifier, system]] = rows(environ)
    assert (owner, identifier, system) == ("ann", f"user:{user_pk(environ)}", "Be brief.")


def user_pk(environ: Environ) -> str:  # noqa: F811
    return shell(
        environ, "from django.contrib.auth.models import User; print(User.objects.get(username='ann').pk)"
    ).strip()


def test_an_account_goes_on_with_its_own_conversations_only(environ: Environ) -> None:  # noqa: F811
    done = chat(environ, "--user", "ann", "one")
    session = session_of(done.stderr)
    assert f"manage.py chat --user ann --session {session}" in done.stderr
    assert chat(environ, "--user", "ann", "--session", session, "two").stdout.endswith("(2 earlier messages)\n")
    other = chat(environ, "--user", "ben", "--session", session, "three")
    assert (other.returncode, other.stdout) == (1, "")
    assert f"There is no session {session}" in other.stderr


def test_its_settings_choose_the_model(environ: Environ, upstream_thread: ScriptedUpstream) -> None:  # noqa: F811
    environ["ALLOWED_UPSTREAM_HOSTS"] = "127.0.0.1"
    values = f"current_model_type='custom', custom_api_url={upstream_thread.url!r}, custom_model='anns-own'"
    shell(environ, f"{CONFIG}{values})")
    done = chat(environ, "--user", "ann", "hi")
    assert "Chatting with anns-own" in done.stderr
    assert upstream_thread.completions[0].body["model"] == "anns-own"


def test_its_budget_is_spent_and_ends(environ: Environ, upstream_thread: ScriptedUpstream) -> None:  # noqa: F811
    environ["TOKENS_PER_DAY"] = "3000"
    assert chat(environ, "--user", "ann", "hi").returncode == 0
    assert int(shell(environ, SPENT)) > 0
    environ["TOKENS_PER_DAY"] = "1"
    done = chat(environ, "--user", "ann", "hi")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    assert upstream_thread.calls == 1


def test_its_requests_count(environ: Environ) -> None:  # noqa: F811
    environ["RATE_LIMIT"] = "2/minute"
    done = chat(environ, "--user", "ann", lines="one\ntwo\nthree\n")
    assert done.stdout.count("You said: ") == 2
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--user", "nobody", "hi"], "There is no account 'nobody'."),
        (["--user", "", "hi"], "There is no account ''."),
        (["--user", "gone", "hi"], "The account 'gone' is not active."),
        (["--user-id", "ann", "hi"], "use --user."),
        (["--user-id", "", "hi"], "use --user."),
        (["--user", "ann", "--user-id", "ann", "hi"], "not allowed with argument"),
    ],
)
def test_who_it_cannot_be_is_said_in_one_line(environ: Environ, arguments: list[str], expected: str) -> None:  # noqa: F811
    done = chat(environ, *arguments)
    assert done.returncode != 0
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert rows(environ) == []


def test_a_name_is_quoted_where_it_has_to_be(environ: Environ) -> None:  # noqa: F811
    done = chat(environ, "--user=o'hara -x", "hi")
    assert """manage.py chat --user 'o'"'"'hara -x' --session""" in done.stderr


def test_without_login_there_are_no_accounts(environ: Environ) -> None:  # noqa: F811
    environ["REQUIRE_LOGIN"] = "false"
    done = chat(environ, "--user", "ann", "hi")
    assert done.returncode == 1
    assert "use --user-id." in done.stderr
    assert rows(environ) == []
