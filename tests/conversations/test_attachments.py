"""Attachments over real sockets: sent, shown to their owner alone, counted, deleted."""

from __future__ import annotations

import base64
import uuid
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from threading import Barrier, Event, Semaphore
from typing import Any

import httpx
import pytest
from django.core.files.storage import storages
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from PIL import Image

from conversations import conf
from conversations.access.rules import Caller
from conversations.exceptions import AttachmentQuota, UnknownAttachment, UnsupportedImage
from conversations.files import storage
from conversations.models import Attachment, Conversation, Message
from conversations.rest import attachments as door
from conversations.services import attachments, beginnings
from tests.conftest import Server

from . import pictures
from .accounts import bearer, key_of, make_key, make_session, make_user, require_login, session_of
from .attaching import a_message_with, file_names, send, stored
from .calling import until


def outcome(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_an_image_is_sent_and_got_back(client: httpx.Client) -> None:
    sent = send(client, pictures.picture("PNG", (30, 20)))
    body = sent.json()
    assert sent.status_code == 201
    assert body == {
        "id": body["id"],
        "content_type": "image/png",
        "width": 30,
        "height": 20,
        "bytes": body["bytes"],
        "url": f"/attachments/{body['id']}",
    }
    assert sent.headers["Location"] == body["url"]
    got = client.get(body["url"])
    assert (got.status_code, len(got.content)) == (200, body["bytes"])
    assert Image.open(BytesIO(got.content)).size == (30, 20)


def test_it_is_served_so_that_it_can_do_no_harm(client: httpx.Client) -> None:
    body = send(client, pictures.jpeg_with_html(), name="evil.html").json()
    got = client.get(body["url"])
    assert got.headers["Content-Type"] == body["content_type"] == "image/jpeg"
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    assert got.headers["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    assert got.headers["Content-Disposition"] == f'inline; filename="{body["id"]}.jpg"'
    assert got.headers["Cache-Control"] == "private, no-cache"
    assert {"Authorization", "Cookie"} <= {name.strip() for name in got.headers["Vary"].split(",")}
    assert b"canary" not in got.content


def test_head_says_the_same_and_sends_nothing(client: httpx.Client) -> None:
    url = send(client, pictures.picture()).json()["url"]
    got, head = client.get(url), client.head(url)
    own = {"date", "x-request-id"}
    assert {name: value for name, value in head.headers.items() if name not in own} == {
        name: value for name, value in got.headers.items() if name not in own
    }
    assert (head.status_code, head.content) == (200, b"")


def test_a_browser_that_has_it_gets_it_no_second_time(client: httpx.Client) -> None:
    url = send(client, pictures.picture()).json()["url"]
    again = client.get(url, headers={"If-None-Match": client.get(url).headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    client.delete(url)
    assert client.get(url, headers={"If-None-Match": again.headers["ETag"]}).status_code == 404


def test_names_of_files_are_random(client: httpx.Client) -> None:
    before = file_names()
    body = send(client, pictures.picture(), name="../../canary/passwd.png").json()
    (name,) = file_names() - before
    assert "canary" not in name
    assert "passwd" not in name
    assert body["id"].replace("-", "") not in name


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"hello", "unsupported_image"),
        (pictures.SVG, "unsupported_image"),
        (pictures.noise("JPEG", (99, 99))[:700], "unsupported_image"),
        (pictures.picture("TIFF"), "unsupported_image"),
        (pictures.png_that_says(60_000, 60_000), "image_too_large"),
    ],
    ids=["text", "SVG", "half", "TIFF", "pixels"],
)
def test_what_is_refused_changes_nothing(client: httpx.Client, content: bytes, code: str) -> None:
    before = file_names()
    assert outcome(send(client, content)) == (400, code)
    assert not Attachment.objects.exists()
    assert file_names() == before


FORMS: dict[str, dict[str, Any]] = {
    "nothing": {
        "files": {},
        "data": {"user_id": "kim"},
        "headers": {"Content-Type": "multipart/form-data; boundary=x"},
    },
    "another field": {"files": {"image": ("a.png", pictures.picture())}},
    "two": {"files": [("file", ("a.png", pictures.picture())), ("file", ("b.png", pictures.picture()))]},
    "a file beside it": {"files": [("file", ("a.png", pictures.picture())), ("b", ("b.png", pictures.picture()))]},
    "a text": {"files": {"file": (None, "hello")}},
    "an empty one": {"files": {"file": ("a.png", b"")}},
    "an unknown field": {"files": {"file": ("a.png", pictures.picture())}, "data": {"title": "cat"}},
    "a field twice": {"files": {"file": ("a.png", pictures.picture())}, "data": {"user_id": ["kim", "lee"]}},
    "no boundary": {"content": b"--x", "headers": {"Content-Type": "multipart/form-data"}},
    "odd parameters": {
        "content": b'--x\r\nContent-Disposition: form-data; name="file"; a*=x; a*0=y\r\n\r\nabc\r\n--x--',
        "headers": {"Content-Type": "multipart/form-data; boundary=x"},
    },
    "no form": {"content": b"garbage", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
    "a thousand fields": {
        "files": {"file": ("a.png", pictures.picture()), **{f"f{i}": (None, "") for i in range(1500)}}
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_any_other_form_is_refused(client: httpx.Client, form: str) -> None:
    assert outcome(client.post("/attachments", **FORMS[form])) == (400, "invalid")
    assert not Attachment.objects.exists()


def test_an_empty_file_is_told_so(client: httpx.Client) -> None:
    assert send(client, b"").json()["errors"] == {"file": ["This file is empty."]}


@pytest.mark.parametrize("kind", ["application/json", "image/png", "application/x-www-form-urlencoded", ""])
def test_what_is_no_form_is_told_what_to_send(client: httpx.Client, kind: str) -> None:
    refused = client.post("/attachments", content=pictures.picture(), headers={"Content-Type": kind})
    assert outcome(refused) == (415, "unsupported_media_type")
    assert "multipart/form-data" in refused.json()["detail"]


def test_deleted_is_gone_with_its_file(client: httpx.Client) -> None:
    before = file_names()
    url = send(client, pictures.picture()).json()["url"]
    assert client.delete(url).status_code == 204
    assert outcome(client.get(url)) == (404, "not_found")
    assert outcome(client.delete(url)) == (404, "not_found")
    until(lambda: not file_names() - before)


def test_one_in_a_message_is_not_deleted_by_itself(client: httpx.Client) -> None:
    body = send(client, pictures.picture()).json()
    a_message_with(body["id"])
    assert outcome(client.delete(body["url"])) == (409, "attachment_in_use")
    assert client.get(body["url"]).status_code == 200


# Whose it is --------------------------------------------------------------------------------------------------
def test_anothers_is_not_there(client: httpx.Client, settings: Any) -> None:
    require_login(settings)
    kim, lee = make_user("kim"), make_user("lee")
    body = send(client, pictures.picture(), headers=key_of(kim)).json()
    for who in (key_of(lee), session_of(lee), session_of(make_user("root", is_superuser=True, is_staff=True))):
        assert outcome(client.get(body["url"], headers=who)) == (404, "not_found")
        assert outcome(client.delete(body["url"], headers=who)) == (404, "not_found")
    assert client.get(body["url"]).status_code == 401
    assert client.get(body["url"], headers=key_of(kim)).status_code == 200


def test_a_page_sends_with_its_session_and_token(client: httpx.Client, settings: Any) -> None:
    """The token in the header: one in the form is not looked at, which would be read before anybody is asked."""
    require_login(settings)
    who = session_of(make_user("kim"))
    assert send(client, pictures.picture(), headers=who).status_code == 201
    token = who.pop("X-CSRFToken")
    assert outcome(send(client, pictures.picture(), headers=who)) == (403, "csrf_failed")
    form = {"csrfmiddlewaretoken": token}
    assert outcome(send(client, pictures.picture(), headers=who, data=form)) == (403, "csrf_failed")


def test_on_an_open_server_the_label_is_the_owner(client: httpx.Client) -> None:
    body = send(client, pictures.picture(), data={"user_id": "kim"}).json()
    assert Attachment.objects.get(pk=body["id"]).user_identifier == "kim"
    assert outcome(send(client, pictures.picture(), data={"user_id": "user:1"})) == (400, "invalid")


def test_with_login_nobody_sends_for_another(client: httpx.Client, settings: Any) -> None:
    require_login(settings)
    who = key_of(make_user("kim"))
    assert outcome(send(client, pictures.picture(), headers=who, data={"user_id": "lee"})) == (403, "forbidden")
    assert not Attachment.objects.exists()


# Quotas -------------------------------------------------------------------------------------------------------
def at_once(server: Server, count: int, content: bytes, **options: Any) -> list[httpx.Response]:
    with ThreadPoolExecutor(count) as pool, httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
        sent = [pool.submit(send, client, content, **options) for _number in range(count)]
        return [future.result() for future in sent]


@pytest.mark.parametrize("login", [False, True], ids=["open", "login"])
@pytest.mark.parametrize("by", ["files", "bytes"])
def test_a_quota_holds_under_fifty_at_once(server: Server, settings: Any, login: bool, by: str) -> None:
    content = pictures.picture()
    size = len(content)
    limit = {"ATTACHMENTS_PER_OWNER": 7} if by == "files" else {"ATTACHMENT_BYTES_PER_OWNER": 8 * size - 1}
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, **limit}
    before, options = file_names(), {}
    if login:
        require_login(settings)
        options["headers"] = bearer(make_key(make_user("kim")))
    answers = at_once(server, 50, content, **options)
    assert sorted({answer.status_code for answer in answers}) == [201, 413]
    assert [answer.status_code for answer in answers].count(201) == 7 == Attachment.objects.count()
    refused = {answer.json()["code"] for answer in answers if answer.status_code == 413}
    assert refused == {"attachment_quota"}
    until(lambda: len(file_names() - before) == 7)


@pytest.mark.parametrize("login", [False, True], ids=["open", "login"])
def test_a_quota_holds_among_processes(
    presets: None, settings: Any, monkeypatch: pytest.MonkeyPatch, login: bool
) -> None:
    """As many threads as processes, each past its first look when the first is counted."""
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "ATTACHMENTS_PER_OWNER": 3}
    caller = Caller.of(make_user("kim")) if login else Caller(user_identifier="kim")
    together, write = Barrier(8), storage.write

    def write_together(picture: Any) -> Any:
        note = write(picture)
        together.wait(20)
        return note

    def store(_number: int) -> bool:
        try:
            attachments.store_attachment(caller=caller, upload=pictures.picture())
        except AttachmentQuota:
            return False
        finally:
            connections.close_all()
        return True

    monkeypatch.setattr(storage, "write", write_together)
    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(store, range(8))) == [False] * 5 + [True] * 3
    assert Attachment.objects.count() == 3
    storage.sweep()


def test_a_quota_is_each_owners_own_and_there_is_room_again_after_a_deletion(
    client: httpx.Client, settings: Any
) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "ATTACHMENTS_PER_OWNER": 1}
    first = send(client, pictures.picture(), data={"user_id": "kim"})
    assert outcome(send(client, pictures.picture(), data={"user_id": "kim"})) == (413, "attachment_quota")
    assert send(client, pictures.picture(), data={"user_id": "lee"}).status_code == 201
    client.delete(first.json()["url"])
    assert send(client, pictures.picture(), data={"user_id": "kim"}).status_code == 201


