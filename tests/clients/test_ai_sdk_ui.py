"""The AI SDK's chat of versions 5, 6 and 7, unmodified and unconfigured, as on a page of the server's own origin."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conversations import pictures
from tests.processes.server import ServerProcess, environment, manage
from tests.upstream import Behaviour, Request, answer, call, run_upstream_in_thread, status

from .programs import run_node
from .serving import serving

pytestmark = pytest.mark.server

VERSIONS = ("ai5", "ai", "ai7")
PIECES = ("one\u2028 ", "two\r\n ", "三 ", "😀", " the end")
TEXT = "".join(PIECES)
ARGUMENTS = '{"city": "北京"}'
# A page's own `fetch` takes paths; a state as those of React, Vue and Svelte, without either.
PAGE = """
const [, , origin, version, scene] = process.argv;
const { AbstractChat, DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls } = await import(version);
const fetchUrl = globalThis.fetch;
globalThis.fetch = (url, options) => fetchUrl(new URL(url, origin), options);
class State {
  status = "ready"; error = undefined;
  constructor(messages = [], changed = () => {}) { this.list = messages; this.changed = changed; }
  get messages() { return this.list; }
  set messages(messages) { this.list = messages; this.changed(messages); }
  pushMessage = (message) => { this.messages = [...this.list, message]; };
  popMessage = () => { this.messages = this.list.slice(0, -1); };
  replaceMessage = (place, message) => { this.messages = this.list.with(place, this.snapshot(message)); };
  snapshot = (thing) => structuredClone(thing);
}
class Chat extends AbstractChat {
  constructor({ messages, changed, ...init } = {}) { super({ ...init, state: new State(messages, changed) }); }
}
const textOf = (message, type = "text") =>
  message.parts.filter((part) => part.type === type).map((part) => part.text).join("");
const shown = (chat) => chat.messages.map((message) => [message.role, textOf(message)]);
// Sends, and settles once some of the answer's text is there.
const begun = (chat, message, text = /./, options = {}) => new Promise((resolve, reject) => {
  const ended = chat.sendMessage({ text: message }, options);
  chat.state.changed = () => {
    const last = chat.lastMessage;
    if (last.role === "assistant" && text.test(textOf(last))) resolve();
  };
  ended.then(() => reject(new Error(`it ended: ${chat.error}`)), reject);
});
const said = {};
const scenes = {
"""
END = """
};
await scenes[scene]();
console.log(JSON.stringify(said));
process.exit();
"""
SCENES = """
  async talks() {
    const chat = new Chat();
    await chat.sendMessage({ text: "think" });
    await chat.sendMessage({ text: "hi" }, { body: { model_type: "default", temperature: 0.25 } });
    said.talk = shown(chat);
    said.reasoning = textOf(chat.messages[1], "reasoning");
    said.states = chat.messages[1].parts.map((part) => [part.type, part.state]);
    said.id = chat.lastMessage.id;
    said.metadata = chat.lastMessage.metadata;
    await chat.sendMessage({ text: "changed", messageId: chat.messages[2].id });
    said.edited = shown(chat);
    await chat.regenerate();
    said.again = shown(chat);
    await chat.regenerate({ messageId: chat.messages[1].id });
    said.first = shown(chat);
    said.status = chat.status;
    await chat.resumeStream();
    said.nothing = [chat.status, String(chat.error)];
  },
  async resumes() {
    const chat = new Chat({ id: `a/b c?d ${version}` });
    await begun(chat, "slowly").then(() => chat.stop());
    said.stopped = textOf(chat.lastMessage);
    // The page is loaded again.
    const again = new Chat({ id: chat.id, messages: chat.messages.slice(0, 1) });
    await again.resumeStream();
    said.resumed = shown(again);
    said.id = again.lastMessage.id;
    said.status = [again.status, again.lastMessage.metadata.status];
  },
  async resumesWhereItIs() {
    const chat = new Chat();
    await begun(chat, "slowly").then(() => chat.stop());
    await chat.resumeStream();
    said.resumed = shown(chat);
    said.id = chat.lastMessage.id;
  },
  async turnsToSomethingNew() {
    const chat = new Chat();
    await begun(chat, "slowly").then(() => chat.stop());
    said.stopped = textOf(chat.lastMessage);
    await chat.sendMessage({ text: "hi" });
    said.talk = shown(chat);
    said.error = String(chat.error);
  },
  async isRefused() {
    const chat = new Chat();
    await chat.sendMessage({ text: "hi" }, { body: { model_type: "none" } });
    said.refused = [chat.status, chat.error.message];
    await chat.regenerate();
    said.talk = shown(chat);
    await chat.sendMessage({ text: "cut" });
    said.cut = [chat.status, chat.error.message, textOf(chat.lastMessage)];
    await chat.sendMessage({ text: "hi" });
    said.status = chat.status;
    await chat.sendMessage({ text: "busy" });
    said.busy = [chat.status, chat.error.message];
  },
  async speaksWithTheEmbeddedModel() {
    const chat = new Chat();
    const asked = "Tell a long story about the colours of the sky.";
    await begun(chat, asked, /./, { body: { max_tokens: 60, temperature: 0 } }).then(() => chat.stop());
    said.stopped = textOf(chat.lastMessage);
    await chat.resumeStream();
    said.text = textOf(chat.lastMessage);
    said.metadata = chat.lastMessage.metadata;
    await chat.regenerate({ body: { max_tokens: 5 } });
    said.again = [chat.status, chat.messages.length, textOf(chat.lastMessage) !== ""];
  },
  async usesTools() {
    const schema = { type: "object", properties: { city: { type: "string" } } };
    const tools = [{ name: "weather", description: "Tell the weather", inputSchema: schema }];
    const transport = new DefaultChatTransport({ body: { tools } });
    const inputs = [];
    const options = { transport, sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls };
    const chat = new Chat({
      ...options,
      onToolCall({ toolCall: { toolName, toolCallId, input } }) {
        inputs.push(input);
        chat.addToolOutput({ tool: toolName, toolCallId, output: { rain: input.city } });
      },
    });
    await chat.sendMessage({ text: "tools" });
    said.inputs = inputs;
    said.parts = chat.lastMessage.parts.map(({ type, state, output }) => [type, state, output]);
    said.roles = chat.messages.map(({ role }) => role);
    await chat.sendMessage({ text: "hi" });
    said.talk = shown(chat);
    // In the middle of what goes on after a call, the page is loaded again.
    await begun(chat, "tools, slowly", /two/).then(() => chat.stop());
    const messages = await (await fetch(`/api/chat/${chat.id}/messages`)).json();
    said.loaded = messages.at(-1).parts.map(({ type, state, output }) => [type, state, output]);
    const again = new Chat({ ...options, id: chat.id, messages });
    await again.resumeStream();
    said.resumed = again.lastMessage.parts.map(({ type, state, output }) => [type, state, output]);
    said.text = textOf(again.lastMessage);
    said.count = [messages.length, again.messages.length];
  },
  async showsAnImage() {
    const chat = new Chat();
    await chat.sendMessage({ text: "look", files: [{ type: "file", mediaType: "image/png", url: process.argv[5] }] });
    await chat.sendMessage({ text: "hi" });
    said.talk = shown(chat);
    const messages = await (await fetch(`/api/chat/${chat.id}/messages`)).json();
    said.loaded = messages[0].parts.map(({ type }) => type);
  },
  async hasAHistory() {
    const texts = [["user", "one"], ["assistant", "uno"]];
    const messages = texts.map(([role, text], place) => ({ id: `m${place}`, role, parts: [{ type: "text", text }] }));
    const chat = new Chat({ id: process.argv[5], messages });
    await chat.sendMessage({ text: "hi" });
    said.talk = shown(chat);
    await chat.regenerate({ messageId: "m1" });
    said.again = shown(chat);
    said.session = chat.lastMessage.metadata.session_id;
  },
