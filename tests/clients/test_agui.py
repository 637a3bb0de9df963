"""AG-UI's own client, `@ag-ui/client`, unmodified: text, reasoning, a whole thread, a cut connection, failures."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.conversations import pictures
from tests.processes.server import ServerProcess
from tests.upstream import ScriptedUpstream, answer, events, status

from .cutting import cutting
from .programs import run_node
from .test_openai import CALLED, TEXT

pytestmark = pytest.mark.server

WHOLE = "".join(TEXT)
# What comes is judged by the client against its schemas; it warns of whatever it does not know.
BEGIN = """
import { HttpAgent } from "@ag-ui/client";
const warnings = [];
console.warn = (text) => warnings.push(text);
console.error = () => {};
const url = process.argv[2] + "/api/agui";
const said = { warnings };
const ask = (agent, content) => agent.addMessage({ id: crypto.randomUUID(), role: "user", content });
const shown = (agent) => agent.messages.map(({ role, content }) => [role, content]);
"""
END = """
console.log(JSON.stringify(said));
process.exit();
"""
THREAD = """
const agent = new HttpAgent({ url });
const seen = [];
agent.subscribe({ onEvent({ event }) { seen.push(event.type); } });
ask(agent, "one");
let finished;
const first = await agent.runAgent({}, { onRunFinishedEvent({ event }) { finished = event; } });
said.first = first.newMessages.map(({ role, content }) => [role, content]);
said.finished = [finished.outcome.type, finished.usage[0].totalTokens > 0, finished.metadata.status];
said.kinds = [...new Set(seen)];
ask(agent, "two");
await agent.runAgent({ forwardedProps: { temperature: 0.1 } });
said.messages = shown(agent);
const other = new HttpAgent({
  url,
  threadId: agent.threadId,
  initialMessages: agent.messages,
});
ask(other, "three");
await other.runAgent();
said.other = shown(other).length;
"""
TOOLS = """
const agent = new HttpAgent({ url });
const tools = [{ name: "weather", description: "The weather.", parameters: { type: "object", properties: {} } }];
ask(agent, "Weather?");
await agent.runAgent({ tools }, { onRunFinishedEvent({ pendingToolCallIds }) { said.pending = pendingToolCallIds; } });
const call = agent.messages.at(-1).toolCalls[0];
said.call = [call.function.name, JSON.parse(call.function.arguments).city];
agent.addMessage({ id: crypto.randomUUID(), role: "tool", toolCallId: call.id, content: "rain" });
await agent.runAgent({ tools });
said.messages = agent.messages.map(({ role, content }) => [role, content ?? null]);
agent.setMessages(agent.messages.slice(0, 1));
await agent.runAgent();
said.again = shown(agent);
"""
FAILURES = """
const agent = new HttpAgent({ url });
ask(agent, "one");
await agent.runAgent({}, { onRunErrorEvent({ event }) { said.failed = [event.code, event.metadata.retry_after]; } });
await agent.runAgent({}, { onRunErrorEvent({ event }) { said.cut = event.code; } });
said.kept = shown(agent).at(-1);
const refused = new HttpAgent({ url, initialMessages: [{ id: "1", role: "user", content: " " }] });
try { await refused.runAgent(); } catch (error) { said.refused = [error.status, JSON.parse(error.payload).code]; }
"""
THOUGHTS = """
const agent = new HttpAgent({ url });
ask(agent, "one");
await agent.runAgent();
said.messages = shown(agent);
"""
IMAGES = """
const agent = new HttpAgent({ url });
const image = { type: "image", source: { type: "data", value: process.argv[3], mimeType: "image/png" } };
ask(agent, [{ type: "text", text: "What is it?" }, image]);
await agent.runAgent();
ask(agent, "And now?");
await agent.runAgent();
said.messages = agent.messages.map(({ role, content }) => [role, Array.isArray(content) ? content.length : content]);
const elsewhere = { type: "image", source: { type: "url", value: "https://example.com/a.png" } };
ask(agent, [elsewhere]);
try { await agent.runAgent(); } catch (error) { said.refused = Object.keys(JSON.parse(error.payload).errors); }
"""
# In Node a connection that breaks ends the process: the client rejects, and throws what it cancels then beside that.
CUT = """
process.on("unhandledRejection", () => {});
const agent = new HttpAgent({ url });
ask(agent, "one");
const runId = crypto.randomUUID();
let tries = 0;
for (;;) {
  tries += 1;
  try { await agent.runAgent({ runId }); break; } catch (error) { if (error.status || tries > 5) throw error; }
}
said.tries = tries;
said.messages = shown(agent);
"""
LEFT = """
const agent = new HttpAgent({ url });
ask(agent, "one");
const runId = crypto.randomUUID();
await agent.runAgent({ runId }, { onTextMessageContentEvent() { agent.abortRun(); } });
said.before = shown(agent).at(-1);
await fetch(process.argv[3], { method: "POST" });
await agent.runAgent({ runId });
said.messages = shown(agent);
"""


STOPPED = """
const agent = new HttpAgent({ url });
ask(agent, "one");
let begun;
await agent.runAgent({}, {
  onRunStartedEvent({ event }) { begun = event.metadata.generation_id; },
  onTextMessageContentEvent() { fetch(process.argv[2] + `/generations/${begun}/stop`, { method: "POST" }); },
  onRunFinishedEvent({ event }) { said.status = event.metadata.status; },
});
said.messages = shown(agent);
"""
# The client of front ends that do not speak 1.0 yet, CopilotKit's among them.
OLD = "agui0"


def said_by(script: str, *arguments: str, client: str = "@ag-ui/client") -> dict[str, Any]:
    """Run a script with the client; whatever came, it knew."""
    said: dict[str, Any] = json.loads(run_node(BEGIN.replace("@ag-ui/client", client) + script + END, *arguments))
    assert said.pop("warnings") == []
    return said


def asked(upstream: ScriptedUpstream) -> list[str]:
    return [message["content"] for message in upstream.requests[-1].body["messages"]]


def test_a_thread_goes_on(server: ServerProcess, upstream: ScriptedUpstream) -> None:
    upstream.script = [answer(*TEXT, reasoning=["h", "m"]), answer("zwei"), answer("drei")]
    said = said_by(THREAD, server.url)
    assert said["first"] == [["reasoning", "hm"], ["assistant", WHOLE]]
    assert said["finished"] == ["success", True, "completed"]
    assert (said["kinds"][0], said["kinds"][-1]) == ("RUN_STARTED", "RUN_FINISHED")
    assert said["messages"] == [
        ["user", "one"],
        ["reasoning", "hm"],
        ["assistant", WHOLE],
        ["user", "two"],
        ["assistant", "zwei"],
    ]
    assert said["other"] == 7
    assert asked(upstream) == ["one", WHOLE, "two", "zwei", "three"]


def test_tools_are_run_and_answers_made_again(server: ServerProcess, upstream: ScriptedUpstream) -> None:
    upstream.script = [events(json.dumps(CALLED), "[DONE]"), answer("Take an umbrella."), answer("Look outside.")]
    said = said_by(TOOLS, server.url)
    assert said["pending"] == ["call_1"]
    assert said["call"] == ["weather", "北京"]
    assert said["messages"] == [
        ["user", "Weather?"],
        ["assistant", None],
        ["tool", "rain"],
        ["assistant", "Take an umbrella."],
    ]
    assert said["again"] == [["user", "Weather?"], ["assistant", "Look outside."]]
    assert asked(upstream) == ["Weather?"]


def test_a_client_before_1_0_runs_tools_and_is_stopped(server: ServerProcess, upstream: ScriptedUpstream) -> None:
    upstream.script = [events(json.dumps(CALLED), "[DONE]"), answer("Take an umbrella."), answer("Look outside.")]
    said = said_by(TOOLS, server.url, client=OLD)
    assert said["call"] == ["weather", "北京"]
    assert [text for _role, text in said["messages"]] == ["Weather?", None, "rain", "Take an umbrella."]
    upstream.script = [answer("begun, ", "never", gate="stays", gate_at=1)]
    said = said_by(STOPPED, server.url, client=OLD)
    assert said == {"status": "stopped", "messages": [["user", "one"], ["assistant", "begun, "]]}


def test_a_late_thought_stands_in_its_place(server: ServerProcess, upstream: ScriptedUpstream) -> None:
    late: list[dict[str, Any]] = [{"content": "One."}, {"reasoning_content": "wait"}]
    upstream.script = [answer(deltas=[{"reasoning_content": "hm"}, *late])]
    said = said_by(THOUGHTS, server.url)
    assert said["messages"] == [["user", "one"], ["reasoning", "hm"], ["assistant", "One."], ["reasoning", "wait"]]


def test_images_are_shown(server: ServerProcess, upstream: ScriptedUpstream) -> None:
    upstream.script = [answer("A square."), answer("A square still.")]
    said = said_by(IMAGES, server.url, base64.b64encode(pictures.picture("PNG", (4, 4))).decode())
    assert said["messages"] == [
        ["user", 2],
        ["assistant", "A square."],
        ["user", "And now?"],
        ["assistant", "A square still."],
    ]
    assert said["refused"] == ["messages[4].content[0]"]
    for request in upstream.requests[-2:]:
        content = request.body["messages"][0]["content"]
        assert [part["type"] for part in content] == ["image_url", "text"]


def test_failures_are_told(server: ServerProcess, upstream: ScriptedUpstream) -> None:
    busy = status(429, {"error": {"message": "slow down"}}, {"Retry-After": "0"})
    upstream.script = [*[busy] * 3, answer("half", " of it", cut=1)]
    said = said_by(FAILURES, server.url)
    assert said["failed"] == ["upstream_rate_limit", 0]
    assert said["cut"] == "upstream_protocol"
    assert said["kept"] == ["assistant", "half"]
    assert said["refused"] == [400, "invalid"]


def test_a_cut_run_that_is_sent_again_goes_on_where_it_was(server: ServerProcess, upstream: ScriptedUpstream) -> None:
    upstream.script = [answer(*TEXT, reasoning=["h", "m"], gate="cut", gate_at=4)]
    calls = upstream.calls
    with cutting(server.port, b"POST /api/agui", upstream.gate("cut").open, b"TEXT_MESSAGE_CONTENT") as between:
        said = said_by(CUT, f"http://127.0.0.1:{between.port}")
    assert said["messages"] == [["user", "one"], ["reasoning", "hm"], ["assistant", WHOLE]]
    assert (said["tries"], between.cuts, upstream.calls) == (2, 1, calls + 1)


def test_a_client_that_left_comes_back(server: ServerProcess, upstream: ScriptedUpstream) -> None:
    upstream.script = [answer(*TEXT, gate="left", gate_at=1)]
    calls = upstream.calls
    opening = upstream.url.partition("/v1/")[0] + "/control/gates/left"
    said = said_by(LEFT, server.url, opening)
    assert said["before"] == ["assistant", TEXT[0]]
    assert said["messages"] == [["user", "one"], ["assistant", WHOLE]]
    assert upstream.calls == calls + 1