def test_what_is_used_is_shown(client: httpx.Client) -> None:
    size = send(client, pictures.picture()).json()["bytes"]
    shown = client.get("/api/limits").json()["attachments"]
    assert shown == {"limit": 209_715_200, "bytes": size, "files_limit": 2_000, "files": 1}


def test_a_quota_of_zero_is_none(client: httpx.Client, settings: Any) -> None:
    none = {"ATTACHMENTS_PER_OWNER": 0, "ATTACHMENT_BYTES_PER_OWNER": 0}
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, **none}
    assert send(client, pictures.picture()).status_code == 201


# The verbs of who stores messages -----------------------------------------------------------------------------
@pytest.fixture
def kim(in_transaction: None) -> Caller:
    return Caller.of(make_user("kim"))


def test_a_message_takes_attachments_in_their_order(kim: Caller) -> None:
    first, second = stored(kim), stored(kim)
    conversation = Conversation.objects.create(user_identifier=kim.user_identifier)
    message = Message.objects.create(conversation=conversation, role="user")
    taken = attachments.take(ids=[second.pk, first.pk], caller=kim, conversation=conversation)
    attachments.use({message.pk: [each.pk for each in taken]})
    assert taken == [second, first]
    assert set(Attachment.objects.filter(uses__message=message)) == {first, second}
    assert not Attachment.objects.exclude(expires_at=None).exists()


