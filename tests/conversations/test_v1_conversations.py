"""OpenAI's conversations at /v1/conversations: created, listed, added to, deleted, as far as ours are the same."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
import pytest
from django.utils import timezone

from conversations.models import Attachment, Conversation, Message
from tests.upstream import ScriptedUpstream, answer, call

from . import pictures
from .accounts import make_key, make_user, require_login
from .attaching import send
from .calling import calling
from .helpers import JSON, whole_chat
from .test_images_in_chats import seen

PATH = "/v1/conversations"
Item = dict[str, Any]
CALL = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
CALL_DELTAS = call(0, '{"city": "北京"}', id="one")


def item(text: str, role: str = "user") -> Item:
    return {"type": "message", "role": role, "content": text}


def create(client: httpx.Client, **body: Any) -> Item:
    created: Item = client.post(PATH, json=body).json()
    assert created["object"] == "conversation", created
    return created


def listed(client: httpx.Client, conversation: Item, **query: Any) -> Item:
    page: Item = client.get(f"{PATH}/{conversation['id']}/items", params=query).json()
    assert page["object"] == "list", page
    return page


def texts(page: Item) -> list[str]:
    return [part["text"] for entry in page["data"] for part in entry["content"]]


def error_of(response: httpx.Response, status: int) -> Item:
    assert response.status_code == status, response.text
    error: Item = response.json()["error"]
    return error


def test_a_conversation_begins_with_items(client: httpx.Client, model: ScriptedUpstream) -> None:
    parts = [{"type": "input_text", "text": "我叫小明"}]
    items = [item("Be kind.", "developer"), {**item(""), "content": parts}, item("你好", "assistant")]
    created = create(client, items=items, metadata={"a": "b"})
    assert created["metadata"] == {"a": "b"}
    row = Conversation.objects.get()
    assert (created["id"], created["created_at"]) == (f"conv_{row.session_id.hex}", int(row.created_at.timestamp()))
    assert (row.system_prompt, row.title, row.message_count) == ("Be kind.", "我叫小明", 2)
    assert client.get(f"{PATH}/{created['id']}").json() == {**created, "metadata": {}}
    page = listed(client, created, order="asc")
    assert [(entry["role"], entry["content"][0]["type"]) for entry in page["data"]] == [
        ("user", "input_text"),
        ("assistant", "output_text"),
    ]
    assert texts(page) == ["我叫小明", "你好"]
    answered = client.post("/v1/responses", json={"input": "Who am I?", "conversation": created["id"]})
    assert answered.status_code == 200
    shown = [message["content"] for message in model.requests[0].body["messages"]]
    assert shown[:3] == ["Be kind.", "我叫小明", "你好"]
    assert client.get("/search", params={"q": "小明"}).json()["conversations"]


def test_items_come_in_pages_either_way(client: httpx.Client) -> None:
    said = [str(number) for number in range(7)]
    created = create(client, items=[item(text) for text in said])
    for order, expected in (("asc", said), ("desc", said[::-1])):
        found: list[str] = []
        query: Item = {"order": order, "limit": 3}
        while True:
            page = listed(client, created, **query)
            assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
            found += texts(page)
            if not page["has_more"]:
                break
            query["after"] = page["last_id"]
        assert found == expected
    assert texts(listed(client, created)) == said[::-1]
    empty = listed(client, create(client))
    assert (empty["data"], empty["first_id"], empty["has_more"]) == ([], None, False)


def test_an_answer_is_the_items_of_its_response(client: httpx.Client, model: ScriptedUpstream) -> None:
    """What was thought, said, and called, and what came of it; in pages, too, which may end within an answer."""
    model.script = [
        answer("Let me look.", reasoning=["hm"], deltas=CALL_DELTAS, finish="tool_calls"),
        answer("Sunny."),
    ]
    created = create(client)
    tool = {"type": "function", "name": "look_up", "parameters": {"type": "object"}}
    ask = {"tools": [tool], "conversation": created["id"]}
    response = client.post("/v1/responses", json={"input": "Weather?", **ask}).json()
    asked = response["output"][-1]
    result = {"type": "function_call_output", "call_id": asked["call_id"], "output": "sun"}
    client.post("/v1/responses", json={"input": [result], **ask})
    page = listed(client, created, order="asc", limit=100)
    kinds = [entry["type"] for entry in page["data"]]
    assert kinds == ["message", "reasoning", "message", "function_call", "function_call_output", "message"]
    assert page["data"][1:4] == response["output"]
    for order, expected in (("asc", page["data"]), ("desc", page["data"][::-1])):
        for limit in (1, 2, 4):
            found: list[Item] = []
            query: Item = {"order": order, "limit": limit}
            while True:
                part = listed(client, created, **query)
                assert len(part["data"]) <= limit
                found += part["data"]
                if not part["has_more"]:
                    break
                query["after"] = part["last_id"]
            assert found == expected
    path = f"{PATH}/{created['id']}/items"
    for entry in page["data"]:
        assert client.get(f"{path}/{entry['id']}").json() == entry
    assert error_of(client.get(f"{path}/msg_{page['data'][1]['id'].split('_')[1]}_9"), 404)["code"] == "not_found"


def test_calls_and_what_came_of_them_are_added(client: httpx.Client, model: ScriptedUpstream) -> None:
    result = {"type": "function_call_output", "call_id": "1", "output": "sun"}
    created = create(client, items=[item("Weather?"), CALL, result, item("Sunny.", "assistant")])
    kinds = [entry["type"] for entry in listed(client, created, order="asc")["data"]]
    assert kinds == ["message", "function_call", "function_call_output", "message"]
    client.post("/v1/responses", json={"input": "Thanks", "conversation": created["id"]})
    roles = [message["role"] for message in model.requests[-1].body["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]


def test_only_the_branch_that_is_shown_is_listed(client: httpx.Client, model: ScriptedUpstream) -> None:
    first = whole_chat(client, "one").json()
    session_id = first["session_id"]
    hidden = whole_chat(client, "two", session_id=session_id).json()
    whole_chat(client, "three", session_id=session_id, parent_id=first["message_id"])
    conversation = {"id": f"conv_{session_id}"}
    assert texts(listed(client, conversation, order="asc"))[::2] == ["one", "three"]
    path = f"{PATH}/{conversation['id']}/items"
    assert client.get(f"{path}/msg_{hidden['message_id']}").json()["role"] == "assistant"
    refusal = client.get(path, params={"after": f"msg_{hidden['message_id']}"})
    assert error_of(refusal, 400)["param"] == "after"


def test_items_are_added_at_the_end(client: httpx.Client, model: ScriptedUpstream) -> None:
    created = create(client, items=[item("one")])
    before = Conversation.objects.get().updated_at
    added = client.post(f"{PATH}/{created['id']}/items", json={"items": [item("two", "assistant"), item("three")]})
    assert texts(added.json()) == ["two", "three"]
    page = listed(client, created, order="asc")
    assert texts(page) == ["one", "two", "three"]
    assert page["data"][1:] == added.json()["data"]
    row = Conversation.objects.get()
    assert (row.message_count, row.updated_at > before) == (3, True)
    # What is stored may be named.
    reference = {"type": "item_reference", "id": page["first_id"]}
    added = client.post(f"{PATH}/{created['id']}/items", json={"items": [reference]})
    assert texts(added.json()) == ["one"]


def test_instructions_are_added_to_those_that_there_are(client: httpx.Client, settings: Any) -> None:
    created = create(client, items=[item("Be kind.", "system")])
    path = f"{PATH}/{created['id']}/items"
    for text, prompt in (("Be brief.", "Be kind.\n\nBe brief."), ("", "Be kind.\n\nBe brief.")):
        client.post(path, json={"items": [item(text, "developer"), item("one")]}).raise_for_status()
        assert Conversation.objects.get().system_prompt == prompt
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "MAX_SYSTEM_PROMPT_LENGTH": 20}
    refusal = client.post(path, json={"items": [item("x", "system"), item("two")]})
    assert error_of(refusal, 400)["param"] == "items"
    assert (Conversation.objects.get().system_prompt, Message.objects.count()) == (prompt, 2)


def test_nothing_is_added_to_a_running_answer(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("begun", " and ended", gate="held", gate_at=1)]
    created = create(client)
    body = {"input": "hi", "conversation": created["id"], "background": True}
    response = client.post("/v1/responses", json=body).json()
    refusal = client.post(f"{PATH}/{created['id']}/items", json={"items": [item("x")]})
    assert error_of(refusal, 409)["code"] == "reply_in_progress"
    (running, _question) = listed(client, created)["data"]
    assert (running["status"], running["content"]) == ("in_progress", [])
    client.post(f"/v1/responses/{response['id']}/cancel")
    assert listed(client, created)["data"][0]["status"] == "incomplete"


def test_the_last_item_is_deleted(client: httpx.Client) -> None:
    created = create(client, items=[item("one"), item("two", "assistant")])
    first, last = (entry["id"] for entry in listed(client, created, order="asc")["data"])
    path = f"{PATH}/{created['id']}/items"
    assert error_of(client.delete(f"{path}/{first}"), 400)["code"] == "invalid"
    assert client.delete(f"{path}/{last}").json() == created
    assert error_of(client.get(f"{path}/{last}"), 404)["code"] == "not_found"
    assert texts(listed(client, created)) == ["one"]


def test_an_item_of_another_conversation_is_not_there(client: httpx.Client) -> None:
    mine, other = create(client, items=[item("one")]), create(client, items=[item("two")])
    foreign = listed(client, other)["first_id"]
    for method in ("GET", "DELETE"):
        refusal = client.request(method, f"{PATH}/{mine['id']}/items/{foreign}")
        assert error_of(refusal, 404)["code"] == "not_found"
    assert Message.objects.count() == 2


def test_a_conversation_is_deleted(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("x", gate="stays")]
    created = create(client)
    client.post("/v1/responses", json={"input": "hi", "conversation": created["id"], "background": True})
    deleted = client.delete(f"{PATH}/{created['id']}").json()
    assert deleted == {"id": created["id"], "object": "conversation.deleted", "deleted": True}
    assert error_of(client.get(f"{PATH}/{created['id']}"), 404)["type"] == "not_found_error"
    assert not Conversation.objects.exists()


def test_metadata_are_not_kept_and_it_says_so(client: httpx.Client) -> None:
    created = create(client)
    refusal = client.post(f"{PATH}/{created['id']}", json={"metadata": {"a": "b"}})
    error = error_of(refusal, 400)
    assert (error["code"], error["param"]) == ("unsupported_parameter", "metadata")
    assert client.post(f"{PATH}/{created['id']}", json={"metadata": {}}).json() == created


IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}


def showing(*images: Item, text: str = "") -> Item:
    """A user's message with images."""
    parts = [{"type": "input_image", **image} for image in images]
    return {**item(""), "content": [*parts, *([{"type": "input_text", "text": text}] if text else [])]}


