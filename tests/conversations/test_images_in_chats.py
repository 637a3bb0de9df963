"""Images in chats: attached to a message, shown to the model, kept with the conversation, over every door."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import BytesIO
from threading import Event
from typing import Any
from uuid import UUID

import httpx
import pytest
from django.core.files.storage import storages
from django.utils import timezone
from PIL import Image
from websockets.sync.client import connect

from conversations.access.rules import Caller
from conversations.database import db
from conversations.engine.supervisor import Supervisor
from conversations.exceptions import InvalidRequest
from conversations.files import images
from conversations.models import Attachment, Conversation, Message
from conversations.web import images as incoming
from llmproviders.models import Preset
from tests.conftest import Server
from tests.reliability.truth import consistent
from tests.upstream import ScriptedUpstream, answer, status

from . import pictures
from .accounts import key_of, make_user, require_login
from .attaching import send
from .helpers import Socket, Stream, chat, history, stream


def attached(client: httpx.Client, size: tuple[int, int] = (8, 6), **options: Any) -> str:
    sent = send(client, pictures.picture("PNG", size), **options)
    assert sent.status_code == 201
    key: str = sent.json()["id"]
    return key


def show(client: httpx.Client, *keys: str, **body: Any) -> Stream:
    return stream(client, "POST", "/chat", json={"attachments": list(keys), **body})


def seen(model: ScriptedUpstream, number: int = -1) -> list[tuple[int, int]]:
    """The sizes of the images that the model got with a message."""
    content = model.requests[-1].body["messages"][number]["content"]
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    return [Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))).size for url in urls]


def test_a_message_shows_images_to_the_model_and_keeps_them(client: httpx.Client, model: ScriptedUpstream) -> None:
    first, second = attached(client, (8, 6)), attached(client, (5, 4))
    live = show(client, first, second, message="What is this?")
    consistent(client, live)
    assert seen(model) == [(8, 6), (5, 4)]
    assert model.requests[-1].body["messages"][-1]["content"][-1] == {"type": "text", "text": "What is this?"}
    question = history(client, live.done["session_id"])[0]
    known = {"type": "image", "content_type": "image/png"}
    images = [
        {**known, "attachment_id": first, "width": 8, "height": 6},
        {**known, "attachment_id": second, "width": 5, "height": 4},
    ]
    assert question["parts"] == [*images, {"type": "text", "text": "What is this?"}]
    assert question["content"] == "What is this?"
    chat(client, "And now?", session_id=live.done["session_id"])
    assert seen(model, 0) == [(8, 6), (5, 4)]
    assert client.delete(f"/attachments/{first}").json()["code"] == "attachment_in_use"


def test_an_image_alone_is_a_message(client: httpx.Client, model: ScriptedUpstream) -> None:
    done = show(client, attached(client)).done
    assert seen(model) == [(8, 6)]
    question = history(client, done["session_id"])[0]
    assert (question["content"], len(question["parts"])) == ("", 1)
    chat(client, "A word", session_id=done["session_id"])
    assert client.get(f"/conversations/{done['session_id']}").json()["title"] == "A word"


def test_what_is_edited_and_answered_again_has_them_still(client: httpx.Client, model: ScriptedUpstream) -> None:
    key = attached(client)
    done = show(client, key, message="one").done
    stream(client, "POST", f"/messages/{done['message_id']}/regenerate", json={})
    assert seen(model) == [(8, 6)]
    show(client, key, message="two", session_id=done["session_id"], parent_id=None)
    assert seen(model) == [(8, 6)]
    other = client.post("/chat", json={"message": "hi", "attachments": [key]})
    assert (other.status_code, other.json()["code"]) == (404, "unknown_attachment")
    client.delete(f"/conversations/{done['session_id']}")
    assert not Attachment.objects.exists()


def test_over_the_socket_as_over_rest(server: Server, client: httpx.Client, model: ScriptedUpstream) -> None:
    with connect(server.ws_url, proxy=None) as connection:
        socket = Socket(connection)
        socket.send(type="chat", id="x", attachments=[attached(client)])
        consistent(client, socket.reply("x")[1:])
    assert seen(model) == [(8, 6)]


@pytest.mark.parametrize("key", ["x", "00000000-0000-4000-8000-000000000000"])
def test_what_is_not_there_is_refused_and_nothing_is_stored(
    client: httpx.Client, model: ScriptedUpstream, key: str
) -> None:
    refused = client.post("/chat", json={"message": "hi", "attachments": [attached(client), key]})
    assert (refused.status_code, refused.json()["code"]) == (404, "unknown_attachment")
    assert not Message.objects.exists()
    assert Attachment.objects.get().conversation is None
    assert model.calls == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"attachments": []}, "message"),
        ({"attachments": "x"}, "attachments"),
        ({"attachments": ["00000000-0000-4000-8000-000000000000"] * 11}, "attachments"),
        ({"attachments": ["x"], "tool_results": [{"id": "a", "content": "b"}]}, "tool_results"),
    ],
)
def test_what_is_wrong_is_named(client: httpx.Client, body: dict[str, Any], field: str) -> None:
    if "tool_results" in body:
        body = {**body, "attachments": [attached(client)]}
    refused = client.post("/chat", json=body)
    assert (refused.status_code, list(refused.json()["errors"])) == (400, [field])


def test_anothers_image_is_not_there(client: httpx.Client, model: ScriptedUpstream, settings: Any) -> None:
    require_login(settings)
    kim, lee = (key_of(make_user(name)) for name in ("kim", "lee"))
    key = attached(client, headers=kim)
    refused = client.post("/chat", json={"attachments": [key]}, headers=lee)
    assert (refused.status_code, refused.json()["code"]) == (404, "unknown_attachment")
    assert stream(client, "POST", "/chat", json={"attachments": [key]}, headers=kim).done["status"] == "completed"


def test_a_model_that_takes_none_is_not_shown_any(client: httpx.Client, model: ScriptedUpstream) -> None:
    Preset.objects.create(type="blind", name="B", api_url=model.url, model="m", takes_images=False)
    key = attached(client)
    refused = client.post("/chat", json={"attachments": [key], "model_type": "blind"})
    assert (refused.json()["code"], list(refused.json()["errors"])) == ("images_not_supported", ["attachments"])
    assert not Conversation.objects.exists()
    done = show(client, key, message="What is this?").done
    chat(client, "And now?", session_id=done["session_id"], model_type="blind")
    assert model.requests[-1].body["messages"][0] == {"role": "user", "content": "What is this?"}


def test_who_answers_instead_sees_them_or_is_not_asked(client: httpx.Client, model: ScriptedUpstream) -> None:
    Preset.objects.create(type="blind", name="B", api_url=model.url, model="blind", takes_images=False)
    Preset.objects.create(type="sees", name="S", api_url=model.url, model="sees")
    Preset.objects.create(type="first", name="F", api_url=model.url, model="m", fallbacks="blind sees")
    model.script = [status(401, {"error": {"message": "no"}}), answer("a cat")]
    live = show(client, attached(client), message="What is this?", model_type="first")
    assert (live.text, model.requests[-1].body["model"], seen(model)) == ("a cat", "sees", [(8, 6)])


def test_one_whose_file_is_lost_is_left_out(client: httpx.Client, model: ScriptedUpstream) -> None:
    key = attached(client)
    storages["attachments"].delete(Attachment.objects.get().file)
    live = show(client, key, message="What is this?")
    assert live.done["status"] == "completed"
    assert seen(model) == []


def test_an_image_takes_of_the_window(client: httpx.Client, model: ScriptedUpstream) -> None:
    Preset.objects.create(type="small", name="S", api_url=model.url, model="m", context_window=900)
    refused = client.post("/chat", json={"attachments": [attached(client)], "model_type": "small"})
    assert (refused.status_code, refused.json()["code"]) == (400, "context_length")


# Of OpenAI's API ----------------------------------------------------------------------------------------------------
def data_url(size: tuple[int, int] = (8, 6)) -> str:
    return pictures.data_url(pictures.picture("PNG", size))


def user(text: str, *sizes: tuple[int, int]) -> dict[str, Any]:
    """A user's message of a completion, with images."""
    shown = [{"type": "image_url", "image_url": {"url": data_url(size)}} for size in sizes]
    return {"role": "user", "content": [{"type": "text", "text": text}, *shown]}


