"""Images over AG-UI: parts of a user's message, kept as attachments and shown to the model."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import httpx
import pytest

from conversations.models import Attachment, Conversation, Message
from llmproviders.models import Preset
from tests.upstream import ScriptedUpstream, answer

from . import pictures
from .attaching import send
from .helpers import ARGUMENTS, JSON, asks, history
from .test_agui import PATH, Event, run, told, user
from .test_images_in_chats import seen


def source(width: int = 4, height: int = 3, **more: Any) -> Event:
    content = base64.b64encode(pictures.picture("PNG", (width, height))).decode()
    return {"type": "data", "value": content, "mimeType": "image/png", **more}


def showing(*sources: Event, text: str = "", name: str = "u") -> Event:
    """A message with images, as clients of version 1.0 send them."""
    images = [{"type": "image", "source": each} for each in sources]
    return {"id": name, "role": "user", "content": [*images, *([{"type": "text", "text": text}] if text else [])]}


def test_images_are_kept_and_shown_to_the_model(client: httpx.Client, model: ScriptedUpstream) -> None:
    body = run(showing(source(4, 3), source(5, 2), text="What is it?"))
    session_id = told(client, body)[0]["metadata"]["session_id"]
    assert seen(model) == [(4, 3), (5, 2)]
    assert model.requests[-1].body["messages"][-1]["content"][-1] == {"type": "text", "text": "What is it?"}
    parts = history(client, session_id)[0]["parts"]
    assert [part["type"] for part in parts] == ["image", "image", "text"]
    assert client.get(f"/attachments/{parts[0]['attachment_id']}").headers["content-type"] == "image/png"
    told(client, run(user("And now?", "2"), thread=session_id))
    assert seen(model, 0) == [(4, 3), (5, 2)]


def test_an_image_alone_is_a_message(client: httpx.Client, model: ScriptedUpstream) -> None:
    told(client, run(showing(source())))
    assert seen(model) == [(4, 3)]
    assert Message.objects.get(role="user").content == ""


def test_a_run_that_is_sent_again_keeps_no_image_again(client: httpx.Client, model: ScriptedUpstream) -> None:
    body = run(showing(source(), text="What is it?"))
    first, again = told(client, body), told(client, body)
    assert first[0] == again[0]
    assert (model.calls, Attachment.objects.count()) == (1, 1)
    refusal = client.post(PATH, json={**body, "messages": [showing(source(5, 5), text="What is it?")]})
    assert (refusal.status_code, refusal.json()["code"]) == (422, "idempotency_mismatch")
    assert (model.calls, Attachment.objects.count()) == (1, 1)


def test_another_run_for_what_a_client_has_a_part_of_keeps_no_image_again(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    question = showing(source(), text="What is it?")
    key = told(client, run(question, thread="t"))[0]["metadata"]["message_id"]
    told(client, run(question, {"id": str(key), "role": "assistant", "content": ""}, thread="t"))
    assert (model.calls, Attachment.objects.count()) == (1, 1)


def test_what_is_stored_is_shown_by_its_url_or_its_id(client: httpx.Client, model: ScriptedUpstream) -> None:
    key = send(client, pictures.picture("PNG", (6, 6))).json()["id"]
    named = [{"type": "url", "value": f"{client.base_url}/attachments/{key}"}, {"type": "file", "value": key}]
    told(client, run(showing(*named, text="What is it?")))
    assert seen(model) == [(6, 6)]
    assert Attachment.objects.count() == 1


@pytest.mark.parametrize("name", ["data", "data URL", "url", "id"])
def test_older_clients_send_binary_parts(client: httpx.Client, model: ScriptedUpstream, name: str) -> None:
    key, content = send(client, pictures.picture("PNG", (6, 6))).json()["id"], pictures.picture("PNG", (6, 6))
    part: Event = {
        "data": {"data": base64.b64encode(content).decode()},
        "data URL": {"url": pictures.data_url(content)},
        "url": {"url": f"/attachments/{key}"},
        "id": {"id": key},
    }[name]
    binary = {"type": "binary", "mimeType": "image/png", "filename": "a.png", **part}
    told(client, run({"id": "1", "role": "user", "content": [binary, {"type": "text", "text": "What is it?"}]}))
    assert seen(model) == [(6, 6)]


def test_media_of_what_was_said_before_are_passed_over(client: httpx.Client, model: ScriptedUpstream) -> None:
    elsewhere = {"type": "url", "value": "https://example.com/a.png"}
    document = {"type": "document", "source": {"type": "url", "value": "https://example.com/a.pdf"}}
    before = {"id": "3", "role": "user", "content": [document, {"type": "text", "text": "three"}]}
    messages = showing(elsewhere, text="one", name="1"), showing(source(), name="2"), before
    told(client, run(*messages, user("four", "4")))
    told_model = [message["content"] for message in model.requests[-1].body["messages"]]
    assert "\n\n".join(told_model) == "one\n\nthree\n\nfour"
    assert Attachment.objects.count() == 0


def test_results_after_an_image_keep_none_again(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [asks("one", text=""), answer("Sunny.")]
    question, tools = showing(source(), text="Weather here?", name="1"), [{"name": "weather", "parameters": {}}]
    key = told(client, run(question, thread="t", tools=tools))[0]["metadata"]["message_id"]
    function = {"name": "weather", "arguments": ARGUMENTS}
    calling_it = {
        "id": str(key),
        "role": "assistant",
        "toolCalls": [{"id": "one", "type": "function", "function": function}],
    }
    result = {"id": "2", "role": "tool", "toolCallId": "one", "content": "sun"}
    told(client, run(question, calling_it, result, thread="t", tools=tools))
    assert (model.calls, Attachment.objects.count()) == (2, 1)


def test_a_model_that_takes_none_keeps_none(client: httpx.Client, model: ScriptedUpstream) -> None:
    Preset.objects.create(
        type="blind", name="Blind", api_url=model.url, model="blind", context_window=4096, takes_images=False
    )
    refusal = client.post(PATH, json=run(showing(source()), forwardedProps={"model_type": "blind"}))
    assert (refusal.status_code, refusal.json()["code"]) == (400, "images_not_supported")
    assert list(refusal.json()["errors"]) == ["messages"]
    assert (model.calls, Message.objects.count(), Attachment.objects.filter(conversation__isnull=False).count()) == (
        0,
        0,
        0,
    )


def at(*parts: Any, role: str = "user", **more: Any) -> Event:
    return run({"id": "1", "role": role, "content": list(parts), **more})


WHERE = "messages[0].content"
BAD: dict[str, tuple[Event, str]] = {
    "elsewhere": (run(showing({"type": "url", "value": "https://example.com/attachments/a.png"})), f"{WHERE}[0]"),
    "on this machine": (run(showing({"type": "url", "value": "http://127.0.0.1/a.png"})), f"{WHERE}[0]"),
    "a file": (run(showing({"type": "url", "value": "file:///etc/passwd"})), f"{WHERE}[0]"),
    "another's handle": (run(showing({"type": "file", "value": "file-abc", "provider": "openai"})), f"{WHERE}[0]"),
    "another type": (run(showing(source(mimeType="application/pdf"))), f"{WHERE}[0]"),
    "no type": (run(showing({"type": "data", "value": "QUFB"})), f"{WHERE}[0]"),
    "a type of no text": (run(showing(source(mimeType=["image/png"]))), f"{WHERE}[0]"),
    "no source": (at({"type": "image"}), f"{WHERE}[0]"),
    "a source that is none": (at({"type": "image", "source": "x"}), f"{WHERE}[0]"),
    "a source of no known type": (run(showing({"type": ["data"], "value": "x"})), f"{WHERE}[0]"),
    "a value of no text": (run(showing({"type": "url", "value": {}})), f"{WHERE}[0]"),
    "half a character": (run(showing({"type": "url", "value": "\ud800"})), f"{WHERE}[0]"),
    "binary of another type": (at({"type": "binary", "mimeType": "audio/mpeg", "data": "QUFB"}), f"{WHERE}[0]"),
    "binary elsewhere": (
        at({"type": "binary", "mimeType": "image/png", "url": "https://example.com/a.png"}),
        f"{WHERE}[0]",
    ),
    "binary of nothing": (at({"type": "binary", "mimeType": "image/png"}), f"{WHERE}[0]"),
    "sound": (at({"type": "text", "text": "x"}, {"type": "audio", "source": source()}), f"{WHERE}[1]"),
    "a document": (at({"type": "document", "source": source()}), f"{WHERE}[0]"),
    "a part of no known type": (at({"type": "smell"}), WHERE),
    "a part of no type": (at({"source": source()}), WHERE),
    "a part that is none": (at("x"), WHERE),
    "an image of the assistant's": (at({"type": "image", "source": source()}, role="assistant"), WHERE),
    "an image of a tool's": (at({"type": "image", "source": source()}, role="tool", toolCallId="1"), WHERE),
    "too many": (run(showing(*(source(value=f"{n}QUF") for n in range(11)))), WHERE),
    "blanks beside an image": (run(showing(source(), text="  ")), "messages[0]"),
}


def test_what_tools_showed_before_is_no_hindrance(client: httpx.Client, model: ScriptedUpstream) -> None:
    """A client sends its whole thread each time: results with images cannot be answered, and end no thread."""
    called = [{"id": "c1", "type": "function", "function": {"name": "camera", "arguments": "{}"}}]
    shown: list[Event] = [{"type": "text", "text": "taken"}, {"type": "image", "source": source()}]
    thread = [
        {"id": "1", "role": "user", "content": "Look!"},
        {"id": "2", "role": "assistant", "toolCalls": called},
        {"id": "3", "role": "tool", "toolCallId": "c1", "content": shown},
    ]
    refusal = client.post(PATH, json=run(*thread))
    assert list(refusal.json()["errors"]) == ["messages[2].content"]
    model.script = [answer("It was taken.")]
    told(client, run(*thread, {"id": "4", "role": "user", "content": "Was it taken?"}))
    assert [message["content"] for message in model.requests[-1].body["messages"]][2:] == ["taken", "Was it taken?"]


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_image_is_refused_by_its_place(client: httpx.Client, model: ScriptedUpstream, name: str) -> None:
    body, field = BAD[name]
    refusal = client.post(PATH, content=json.dumps(body), headers=JSON)
    assert (refusal.status_code, list(refusal.json().get("errors", {}))) == (400, [field]), refusal.text
    assert (model.calls, Conversation.objects.count(), Attachment.objects.count()) == (0, 0, 0)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (source(value="QUFB"), "unsupported_image"),
        (source(value="not base64"), "unsupported_image"),
        (source(mimeType="image/svg+xml"), ""),
        (source(mimeType="image/png;base64,QUFB;x"), "unsupported_image"),
        ({"type": "file", "value": str(uuid.UUID(int=5))}, "unknown_attachment"),
        ({"type": "url", "value": f"https://example.com/attachments/{uuid.UUID(int=5)}"}, "unknown_attachment"),
    ],
)
def test_what_cannot_be_shown_stores_nothing(
    client: httpx.Client, model: ScriptedUpstream, given: Event, code: str
) -> None:
    response = client.post(PATH, content=json.dumps(run(showing(given))), headers=JSON)
    if not code:  # what it is says its content, whatever it is called
        assert response.status_code == 200
        return
    assert (response.status_code in (400, 404), response.json()["code"]) == (True, code), response.text
    assert list(response.json().get("errors", {})) in ([], ["messages"])
    assert (model.calls, Conversation.objects.count(), Message.objects.count()) == (0, 0, 0)