def data_url(width: int = 4, height: int = 3) -> Item:
    return {"image_url": pictures.data_url(pictures.picture("PNG", (width, height)))}


def test_images_among_items_are_kept_and_told_by_their_ids(client: httpx.Client, model: ScriptedUpstream) -> None:
    created = create(client, items=[showing(data_url(4, 3), data_url(5, 2), text="Look!"), item("I do.", "assistant")])
    question, _answer = listed(client, created, order="asc")["data"]
    first, second = Attachment.objects.order_by("width")
    assert question["content"] == [
        {"type": "input_image", "file_id": str(first.pk), "image_url": None, "detail": "auto"},
        {"type": "input_image", "file_id": str(second.pk), "image_url": None, "detail": "auto"},
        {"type": "input_text", "text": "Look!"},
    ]
    added = client.post(f"{PATH}/{created['id']}/items", json={"items": [showing(data_url(6, 6))]}).json()["data"]
    assert [part["type"] for part in added[0]["content"]] == ["input_image"]
    assert client.get(f"/attachments/{added[0]['content'][0]['file_id']}").status_code == 200
    client.post("/v1/responses", json={"input": "What is it?", "conversation": created["id"]}).raise_for_status()
    assert (seen(model, 0), seen(model, 2)) == ([(4, 3), (5, 2)], [(6, 6)])
    assert not Attachment.objects.filter(conversation=None).exists()