def test_a_message_that_is_edited_takes_them_again_and_no_other_conversation_does(kim: Caller) -> None:
    image = stored(kim)
    conversation, other = (Conversation.objects.create(user_identifier=kim.user_identifier) for _number in range(2))
    for _time in range(2):
        a_message_with(str(image.pk), conversation=conversation, caller=kim)
    with pytest.raises(UnknownAttachment):
        attachments.take(ids=[image.pk], caller=kim, conversation=other)


def test_many_messages_take_theirs_in_as_many_statements_as_one(kim: Caller) -> None:
    def statements(*shown: list[Attachment]) -> int:
        conversation = Conversation.objects.create(user_identifier=kim.user_identifier)
        said = [beginnings.by_user("Look!", [image.pk for image in images]) for images in shown]
        with CaptureQueriesContext(connection) as queries:
            beginnings.add(said, conversation, kim)
        for message, images in zip(conversation.messages.order_by("pk"), shown, strict=True):
            assert set(Attachment.objects.filter(uses__message=message)) == set(images)
        return sum("conversations_attachment" in query["sql"] for query in queries)

    assert 0 < statements([stored(kim)]) == statements([stored(kim), stored(kim)], [], [stored(kim)], [stored(kim)])


def test_what_cannot_be_taken_is_refused_and_nothing_is_taken(kim: Caller) -> None:
    lee = Caller.of(make_user("lee"))
    mine, anothers = stored(kim), stored(lee)
    conversation = Conversation.objects.create(user_identifier=kim.user_identifier)
    for wrong in (anothers.pk, uuid.uuid4()):
        with pytest.raises(UnknownAttachment) as refused:
            attachments.take(ids=[mine.pk, wrong], caller=kim, conversation=conversation)
        assert (refused.value.status, refused.value.code) == (404, "unknown_attachment")
    assert not Attachment.objects.exclude(conversation=None).exists()


