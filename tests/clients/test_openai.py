"""The pieces of docs/openai.md, run with OpenAI's own clients, and how those take an answer, a call and a refusal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.docs.markdown import ROOT
from tests.processes.server import ServerProcess
from tests.upstream import ScriptedUpstream, answer, events, run_upstream_in_thread, status

from .programs import run_in
from .serving import serving

pytestmark = pytest.mark.server

SERVER = "http://127.0.0.1:8000"
TEXT = ("red, ", "grün, ", "蓝")
ARGUMENTS = '{"city": "北京"}'
CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}
CALLED = {"choices": [{"index": 0, "delta": {"tool_calls": [CALL]}, "finish_reason": "tool_calls"}]}
PYTHON = """
import json, sys
import openai
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="any")
ask = {"model": "default", "messages": [{"role": "user", "content": "hi"}]}
said = {"models": [model.id for model in client.models.list()]}
tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
call = client.chat.completions.create(**ask, tools=tools).choices[0]
said["call"] = [call.finish_reason, call.message.tool_calls[0].function.arguments]
with client.chat.completions.stream(**ask, stream_options={"include_usage": True}) as stream:
    for event in stream:
        pass
    whole = stream.get_final_completion()
said["streamed"] = [whole.choices[0].message.content, whole.choices[0].finish_reason, whole.usage.total_tokens]
try:
    client.chat.completions.create(**{**ask, "model": "nothing"})
except openai.NotFoundError as error:
    said["unknown"] = [error.code, error.type]
try:
    client.chat.completions.create(**ask, stream=True)
except openai.RateLimitError as error:
    said["busy"] = error.code
print(json.dumps(said))
"""
NODE = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "any" });
const ask = { model: "default", messages: [{ role: "user", content: "hi" }] };
const said = { models: [] };
for await (const model of await client.models.list()) said.models.push(model.id);
const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object" } } }];
const call = (await client.chat.completions.create({ ...ask, tools })).choices[0];
said.call = [call.finish_reason, call.message.tool_calls[0].function.arguments];
const stream = client.chat.completions.stream({ ...ask, stream_options: { include_usage: true } });
const whole = await stream.finalChatCompletion();
said.streamed = [whole.choices[0].message.content, whole.choices[0].finish_reason, whole.usage.total_tokens];
try {
  await client.chat.completions.create({ ...ask, model: "nothing" });
} catch (error) {
  if (!(error instanceof OpenAI.NotFoundError)) throw error;
  said.unknown = [error.code, error.type];
}
try {
  await client.chat.completions.create({ ...ask, stream: true });
} catch (error) {
  if (!(error instanceof OpenAI.RateLimitError)) throw error;
  said.busy = error.code;
}
console.log(JSON.stringify(said));
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with run_upstream_in_thread() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def process(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(upstream, tmp_path_factory.mktemp("openai")) as server:
        yield server


@pytest.mark.parametrize("language", ["python", "js"])
def test_the_piece_of_the_page_runs(process: ServerProcess, upstream: ScriptedUpstream, language: str) -> None:
    page = (ROOT / "docs" / "openai.md").read_text()
    found = re.search(rf"```{language}\n(.*?)```", page, re.DOTALL)
    assert found
    assert SERVER in found[1]
    piece = found[1].replace(SERVER, process.url).replace("chatkey_...", "any")
    upstream.script = [answer(*TEXT), answer(*TEXT)]
    assert run_in(language, piece).replace("\n", "") == "".join(TEXT) * 2


@pytest.mark.parametrize(("language", "script"), [("python", PYTHON), ("js", NODE)])
def test_they_understand_whatever_comes(
    process: ServerProcess, upstream: ScriptedUpstream, language: str, script: str
) -> None:
    busy = status(429, {"error": {"message": "slow down"}}, {"Retry-After": "0"})
    upstream.script = [events(json.dumps(CALLED), "[DONE]"), answer(*TEXT), *[busy] * 20]
    said = json.loads(run_in(language, script, process.url))
    assert "default" in said["models"]
    assert said["call"] == ["tool_calls", ARGUMENTS]
    assert said["streamed"][:2] == ["".join(TEXT), "stop"]
    assert said["streamed"][2] > 0
    assert said["unknown"] == ["model_not_found", "not_found_error"]
    assert said["busy"] == "upstream_rate_limit"
