"""A scripted upstream: a real HTTP server on a loopback socket that speaks OpenAI's chat completions.

With no script it echoes, so that a test can see what arrived (``echo_text`` says how)::

    async with ScriptedUpstream() as upstream:
        Endpoint(api_url=upstream.url, ...)

A script is a list; each call to the chat completions path takes the next entry off it, then ``default``
(an echo) answers. An entry is a behaviour, or a function from the ``Request`` to one::

    upstream.script = [
        answer("Hel", "lo"),                                 # two chunks, finish reason, usage, [DONE]
        answer("a", reasoning=["hm"], reasoning_field="reasoning", finish="length", usage=None, done=0),
        answer("a", "b", stall=1),                           # silent after one chunk
        answer("a", "b", cut=1), answer("a", cut="headers", how="fin"),
        answer("a", "b", gate="go", gate_at=1),              # waits there until upstream.gate("go").open()
        answer("你好", slice=1),                              # one byte a packet
        answer("x", endless=True), answer("x", repeat=100_000),
        answer(deltas=[*call(0, '{"a"', ': 1}'), {"content": "b"}]),  # any deltas, after the chunks
        status(429, {"error": {"message": "slow down"}}, {"Retry-After": "1"}),
        redirect("http://169.254.169.254/"),
        events('{"choices": []}', ": comment", "[DONE]"),     # a 200 event stream of your own data lines
        raw(b"HTTP/1.1 200 OK\\r\\n", b"...", close=True),      # bytes, a packet each
    ]

``stall``, ``cut`` and ``gate_at`` name a place: ``"headers"`` (before them), a number (after that many text
chunks, reasoning included; 0 is right after the headers), ``"finish"`` (after the text, before the finish
reason) or ``"done"`` (after the last chunk, before ``[DONE]``).

What arrived: ``upstream.requests`` (method, path, headers, parsed body, ``closed_by_client``), ``calls``,
``connections`` (ever), ``open_connections``. Wait for something with ``await upstream.until(predicate)``, or
``await upstream.closed_by_client()`` for the client to have hung up on an answer.

From synchronous tests: ``with run_upstream_in_thread() as upstream``, and ``upstream.wait_until(predicate)``.

Through a whole stack: a last user message that begins with ``!script `` and goes on with a JSON object chooses
the behaviour, unless results of tools follow it: ``!script {"chunks": ["a", "b"], "cut": 1}`` takes the fields of
``Answer``, and ``!script {"status": 429, "headers": {...}, "body": {...}}`` those of ``Status``. The script list wins.

As a process: ``python -m tests.upstream [--port N] [--script NAME]`` prints its URL on one line. Besides the
completions it answers ``GET /v1/models``, ``GET /control`` (requests and counts as JSON) and
``POST /control/gates/NAME`` (opens a gate).
"""

from .behaviours import Answer, Behaviour, Raw, Status, answer, call, echo, echo_text, events, raw, redirect, status
from .server import ScriptedUpstream
from .streamed import Gate
from .threaded import run_upstream_in_thread
from .wire import Request

__all__ = [
    "Answer",
    "Behaviour",
    "Gate",
    "Raw",
    "Request",
    "ScriptedUpstream",
    "Status",
    "answer",
    "call",
    "echo",
    "echo_text",
    "events",
    "raw",
    "redirect",
    "run_upstream_in_thread",
    "status",
]
