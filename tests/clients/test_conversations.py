"""Conversations at /v1, with OpenAI's own clients: begun with items, answered in, paged through, added to, deleted."""

from __future__ import annotations

import json
import re

import httpx
import pytest

from tests.conversations import pictures
from tests.docs.markdown import ROOT
from tests.processes.server import ServerProcess
from tests.upstream import ScriptedUpstream, answer

from .programs import run_in
from .test_openai import SERVER

pytestmark = pytest.mark.server

PYTHON = """
import json, sys
import openai
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="any")
texts = lambda items: [item.content[0].text for item in items]
said = {}
made = client.conversations.create(items=[{"role": "user", "content": "one"}], metadata={"a": "b"})
said["made"] = [made.object, made.metadata, client.conversations.retrieve(made.id).id == made.id]
said["answer"] = client.responses.create(model="default", input="two", conversation=made.id).output_text
more = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "three"}]}]
said["added"] = texts(client.conversations.items.create(made.id, items=more).data)
said["paged"] = texts(client.conversations.items.list(made.id, order="asc", limit=1))
newest = client.conversations.items.list(made.id).data[0]
said["newest"] = client.conversations.items.retrieve(newest.id, conversation_id=made.id).content[0].text
said["shown"] = client.conversations.items.delete(newest.id, conversation_id=made.id).id == made.id
said["left"] = texts(client.conversations.items.list(made.id))
try:
    client.conversations.update(made.id, metadata={"a": "c"})
except openai.BadRequestError as error:
    said["update"] = [error.code, error.param]
deleted = client.conversations.delete(made.id)
said["deleted"] = [deleted.object, deleted.deleted]
try:
    client.conversations.retrieve(made.id)
except openai.NotFoundError as error:
    said["gone"] = error.code
print(json.dumps(said))
"""
NODE = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "any" });
const texts = (items) => items.map((item) => item.content[0].text);
const said = {};
const made = await client.conversations.create({ items: [{ role: "user", content: "one" }], metadata: { a: "b" } });
said.made = [made.object, made.metadata, (await client.conversations.retrieve(made.id)).id === made.id];
const ask = { model: "default", input: "two", conversation: made.id };
said.answer = (await client.responses.create(ask)).output_text;
const more = [{ type: "message", role: "user", content: [{ type: "input_text", text: "three" }] }];
said.added = texts((await client.conversations.items.create(made.id, { items: more })).data);
said.paged = [];
for await (const item of client.conversations.items.list(made.id, { order: "asc", limit: 1 }))
  said.paged.push(item.content[0].text);
const newest = (await client.conversations.items.list(made.id)).data[0];
const place = { conversation_id: made.id };
said.newest = (await client.conversations.items.retrieve(newest.id, place)).content[0].text;
said.shown = (await client.conversations.items.delete(newest.id, place)).id === made.id;
said.left = texts((await client.conversations.items.list(made.id)).data);
try { await client.conversations.update(made.id, { metadata: { a: "c" } }); }
catch (error) { said.update = [error.code, error.param]; }
const deleted = await client.conversations.delete(made.id);
said.deleted = [deleted.object, deleted.deleted];
try { await client.conversations.retrieve(made.id); } catch (error) { said.gone = error.code; }
console.log(JSON.stringify(said));
"""
PYTHON_IMAGES = """
import json, sys
import openai
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="any")
look = {"role": "user", "content": [{"type": "input_image", "detail": "auto", "image_url": sys.argv[2]}]}
made = client.conversations.create(items=[look])
shown = client.conversations.items.list(made.id).data[0].content[0]
again = {"role": "user", "content": [{"type": "input_image", "detail": "auto", "file_id": shown.file_id}]}
answer = client.responses.create(model="default", input=[again], conversation=made.id).output_text
print(json.dumps([shown.type, shown.file_id, answer]))
"""
NODE_IMAGES = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "any" });
const shows = (image) => [{ role: "user", content: [{ type: "input_image", detail: "auto", ...image }] }];
const made = await client.conversations.create({ items: shows({ image_url: process.argv[3] }) });
const shown = (await client.conversations.items.list(made.id)).data[0].content[0];
const ask = { model: "default", input: shows({ file_id: shown.file_id }), conversation: made.id };
const answer = (await client.responses.create(ask)).output_text;
console.log(JSON.stringify([shown.type, shown.file_id, answer]));
"""


@pytest.mark.parametrize(("language", "script"), [("python", PYTHON_IMAGES), ("js", NODE_IMAGES)])
def test_images_go_there_and_back(
    server: ServerProcess, upstream: ScriptedUpstream, language: str, script: str
) -> None:
    upstream.script = [answer("A square.")]
    url = pictures.data_url(pictures.picture("PNG", (4, 4)))
    kind, key, said = json.loads(run_in(language, script, server.url, url))
    assert (kind, said) == ("input_image", "A square.")
    shown = httpx.get(f"{server.url}/attachments/{key}", trust_env=False)
    assert shown.headers["Content-Type"] == "image/png"
    (asked,) = upstream.requests[-1].body["messages"]
    assert [part["type"] for part in asked["content"]] == ["image_url", "image_url"]


@pytest.mark.parametrize(("language", "script"), [("python", PYTHON), ("js", NODE)])
def test_they_do_all_that_maps(server: ServerProcess, upstream: ScriptedUpstream, language: str, script: str) -> None:
    upstream.script = [answer("zwei")]
    said = json.loads(run_in(language, script, server.url))
    assert said == {
        "made": ["conversation", {"a": "b"}, True],
        "answer": "zwei",
        "added": ["three"],
        "paged": ["one", "two", "zwei", "three"],
        "newest": "three",
        "shown": True,
        "left": ["zwei", "two", "one"],
        "update": ["unsupported_parameter", "metadata"],
        "deleted": ["conversation.deleted", True],
        "gone": "not_found",
    }


def test_the_piece_of_the_page_runs(server: ServerProcess, upstream: ScriptedUpstream) -> None:
    page = (ROOT / "docs" / "openai.md").read_text().partition("## Conversations")[2]
    found = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert found
    piece = found[1].replace(SERVER, server.url).replace("chatkey_...", "any")
    upstream.script = [answer("Anna.")]
    assert run_in("python", piece).splitlines() == ["Anna.", "I am Anna.", "Who am I?", "Anna."]