def test_those_of_a_hidden_conversation_are_nobodys(kim: Caller) -> None:
    image = stored(kim)
    hidden = Conversation.objects.create(user_identifier=kim.user_identifier, is_hidden=True)
    Attachment.objects.filter(pk=image.pk).update(conversation=hidden)
    assert not Attachment.objects.for_owner(kim).exists()


def test_a_model_gets_a_data_url(kim: Caller) -> None:
    image = stored(kim, kind="WEBP")
    head, _comma, content = attachments.data_url(image).partition(",")
    assert head == "data:image/webp;base64"
    assert base64.b64decode(content) == attachments.content_of(image)


def test_a_data_url_becomes_an_attachment(kim: Caller) -> None:
    url = pictures.data_url(pictures.jpeg_with_html(), "jpeg")
    image = attachments.store_data_url(caller=kim, url=url)
    assert (image.content_type, image.width) == ("image/jpeg", 8)
    assert b"canary" not in attachments.content_of(image)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/cat.png",
        "file:///etc/passwd",
        "data:image/png,plain",
        "data:image/png;base64,!!!!",
        "data:image/png;base64,é",
        "data:text/html;base64,PGI+",
        pictures.data_url(pictures.SVG, "svg+xml"),
        "data:image/png;base64,",
        "",
    ],
)
def test_no_other_url_does(kim: Caller, url: str) -> None:
    with pytest.raises(UnsupportedImage):
        attachments.store_data_url(caller=kim, url=url)
    assert not Attachment.objects.exists()


def test_a_file_that_the_storage_has_lost_is_not_found(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    url = send(client, pictures.picture()).json()["url"]
    storages["attachments"].delete(Attachment.objects.get().file)
    assert outcome(client.get(url)) == (404, "not_found")
    assert "is gone" in caplog.text


def test_a_storage_that_hangs_holds_up_nothing_else(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    url = send(client, pictures.picture()).json()["url"]
    readers, back = conf.get().DB_THREADS, Event()
    asked = Semaphore(0)

    def hang(_attachment: Attachment) -> bytes:
        asked.release()
        back.wait(20)
        return b""

    monkeypatch.setattr(storage, "read", hang)
    monkeypatch.setattr(door, "READ_SECONDS", 2.0)
    with ThreadPoolExecutor(readers) as pool:
        try:
            waiting = [pool.submit(client.get, url) for _number in range(readers)]
            assert asked.acquire(timeout=20)
            assert client.get("/conversations", timeout=10).status_code == 200
            answers = [future.result() for future in waiting]
            assert {outcome(answer) for answer in answers} == {(503, "server_busy")}
            assert answers[0].headers["Retry-After"]
        finally:
            back.set()


def test_a_session_may_end_between_two_looks(client: httpx.Client, settings: Any) -> None:
    """What a browser kept it may show no longer: it asks, and is refused."""
    require_login(settings)
    kim = make_user("kim")
    who = session_of(kim)
    sent = send(client, pictures.picture(), headers=who).json()
    etag = client.get(sent["url"], headers=who).headers["ETag"]
    make_session(kim)
    kim.set_password("another one")
    kim.save()
    assert client.get(sent["url"], headers={**who, "If-None-Match": etag}).status_code == 401