def test_an_image_is_named_by_its_id(client: httpx.Client, model: ScriptedUpstream) -> None:
    keys = [send(client, pictures.picture("PNG", (6, size))).json()["id"] for size in (1, 2, 3)]
    created = create(client, items=[showing({"file_id": keys[0]})])
    # What is told can be sent again there.
    (told,) = listed(client, created)["data"]
    client.post(f"{PATH}/{created['id']}/items", json={"items": [told, item("yes", "assistant")]}).raise_for_status()
    ask = {"input": [showing({"file_id": keys[1]}, data_url(5, 5), text="And?")], "conversation": created["id"]}
    response = client.post("/v1/responses", json=ask).json()
    assert (seen(model, 0), seen(model)) == ([(6, 1), (6, 1)], [(6, 2), (5, 5)])
    (asked,) = client.get(f"/v1/responses/{response['id']}/input_items").json()["data"]
    assert asked["content"][0]["file_id"] == keys[1]
    url = {"type": "image_url", "image_url": {"url": f"/attachments/{keys[2]}"}}
    body = {"model": "default", "messages": [{"role": "user", "content": [url]}]}
    refusal = client.post("/v1/chat/completions", json=body)
    assert error_of(refusal, 400)["param"] == "messages"
    client.post("/v1/chat/completions", json={**body, "store": True}).raise_for_status()
    assert seen(model) == [(6, 3)]
    assert Attachment.objects.count() == 4


