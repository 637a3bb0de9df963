"""Responses at /v1, with OpenAI's own clients: gone on from, resumed in the middle and after `kill -9`, cancelled."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.docs.markdown import ROOT
from tests.processes.server import ServerProcess
from tests.upstream import ScriptedUpstream, answer, events, run_upstream_in_thread

from .programs import run_in, run_python
from .serving import serving
from .test_openai import ARGUMENTS, CALLED, SERVER, TEXT

pytestmark = pytest.mark.server

TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
PYTHON = """
import asyncio, json, sys
import openai
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="any")
said = {}
first = client.responses.create(model="default", input="one")
said["first"] = [first.status, first.output_text, first.usage.total_tokens > 0]
with client.responses.stream(model="default", input="two", previous_response_id=first.id) as stream:
    events = list(stream)
    whole = stream.get_final_response()
said["streamed"] = [whole.output_text, whole.previous_response_id == first.id, events[-1].type]
number = next(event.sequence_number for event in events if event.type == "response.output_text.delta")
rest = list(client.responses.retrieve(whole.id, stream=True, starting_after=number))
said["resumed"] = "".join(event.delta for event in rest if event.type == "response.output_text.delta")
tool = json.loads(sys.argv[2])
call = client.responses.create(model="default", input="hi", tools=[tool]).output[0]
items = [{"role": "user", "content": "hi"}, call.model_dump(), {
    "type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
said["tool"] = [call.arguments, client.responses.create(model="default", input=items, tools=[tool]).output_text]
try:
    client.responses.create(model="default", input="x", previous_response_id="resp_" + "0" * 32)
except openai.BadRequestError as error:
    said["unknown"] = error.code
said["items"] = client.responses.input_items.list(whole.id).data[0].content[0].text
client.responses.delete(whole.id)
try:
    client.responses.retrieve(whole.id)
except openai.NotFoundError as error:
    said["deleted"] = error.code
async def later():
    async with openai.AsyncOpenAI(base_url=sys.argv[1] + "/v1", api_key="any") as client:
        response = await client.responses.create(model="default", input="three", background=True)
        said["background"] = response.status
        said["cancelled"] = (await client.responses.cancel(response.id)).status
asyncio.run(later())
print(json.dumps(said))
"""
NODE = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "any" });
const said = {};
const first = await client.responses.create({ model: "default", input: "one" });
said.first = [first.status, first.output_text, first.usage.total_tokens > 0];
const stream = client.responses.stream({ model: "default", input: "two", previous_response_id: first.id });
const events = [];
for await (const event of stream) events.push(event);
const whole = await stream.finalResponse();
said.streamed = [whole.output[0].content[0].text, whole.previous_response_id === first.id, events.at(-1).type];
const number = events.find((event) => event.type === "response.output_text.delta").sequence_number;
said.resumed = "";
for await (const event of await client.responses.retrieve(whole.id, { stream: true, starting_after: number }))
  if (event.type === "response.output_text.delta") said.resumed += event.delta;
const tools = [JSON.parse(process.argv[3])];
const call = (await client.responses.create({ model: "default", input: "hi", tools })).output[0];
const input = [{ role: "user", content: "hi" }, call,
  { type: "function_call_output", call_id: call.call_id, output: "rain" }];
said.tool = [call.arguments, (await client.responses.create({ model: "default", input, tools })).output_text];
const refused = { model: "default", input: "x", previous_response_id: "resp_" + "0".repeat(32) };
try { await client.responses.create(refused); } catch (error) { said.unknown = error.code; }
said.items = (await client.responses.inputItems.list(whole.id)).data[0].content[0].text;
await client.responses.delete(whole.id);
try { await client.responses.retrieve(whole.id); } catch (error) { said.deleted = error.code; }
const response = await client.responses.create({ model: "default", input: "three", background: true });
said.background = response.status;
said.cancelled = (await client.responses.cancel(response.id)).status;
console.log(JSON.stringify(said));
"""
BEGIN = """
import json, sys
import openai
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="any")
for event in client.responses.create(model="default", input="one", stream=True, background=True):
    if event.type == "response.created":
        key = event.response.id
    if event.type == "response.output_text.delta":
        print(json.dumps([key, event.sequence_number, event.delta]))
        break
"""
GO_ON = """
import json, sys
import openai
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="any")
events = list(client.responses.retrieve(sys.argv[2], stream=True, starting_after=int(sys.argv[3])))
told = "".join(event.delta for event in events if event.type == "response.output_text.delta")
last = events[-1]
print(json.dumps([told, last.type, last.response.error.code, last.response.output_text]))
"""


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with run_upstream_in_thread() as upstream:
        yield upstream


@pytest.fixture
def process(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(upstream, tmp_path_factory.mktemp("responses")) as server:
        yield server


@pytest.mark.parametrize(("language", "script"), [("python", PYTHON), ("js", NODE)])
def test_they_store_go_on_resume_and_cancel(
    process: ServerProcess, upstream: ScriptedUpstream, language: str, script: str
) -> None:
    called = events(json.dumps(CALLED), "[DONE]")
    upstream.script = [answer(*TEXT), answer(*TEXT), called, answer("take an umbrella"), answer("x", gate="stays")]
    said = json.loads(run_in(language, script, process.url, json.dumps(TOOL)))
    text = "".join(TEXT)
    assert said["first"] == ["completed", text, True]
    assert said["streamed"] == [text, True, "response.completed"]
    assert text.endswith(said["resumed"])
    assert said["tool"] == [ARGUMENTS, "take an umbrella"]
    assert (said["unknown"], said["items"]) == ("previous_response_not_found", "two")
    assert (said["deleted"], said["background"], said["cancelled"]) == ("not_found", "in_progress", "cancelled")


def test_a_response_outlives_its_server(process: ServerProcess, upstream: ScriptedUpstream) -> None:
    upstream.script = [answer("begun, ", "and more, ", "and the end", gate="held", gate_at=2)]
    key, number, text = json.loads(run_python(BEGIN, process.url, NO_PROXY="*"))
    process.kill()
    process.start()
    told, last, code, whole = json.loads(run_python(GO_ON, process.url, key, str(number), NO_PROXY="*"))
    assert (last, code) == ("response.failed", "interrupted")
    assert text + told == whole
    assert whole.startswith("begun, ")


@pytest.mark.parametrize("language", ["python", "js"])
def test_the_piece_of_the_page_runs(process: ServerProcess, upstream: ScriptedUpstream, language: str) -> None:
    page = (ROOT / "docs" / "openai.md").read_text().partition("## Responses")[2]
    found = re.search(rf"```{language}\n(.*?)```", page, re.DOTALL)
    assert found
    piece = found[1].replace(SERVER, process.url).replace("chatkey_...", "any")
    upstream.script = [answer(*TEXT), answer(*TEXT)]
    assert run_in(language, piece).replace("\n", "") == "".join(TEXT) * 2