"""


def behave(request: Request) -> Behaviour:
    """Answer as the last message says, or repeat it."""
    last = request.body["messages"][-1]["content"]
    if isinstance(last, list):
        return answer(f"saw {' and '.join(part['type'] for part in last)}")
    if request.body["messages"][-1]["role"] == "tool":
        slowly = any("slowly" in str(message["content"]) for message in request.body["messages"])
        return answer(*PIECES, delay=0.2) if slowly else answer(f"came: {last}")
    if "tools" in last:
        return answer("Let me look.", deltas=call(0, ARGUMENTS, id="one", name="weather"), finish="tool_calls")
    if last == "slowly":
        return answer(*PIECES, delay=0.2)
    if last == "cut":
        return answer("some", cut=1)
    if last == "busy":
        return status(400, {"error": {"message": "too busy"}})
    return answer(f"to {last}", reasoning=["hm"] if last == "think" else [])


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with (
        run_upstream_in_thread(default=behave) as upstream,
        serving(upstream, tmp_path_factory.mktemp("aisdk")) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with nothing configured: its embedded model answers."""
    folder = tmp_path_factory.mktemp("embedded")
    env = environment(folder)
    manage(env, "migrate", "--verbosity=0")
    with ServerProcess("uvicorn", env, folder / "server.log") as server:
        yield server