def complete(client: httpx.Client, *messages: dict[str, Any], **body: Any) -> httpx.Response:
    """A stored completion."""
    headers = body.pop("headers", {})
    body = {"model": "default", "messages": messages, "store": True, **body}
    return client.post("/v1/chat/completions", json=body, headers=headers)


def respond(client: httpx.Client, *messages: dict[str, Any], **body: Any) -> httpx.Response:
    """The same as a response."""
    items = [
        {
            "role": message["role"],
            "content": [
                {"type": "input_text", "text": part["text"]}
                if part["type"] == "text"
                else {"type": "input_image", "image_url": part["image_url"]["url"]}
                for part in message["content"]
            ],
        }
        for message in messages
    ]
    headers = body.pop("headers", {})
    return client.post("/v1/responses", json={"model": "default", "input": items, **body}, headers=headers)


def test_a_stored_completion_keeps_its_images(client: httpx.Client, model: ScriptedUpstream) -> None:
    told = complete(client, user("one", (8, 6)), {"role": "assistant", "content": "yes"}, user("two", (5, 4)))
    assert told.status_code == 200, told.text
    assert (seen(model, 0), seen(model)) == ([(8, 6)], [(5, 4)])
    said = history(client, told.headers["X-Session-Id"])
    assert [len(message["parts"] or ()) for message in said] == [2, 0, 2, 0]
    assert Attachment.objects.filter(conversation__isnull=False).count() == 2