def test_what_cannot_be_shown_leaves_nothing(client: httpx.Client) -> None:
    unknown = {"file_id": str(uuid.UUID(int=5))}
    for image, status, code in ((unknown, 404, "unknown_attachment"), (IMAGE, 400, "unsupported_image")):
        refusal = client.post(PATH, json={"items": [showing(data_url(), image, text="x")]})
        error = error_of(refusal, status)
        assert (error["code"], error["param"]) == (code, "items" if status == 404 else None)
    assert not Conversation.objects.exists()
    assert not Attachment.objects.filter(expires_at__gt=timezone.now()).exists()


def test_an_image_of_somebody_else_is_not_there(client: httpx.Client, server: Any, settings: Any) -> None:
    require_login(settings)
    with calling(server, make_key(make_user("anna"))) as hers, calling(server, make_key(make_user("ben"))) as his:
        key = send(hers, pictures.picture()).json()["id"]
        refusal = his.post(PATH, json={"items": [showing({"file_id": key})]})
        assert error_of(refusal, 404)["code"] == "unknown_attachment"


BAD: dict[str, tuple[Any, str]] = {
    "no list": ("hi", "items"),
    "no list, and nothing in it": ({}, "items"),
    "no item": ([5], "items[0]"),
    "a role that there is not": ([item("x"), item("x", "robot")], "items[1]"),
    "no text": ([{**item(""), "content": 5}], "items[0].content"),
    "half a character": ([item("\ud800")], "items[0].content"),
    "a NUL": ([item("\x00")], "items"),
    "an image of the assistant's": ([{**item("", "assistant"), "content": [IMAGE]}], "items"),
    "an image of a tool's": ([{"type": "function_call_output", "call_id": "1", "output": [IMAGE]}], "items"),
    "an image elsewhere": ([showing({"image_url": "https://example.com/a.png"})], "items[0].content[0]"),
    "an image of a handle": ([showing({"file_id": "file-abc"})], "items[0].content[0]"),
    "an image of no text": ([showing({"file_id": 5})], "items[0].content[0]"),
    "an image of nothing": ([showing({})], "items[0].content[0]"),
    "too many images": ([showing(*[{"image_url": IMAGE["image_url"]}] * 11)], "items"),
    "too many images in all": ([showing(*[{"image_url": IMAGE["image_url"]}] * 7)] * 3, "items"),
    "a call without a name": ([item("x"), {**CALL, "name": None}], "items[1].tool_calls"),
    "an item that is not stored": ([{"type": "item_reference", "id": "msg_999"}], "items[0]"),
    "too many": ([item("x")] * 501, "items"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_item_is_refused_by_its_name(client: httpx.Client, name: str) -> None:
    items, param = BAD[name]
    created = create(client)
    for path in (PATH, f"{PATH}/{created['id']}/items"):
        body = json.dumps({"items": items})
        response = client.post(path, content=body, headers=JSON)
        assert error_of(response, 400)["param"] == param
    assert (Conversation.objects.count(), Message.objects.count()) == (1, 0)


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"order": "up"}])
def test_a_wrong_query_is_refused_by_its_name(client: httpx.Client, query: dict[str, str]) -> None:
    created = create(client)
    refusal = client.get(f"{PATH}/{created['id']}/items", params=query)
    assert error_of(refusal, 400)["param"] == next(iter(query))


@pytest.mark.parametrize("path", ["/x", "/conv_x/items", "/{id}/items/x", "/{id}/items/msg_99", "/{id}/items?after=x"])
def test_what_is_no_name_is_not_there(client: httpx.Client, path: str) -> None:
    created = create(client)
    refusal = client.get(PATH + path.format(**created))
    assert error_of(refusal, 404)["code"] == "not_found"


def test_items_have_to_be_sent(client: httpx.Client) -> None:
    created = create(client)
    refusal = client.post(f"{PATH}/{created['id']}/items", json={})
    assert error_of(refusal, 400)["param"] == "items"


def test_anothers_messages_cannot_be_referred_to(client: httpx.Client, server: Any, settings: Any) -> None:
    require_login(settings)
    with calling(server, make_key(make_user("anna"))) as hers, calling(server, make_key(make_user("ben"))) as his:
        secret = listed(hers, create(hers, items=[item("secret")]))["first_id"]
        refusal = his.post(PATH, json={"items": [{"type": "item_reference", "id": secret}]})
        assert error_of(refusal, 400)["param"] == "items[0]"