def play(process: ServerProcess, version: str, scene: str, *more: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(run_node(PAGE + SCENES + END, process.url, version, scene, *more))
    return said


def stored(process: ServerProcess, session_id: str) -> list[tuple[str, str]]:
    messages = httpx.get(f"{process.url}/conversations/{session_id}/history", trust_env=False).json()["messages"]
    return [(message["role"], message["content"]) for message in messages]


def answer_of(process: ServerProcess, message_id: str, session_id: str) -> str:
    url = f"{process.url}/conversations/{session_id}/messages?limit=500"
    messages = httpx.get(url, trust_env=False).json()["messages"]
    return str(next(message["content"] for message in messages if str(message["id"]) == message_id))


@pytest.mark.parametrize("version", VERSIONS)
def test_it_sends_edits_and_asks_again(process: ServerProcess, version: str) -> None:
    said = play(process, version, "talks")
    first = [["user", "think"], ["assistant", "to think"]]
    assert said["talk"] == [*first, ["user", "hi"], ["assistant", "to hi"]]
    assert said["reasoning"] == "hm"
    assert said["states"] == [["step-start", None], ["reasoning", "done"], ["text", "done"]]
    metadata = said["metadata"]
    assert said["id"] == str(metadata["message_id"])
    assert (metadata["status"], metadata["model"], metadata["finish_reason"]) == ("completed", "scripted", "stop")
    assert metadata["usage"]["total_tokens"] > 0
    assert said["edited"] == said["again"] == [*first, ["user", "changed"], ["assistant", "to changed"]]
    assert said["first"] == first
    assert said["status"] == "ready"
    assert said["nothing"] == ["ready", "undefined"]
    assert stored(process, metadata["session_id"]) == [("user", "think"), ("assistant", "to think")]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scene", ["resumes", "resumesWhereItIs"])
def test_it_resumes_in_the_middle_letter_for_letter(process: ServerProcess, version: str, scene: str) -> None:
    said = play(process, version, scene)
    assert said["resumed"] == [["user", "slowly"], ["assistant", TEXT]]
    if scene == "resumes":
        assert TEXT.startswith(said["stopped"])
        assert said["stopped"] != TEXT
        assert said["status"] == ["ready", "completed"]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_comes_after_a_stop_is_answered(process: ServerProcess, version: str) -> None:
    said = play(process, version, "turnsToSomethingNew")
    assert said["talk"][-2:] == [["user", "hi"], ["assistant", "to hi"]]
    assert said["talk"][:2] == [["user", "slowly"], ["assistant", said["stopped"]]]
    assert said["error"] == "undefined"


@pytest.mark.parametrize("version", VERSIONS)
def test_it_shows_refusals_and_failures_in_words(process: ServerProcess, version: str) -> None:
    said = play(process, version, "isRefused")
    status, text = said["refused"]
    assert status == "error"
    assert text.endswith("model_type: There is no such model type; GET /api/config lists them.")
    assert said["talk"] == [["user", "hi"], ["assistant", "to hi"]], "what was refused is sent again"
    assert said["cut"][0] == "error"
    assert said["cut"][1].startswith("The model's server sent something that is no proper answer.")
    assert said["cut"][2] == "some"
    assert said["status"] == "ready"
    assert said["busy"][0] == "error"
    assert "too busy" in said["busy"][1]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_chat_that_begins_with_a_history_is_stored_with_it(process: ServerProcess, version: str) -> None:
    said = play(process, version, "hasAHistory", f"history of {version}")
    assert said["talk"] == [["user", "one"], ["assistant", "uno"], ["user", "hi"], ["assistant", "to hi"]]
    assert said["again"] == [["user", "one"], ["assistant", "to one"]]
    assert stored(process, said["session"]) == [("user", "one"), ("assistant", "to one")]


@pytest.mark.parametrize("version", VERSIONS)
def test_it_runs_tools_and_the_answer_goes_on(process: ServerProcess, version: str) -> None:
    said = play(process, version, "usesTools")
    output = {"rain": "北京"}
    assert said["inputs"][0] == {"city": "北京"}
    asked = [["step-start", None, None], ["text", "done", None], ["tool-weather", "output-available", output]]
    went_on = [["step-start", None, None], ["text", "done", None]]
    assert said["parts"] == [*asked, *went_on]
    assert said["roles"] == ["user", "assistant"]
    assert said["talk"][-1] == ["assistant", "to hi"]
    assert said["talk"][1] == ["assistant", 'Let me look.came: {"rain": "北京"}']
    assert said["loaded"] == asked
    assert said["resumed"] == [*asked, *went_on]
    assert said["text"] == f"Let me look.{TEXT}"
    assert said["count"] == [6, 6]


@pytest.mark.parametrize("version", VERSIONS)
def test_it_shows_an_image(process: ServerProcess, version: str) -> None:
    url = pictures.data_url(pictures.picture("PNG", (4, 3)))
    said = play(process, version, "showsAnImage", url)
    assert said["talk"][1] == ["assistant", "saw image_url and text"]
    assert said["talk"][3] == ["assistant", "to hi"]
    assert said["loaded"] == ["file", "text"]


@pytest.mark.local_model
@pytest.mark.parametrize("version", VERSIONS)
def test_it_speaks_with_the_embedded_model(embedded: ServerProcess, version: str) -> None:
    said = play(embedded, version, "speaksWithTheEmbeddedModel")
    assert said["text"].startswith(said["stopped"])
    assert said["text"] != said["stopped"]
    metadata = said["metadata"]
    assert said["text"] == answer_of(embedded, str(metadata["message_id"]), metadata["session_id"])
    assert said["again"] == ["ready", 2, True]