def test_a_response_keeps_its_images(client: httpx.Client, model: ScriptedUpstream) -> None:
    first = respond(client, user("What is this?", (8, 6))).json()
    assert (first["store"], seen(model)) == (True, [(8, 6)])
    client.post("/v1/responses", json={"model": "default", "input": "And?", "previous_response_id": first["id"]})
    assert seen(model, 0) == [(8, 6)]
    (item,) = client.get(f"/v1/responses/{first['id']}/input_items").json()["data"]
    attachment = Attachment.objects.get()
    assert item["content"] == [
        {"type": "input_image", "file_id": str(attachment.pk), "image_url": None, "detail": "auto"},
        {"type": "input_text", "text": "What is this?"},
    ]


def test_what_is_no_image_is_refused(client: httpx.Client, model: ScriptedUpstream) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUFB"}}
    body = {"model": "default", "messages": [{"role": "user", "content": [image]}], "store": True}
    refused = client.post("/v1/chat/completions", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported_image")
    assert not Conversation.objects.exists()


def test_of_a_conversation_that_is_there_only_the_last_messages_images_are_kept(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    first = complete(client, user("one", (8, 6)))
    place = {"metadata": {"session_id": first.headers["X-Session-Id"]}}
    said = [user("one", (8, 6)), {"role": "assistant", "content": "yes"}]
    assert complete(client, *said, user("two", (5, 4)), **place).status_code == 200
    assert (seen(model, 0), seen(model), Attachment.objects.count()) == ([(8, 6)], [(5, 4)], 2)
    assert complete(client, *said, {"role": "user", "content": "three"}, **place).status_code == 200
    assert Attachment.objects.count() == 2


@pytest.mark.parametrize(("ask", "field"), [(complete, "messages"), (respond, "input")])
@pytest.mark.parametrize("counts", [[11], [7, 7, 7]], ids=["a message", "a call"])
def test_there_are_so_many_images_and_no_more(
    client: httpx.Client, model: ScriptedUpstream, ask: Any, field: str, counts: list[int]
) -> None:
    refused = ask(client, *(user("x", *[(2, 2)] * count) for count in counts))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, field)
    assert not Attachment.objects.exists()
    assert model.calls == 0


@pytest.mark.parametrize(("ask", "field"), [(complete, "messages"), (respond, "input")])
def test_of_a_model_that_takes_none_no_image_is_kept(
    client: httpx.Client, model: ScriptedUpstream, ask: Any, field: str
) -> None:
    Preset.objects.create(type="blind", name="B", api_url=model.url, model="m", takes_images=False)
    error = ask(client, user("x", (8, 6)), model="blind").json()["error"]
    assert (error["code"], error["param"]) == ("images_not_supported", field)
    assert not Attachment.objects.exists()


def broken(message: dict[str, Any]) -> dict[str, Any]:
    """The message with one more image, which is none."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUFB"}}
    return {**message, "content": [*message["content"], image]}


@pytest.mark.parametrize("ask", [complete, respond])
@pytest.mark.parametrize("why", ["context_length_exceeded", "unsupported_image"])
def test_what_was_kept_for_an_answer_that_did_not_begin_goes_at_once(
    client: httpx.Client, model: ScriptedUpstream, ask: Any, why: str
) -> None:
    Preset.objects.create(type="small", name="S", api_url=model.url, model="m", context_window=900)
    message = user("x", (8, 6))
    refused = ask(client, broken(message)) if why == "unsupported_image" else ask(client, message, model="small")
    assert refused.json()["error"]["code"] == why
    assert not Attachment.objects.filter(expires_at__gt=timezone.now()).exists()
    assert not Conversation.objects.exists()


@pytest.mark.parametrize("ask", [complete, respond])
def test_a_call_that_is_sent_again_keeps_its_images_once(
    client: httpx.Client, model: ScriptedUpstream, ask: Any
) -> None:
    first, again = (ask(client, user("x", (8, 6)), headers={"Idempotency-Key": "a"}) for _time in range(2))
    assert (first.status_code, again.status_code, model.calls) == (200, 200, 1)
    assert first.headers["X-Generation-Id"] == again.headers["X-Generation-Id"]
    assert Attachment.objects.count() == 1
    other = ask(client, user("y", (8, 6)), headers={"Idempotency-Key": "a"})
    assert (other.status_code, Attachment.objects.count()) == (422, 1)


def leave() -> Any:
    raise asyncio.CancelledError


async def test_what_no_message_got_goes_also_where_nothing_is_raised(
    engine: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another call with the same key was quicker, or the client left while more was decoded."""
    caller = Caller(user_identifier="x")

    await incoming.begin_with(caller, [data_url()], len)
    turns = iter([incoming.turn(caller)])
    monkeypatch.setattr(incoming, "turn", lambda _caller: next(turns, None) or leave())
    with suppress(asyncio.CancelledError):
        await incoming.begin_with(caller, [data_url(), data_url((9, 9))], len)
    assert await db.read(Attachment.objects.count) == 2
    assert not await db.read(Attachment.objects.filter(expires_at__gt=timezone.now()).exists)


def test_an_image_that_a_call_shows_twice_is_kept_once(client: httpx.Client, model: ScriptedUpstream) -> None:
    answered = complete(client, user("one", (8, 6)), {"role": "assistant", "content": "yes"}, user("two", (8, 6)))
    assert (answered.status_code, Attachment.objects.count()) == (200, 1), answered.text
    assert Message.objects.filter(attachment_uses__attachment=Attachment.objects.get()).count() == 2


@pytest.mark.parametrize("before", ["", "/", "/chat-api/", "https://chat.example.com/", "http://127.0.0.1:9/app/"])
def test_an_attachment_is_shown_by_its_url_whatever_stands_before_this_server(before: str) -> None:
    key = UUID(int=7)
    url = f"{before}attachments/{key}"
    assert incoming.known([incoming.check_url(url, "x")]) == [key]


@pytest.mark.parametrize("after", ["/", "?size=2", "#a", ".png", "/thumbnail"])
def test_what_only_looks_like_the_url_of_an_attachment_is_refused(after: str) -> None:
    with pytest.raises(InvalidRequest):
        incoming.check_url(f"/attachments/{UUID(int=7)}{after}", "x")


@contextmanager
def an_upload_being_decoded(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    begun, go, clean = Event(), Event(), images.clean

    def held(content: bytes) -> Any:
        begun.set()
        go.wait(20)
        return clean(content)

    with ThreadPoolExecutor() as pool, monkeypatch.context() as patched:
        patched.setattr(images, "clean", held)
        sent = pool.submit(send, client, pictures.picture())
        assert begun.wait(20)
        patched.setattr(images, "clean", clean)
        try:
            yield
        finally:
            go.set()
        assert sent.result().status_code == 201


def ask_ai_sdk(client: httpx.Client) -> httpx.Response:
    part = {"type": "file", "mediaType": "image/png", "url": data_url()}
    return client.post("/api/chat", json={"id": "x", "messages": [{"id": "m", "role": "user", "parts": [part]}]})


@pytest.mark.parametrize("door", ["completion", "response", "AI SDK"])
def test_each_door_waits_for_its_turn_at_decoding(
    client: httpx.Client, model: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    monkeypatch.setattr(incoming, "TURN_SECONDS", 0.2)
    doors = {
        "completion": lambda: complete(client, user("x", (8, 6))),
        "response": lambda: respond(client, user("x", (8, 6))),
        "AI SDK": lambda: ask_ai_sdk(client),
    }
    with an_upload_being_decoded(client, monkeypatch):
        assert doors[door]().status_code == 503
    assert doors[door]().status_code == 200
