"""What is built on OpenAI's API, unmodified: the AI SDK (`ai`), LangChain, `llm`: whole, streamed, with tools."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.markdown import ROOT
from tests.processes.server import ServerProcess
from tests.upstream import Behaviour, Request, answer, events, run_upstream_in_thread

from .programs import PYTHON, need_clients, run, run_node, run_python
from .serving import serving
from .test_openai import CALLED, SERVER, TEXT

pytestmark = pytest.mark.server

WHOLE = "".join(TEXT)
AI_SDK = """
import { generateText, stepCountIs, streamText, tool } from "ai";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { z } from "zod";
const baseURL = process.argv[2] + "/v1";
const openai = createOpenAI({ baseURL, apiKey: "any" });
const compatible = createOpenAICompatible({ name: "chatproject", baseURL, apiKey: "any" });
const models = { responses: openai("default"), chat: openai.chat("default"), compatible: compatible("default") };
const execute = async ({ city }) => `rain in ${city}`;
const weather = tool({ description: "The weather.", inputSchema: z.object({ city: z.string() }), execute });
const said = {};
for (const [name, model] of Object.entries(models)) {
  const whole = await generateText({ model, prompt: "hi" });
  const stream = streamText({ model, prompt: "hi" });
  let text = "";
  for await (const part of stream.textStream) text += part;
  const tools = { model, prompt: "tool", tools: { weather }, stopWhen: stepCountIs(3) };
  const steps = await generateText(tools);
  const streamed = streamText(tools);
  said[name] = [whole.text, text, await stream.finishReason];
  said[name].push(steps.steps[0].toolResults[0].output, steps.text, await streamed.text);
}
console.log(JSON.stringify(said));
"""
LANGCHAIN = """
import json, sys
from langchain_openai import ChatOpenAI
def weather(city: str) -> str:
    "The weather of a city."
    return "rain"
said = {}
for name in ("chat", "responses"):
    options = {"base_url": sys.argv[1] + "/v1", "api_key": "any", "model": "default"}
    model = ChatOpenAI(**options, use_responses_api=name == "responses")
    streamed = "".join(chunk.text for chunk in model.stream("hi"))
    call = model.bind_tools([weather]).invoke("tool").tool_calls[0]
    said[name] = [model.invoke("hi").text, streamed, call["args"]]
print(json.dumps(said))
"""


def behave(request: Request) -> Behaviour:
    """Call the tool where that is said, and else answer."""
    last = request.body["messages"][-1]
    asks_for_it = last["role"] == "user" and "tool" in str(last["content"])
    return events(json.dumps(CALLED), "[DONE]") if asks_for_it else answer(*TEXT)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with (
        run_upstream_in_thread(default=behave) as upstream,
        serving(upstream, tmp_path_factory.mktemp("frameworks")) as server,
    ):
        yield server


def test_the_ai_sdk(process: ServerProcess) -> None:
    said: dict[str, Any] = json.loads(run_node(AI_SDK, process.url))
    expected = [WHOLE, WHOLE, "stop", "rain in 北京", WHOLE, WHOLE]
    assert said == dict.fromkeys(("responses", "chat", "compatible"), expected)


def test_langchain(process: ServerProcess) -> None:
    said: dict[str, Any] = json.loads(run_python(LANGCHAIN, process.url, NO_PROXY="*"))
    assert said == {key: [WHOLE, WHOLE, {"city": "北京"}] for key in ("chat", "responses")}


def test_the_pieces_of_the_page_run(process: ServerProcess, tmp_path: Path) -> None:
    """Those of docs/front-ends.md whose programs are here."""
    page = (ROOT / "docs" / "front-ends.md").read_text().replace(SERVER, process.url)
    found = {name: re.search(rf"## {name}\n.*?```\w+\n(.*?)```", page, re.DOTALL) for name in ("LangChain", "`llm`")}
    langchain, simons = found["LangChain"], found["`llm`"]
    assert langchain
    assert simons
    assert run_python(langchain[1], NO_PROXY="*").strip() == WHOLE
    (tmp_path / "extra-openai-models.yaml").write_text(simons[1])
    (tmp_path / "keys.json").write_text(json.dumps({"chatproject": "any"}))
    command = [str(PYTHON / "llm"), "-m", "chat", "Name three colours."]
    assert run(*command, cwd=tmp_path, LLM_USER_PATH=str(tmp_path), NO_PROXY="*").strip() == WHOLE


@pytest.mark.parametrize("options", [[], ["--no-stream"]], ids=["streamed", "whole"])
def test_llm(process: ServerProcess, tmp_path: Path, options: list[str]) -> None:
    need_clients()
    model = f"- model_id: chat\n  model_name: default\n  api_base: {process.url}/v1\n"
    (tmp_path / "extra-openai-models.yaml").write_text(model)
    command = [str(PYTHON / "llm"), "prompt", "-m", "chat", *options, "--key", "any", "hi"]
    assert run(*command, cwd=tmp_path, LLM_USER_PATH=str(tmp_path), NO_PROXY="*").strip() == WHOLE
