"""``manage.py claim_conversations``: an account takes over what an open server kept under a name."""

from __future__ import annotations

import logging
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError

from conversations import services
from conversations.access.rules import Caller
from conversations.models import Attachment, Conversation, Generation, Message, UserConfig
from conversations.services import attachments, items

from .pictures import picture

pytestmark = pytest.mark.django_db


@pytest.fixture
def kim() -> User:
    return User.objects.create_user("kim")


def claim(identifier: str, *more: str, user: str = "kim") -> tuple[str, str]:
    """What the command writes: standard output, standard error."""
    out, err = StringIO(), StringIO()
    call_command("claim_conversations", "--identifier", identifier, "--user", user, *more, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def make(identifier: str, key: str | None = None, owner: User | None = None) -> Generation:
    """A conversation with an answer."""
    whose = {"user_identifier": identifier, "owner": owner}
    conversation = Conversation.objects.create(**whose)
    message = Message.objects.create(conversation=conversation, role="assistant", content="text")
    return Generation.objects.create(
        message=message, status="completed", idempotency_key=key, idempotency_hash="0" if key else "", **whose
    )


def whose(generation: Generation) -> set[tuple[str, Any]]:
    """Whose a generation and its conversation are."""
    generation = Generation.objects.get(pk=generation.pk)
    return {(row.user_identifier, row.owner) for row in (generation, generation.message.conversation)}


def test_everything_of_one_name_becomes_the_account_s(kim: User) -> None:
    mine, also_mine, others, nobodys = make("me"), make("me"), make("you"), make("")
    UserConfig.objects.create(user_identifier="me", custom_model="m")
    out, err = claim("me")
    assert out == "conversations: 2, answers: 2, model settings: 1\n"
    assert err == ""
    account = {(f"user:{kim.pk}", kim)}
    assert whose(mine) == whose(also_mine) == account
    assert whose(others) == {("you", None)}
    assert whose(nobodys) == {("", None)}
    config = UserConfig.objects.get()
    assert (config.user_identifier, config.owner, config.custom_model) == (f"user:{kim.pk}", kim, "m")
    caller = Caller(user_identifier=f"user:{kim.pk}", user=kim)
    session_id = mine.message.conversation.session_id
    assert services.get_conversation(caller=caller, session_id=session_id).owner == kim


def test_attachments_come_along(kim: User) -> None:
    def stored(name: str) -> Attachment:
        return attachments.store_attachment(caller=Caller(user_identifier=name), upload=picture())

    image, others = stored("me"), stored("you")
    claim("me")
    image.refresh_from_db()
    others.refresh_from_db()
    assert (image.user_identifier, image.owner) == (f"user:{kim.pk}", kim)
    assert (others.user_identifier, others.owner) == ("you", None)


def test_an_image_goes_with_its_conversation_whatever_name_it_was_sent_under(kim: User) -> None:
    """On an open server one may send an image without a name, or with another, and then chat as somebody."""
    one = Caller(sees_all=True)
    image = attachments.store_attachment(caller=one, upload=picture())
    mine = Conversation.objects.create(user_identifier="me")
    shown = services.Beginning(None, [services.by_user("Look.", [image.pk])])
    items.add_items(caller=one, session_id=mine.session_id, beginning=shown)

    claim("", user=User.objects.create_user("lee").username)
    image.refresh_from_db()
    assert image.user_identifier == ""
    claim("me")
    assert attachments.get_attachment(caller=Caller.of(kim), attachment_id=image.pk).owner == kim


def test_what_was_nobodys_can_be_claimed(kim: User) -> None:
    nobodys, others = make(""), make("you")
    assert claim("")[0].startswith("conversations: 1,")
    assert whose(nobodys) == {(f"user:{kim.pk}", kim)}
    assert whose(others) == {("you", None)}


def test_once_more_moves_what_is_new(kim: User) -> None:
    make("me")
    claim("me")
    assert claim("me") == ("conversations: 0, answers: 0, model settings: 0\n", "")
    new = make("me")
    assert claim("me")[0].startswith("conversations: 1,")
    assert whose(new) == {(f"user:{kim.pk}", kim)}


def test_a_dry_run_counts_and_moves_nothing(kim: User, caplog: pytest.LogCaptureFixture) -> None:
    mine = make("me", "key")
    make(f"user:{kim.pk}", "key", kim)
    UserConfig.objects.create(user_identifier="me")
    with caplog.at_level(logging.INFO, "conversations.audit"):
        out, err = claim("me", "--dry-run")
    assert "nothing was moved" in err
    assert "claimed" not in caplog.text
    assert whose(mine) == {("me", None)}
    mine.refresh_from_db()
    assert mine.idempotency_key == "key"
    assert UserConfig.objects.get().owner is None
    assert claim("me")[0] == out


def test_the_account_keeps_its_own_settings(kim: User) -> None:
    UserConfig.objects.create(user_identifier="me", custom_model="theirs")
    UserConfig.objects.create(user_identifier=f"user:{kim.pk}", owner=kim, custom_model="mine")
    out, err = claim("me")
    assert out.endswith("model settings: 0\n")
    assert "keeps its own" in err
    assert UserConfig.objects.get(owner=kim).custom_model == "mine"
    assert UserConfig.objects.get(user_identifier="me").custom_model == "theirs"


def test_idempotency_keys_that_both_used_stay_with_the_account(kim: User) -> None:
    own = make(f"user:{kim.pk}", "both", kim)
    clashing, free, without = make("me", "both"), make("me", "mine"), make("me")
    _out, err = claim("me")
    assert "dropped: 1" in err
    keys = {row.pk: (row.idempotency_key, row.idempotency_hash) for row in Generation.objects.all()}
    assert keys == {own.pk: ("both", "0"), clashing.pk: (None, ""), free.pk: ("mine", "0"), without.pk: (None, "")}


def test_clients_names_that_both_have_stay_with_the_account(kim: User) -> None:
    account = {"user_identifier": f"user:{kim.pk}", "owner": kim}
    own = Conversation.objects.create(client_id="both", **account)
    clashing, free = (Conversation.objects.create(user_identifier="me", client_id=name) for name in ("both", "mine"))
    _out, err = claim("me")
    assert "have themselves were dropped: 1" in err
    names = dict(Conversation.objects.filter(**account).values_list("pk", "client_id"))
    assert names == {own.pk: "both", clashing.pk: None, free.pk: "mine"}


def test_many_keys_are_compared(kim: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conversations.management.commands.claim_conversations.BATCH", 2)
    for number in range(5):
        make("me", f"key {number}")
        make(f"user:{kim.pk}", f"key {number}", kim)
    assert "dropped: 5" in claim("me")[1]


def test_too_many_conversations_are_announced(kim: User, settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "KEEP_LATEST": 1}
    make("me")
    assert claim("me")[1] == ""
    make("me")
    assert "has 2 conversations now; pruning will keep the newest 1" in claim("me")[1]


def test_it_is_told_to_the_audit_log(kim: User, caplog: pytest.LogCaptureFixture) -> None:
    make("me\n")
    with caplog.at_level(logging.INFO, "conversations.audit"):
        claim("me\n")
    assert f"1 conversations of 'me\\n', and the settings, were claimed for user {kim.pk}" in caplog.text


def test_what_is_an_account_s_cannot_be_claimed(kim: User) -> None:
    lee = User.objects.create_user("lee")
    theirs = make(f"user:{lee.pk}", owner=lee)
    with pytest.raises(CommandError, match="is an account's"):
        claim(f"user:{lee.pk}")
    assert whose(theirs) == {(f"user:{lee.pk}", lee)}


def test_the_account_has_to_exist() -> None:
    mine = make("me")
    with pytest.raises(CommandError, match="no account 'kim'"):
        claim("me")
    assert whose(mine) == {("me", None)}
