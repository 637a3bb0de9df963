"""The fault list: what an upstream can do wrong, one row a fault, and what becomes of the answer.

A message ``fault NAME`` asks the scripted upstream for one (``behave`` is its default behaviour), so that many
can run at once.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from tests.upstream import Behaviour, Request, answer, call, echo, events, raw, redirect, status

from .sizes import size

# The key that the server sends upstream, and what only an upstream's body says: neither may come out.
KEY = "CANARY.of.the.key/0123456789"
SECRET = "CANARY-of-the-body"
COMMAND = "fault "

# Seconds. `total` ends the answer that never ends, and must leave the longest good one its time.
# They are long enough for a machine that stands still for some of them, and reads a flood for some of them.
CONNECT = FIRST_TOKEN = BETWEEN_TOKENS = 8.0
TOTAL = size(20.0, 120.0)
# What a server is started with, so that it notices in these times.
PATIENCE = {
    "LLM_API_KEY": KEY,
    "LLM_CONNECT_TIMEOUT": str(CONNECT),
    "LLM_FIRST_TOKEN_TIMEOUT": str(FIRST_TOKEN),
    "LLM_BETWEEN_TOKENS_TIMEOUT": str(BETWEEN_TOKENS),
    "LLM_TOTAL_TIMEOUT": str(TOTAL),
    "LOG_LEVEL": "DEBUG",
}
RETRIES = 1.0  # what two tries more take where the upstream gives no time, and some
LAST_USAGE = 2.0  # what usage and [DONE] may take after the finish reason
# What a busy machine adds.
SLACK = 10.0
TINY_CHUNKS = size(5_000, 1_000_000)
HUGE_LINE = size(20, 100)  # megabytes
MEGABYTE = 1_000_000
# Passed well before `total`, on a busy machine too.
MAX_ANSWER = size(1_048_576, 4_194_304)

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
FAMILY = "👩\u200d👩\u200d👧"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What the upstream does, and what its readers must see. ``within`` is in seconds, counted from the question."""

    name: str
    does: Behaviour | Callable[[Request], Behaviour]
    status: str = "failed"
    code: str = ""
    text: str | Callable[[str], bool] = ""
    reasoning: str = ""
    # The calls of tools that readers see, as (id, name, arguments); None: no tools are offered.
    calls: tuple[tuple[str, str, str], ...] | None = None
    retry_after: Callable[[int | None], bool] = lambda seconds: seconds is None
    says: str = ""  # of the error's message
    within: float = 0.0

    @property
    def asked(self) -> dict[str, object]:
        """What a chat says that asks for it."""
        tools = {} if self.calls is None else {"tools": [TOOL]}
        return {"message": COMMAND + self.name, **tools}

    def fits(self, text: str) -> bool:
        return self.text(text) if callable(self.text) else text == self.text


def chunk(text: str, finish: str | None = None) -> str:
    return json.dumps({"choices": [{"delta": {"content": text}, "finish_reason": finish}]}, ensure_ascii=False)


GOOD = chunk("kept ")
FINISH = chunk("", "stop")


def line(data: str, end: bytes = b"\n") -> bytes:
    return b"data: " + data.encode("utf-8", "surrogatepass") + end + end


def _repeats_the_key(code: int, **headers: str) -> Callable[[Request], Behaviour]:
    def refuse(request: Request) -> Behaviour:
        key = request.headers["authorization"].removeprefix("Bearer ")
        assert key == KEY
        return status(code, {"error": {"message": f"Not welcome: {key}", "debug": SECRET}}, headers)

    return refuse


def _later(_request: Request) -> Behaviour:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    return status(429, {"error": {"message": "later"}}, {"Retry-After": date})


def _lines(end: bytes) -> Behaviour:
    return raw(HEAD, line(chunk("one "), end) + line(chunk("two"), end) + line(FINISH, end) + line("[DONE]", end))


def _failed(name: str, does: Behaviour | Callable[[Request], Behaviour], code: str, **expected: object) -> Fault:
    return Fault(name=name, does=does, code=code, **expected)  # type: ignore[arg-type]


def _whole(name: str, does: Behaviour, text: str | Callable[[str], bool], **expected: object) -> Fault:
    return Fault(name=name, does=does, status="completed", text=text, **expected)  # type: ignore[arg-type]


# Which clock ran out: all of them say `upstream_timeout`.
LATE, SILENT = "did not begin to answer in time", "stopped in the middle of its answer"

STALLS = [
    _failed("stall before headers", answer("a", stall="headers"), "upstream_timeout", says=LATE, within=FIRST_TOKEN),
    _failed("stall after headers", answer("a", stall=0), "upstream_timeout", says=LATE, within=FIRST_TOKEN),
    _failed(
        "stall mid-stream",
        answer("kept ", "x", reasoning=["hm "], stall=2),
        "upstream_timeout",
        text="kept ",
        reasoning="hm ",
        says=SILENT,
        within=BETWEEN_TOKENS,
    ),
    _failed(
        "stall after the last chunk",
        answer("all of it", stall="finish"),
        "upstream_timeout",
        text="all of it",
        says=SILENT,
        within=BETWEEN_TOKENS,
    ),
    _whole("stall before [DONE]", answer("all of it", stall="done", usage=None), "all of it", within=LAST_USAGE),
    _failed(
        "comments and nothing else",
        raw(HEAD + line(GOOD), *[b": busy\n\n"] * 400, delay=0.1),
        "upstream_timeout",
        text="kept ",
        says=SILENT,
        within=BETWEEN_TOKENS,
    ),
]

CUTS = [
    _failed("reset before headers", answer("a", cut="headers"), "upstream_unavailable", within=RETRIES),
    _failed("reset mid-stream", answer("kept ", "x", cut=1), "upstream_protocol", text="kept "),
    _failed(
        "reset mid-chunk",
        raw(HEAD, line(GOOD) + b'data: {"choices": [{"delta": {"con', delay=0.1),
        "upstream_protocol",
        text="kept ",
    ),
    _failed("end without finish", answer("kept ", cut="finish", how="fin"), "upstream_protocol", text="kept "),
    _whole("end without [DONE]", answer("all", done=0), "all"),
    _whole("cut before [DONE]", answer("all", cut="done", how="fin", usage=None), "all"),
    _whole("two [DONE]", answer("all", done=2), "all"),
]

FORMATS = [
    _failed("malformed JSON", events(GOOD, '{"choices": [', "[DONE]"), "upstream_protocol", text="kept "),
    _failed("nested JSON", events(GOOD, '{"a":' + "[" * 100_000, "[DONE]"), "upstream_protocol", text="kept "),
    _failed(
        "nested JSON that closes",
        events(GOOD, '{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "[DONE]"),
        "upstream_protocol",
        text="kept ",
    ),
    _whole("CR", _lines(b"\r"), "one two"),
    _whole("LF", _lines(b"\n"), "one two"),
    _whole("CRLF", _lines(b"\r\n"), "one two"),
    _whole(
        "BOM, comments, empty data",
        raw(HEAD, b"\xef\xbb\xbf" + line(chunk("one ")) + b": hm\n\n", b"data:\n\n", line(chunk("two", "stop"))),
        "one two",
    ),
    _whole(
        "nothing that means anything",
        events(chunk("one "), '{"choices": []}', '{"choices": [{"delta": {"content": null}}]}', "42", "[]", FINISH),
        "one ",
    ),
    _whole("one byte a packet", answer("你好 ", FAMILY, slice=1), f"你好 {FAMILY}"),
    _whole(
        "line ends that are none",
        raw(HEAD, line(chunk("a\u2028b\u0085c\x0bd\x1ce", "stop"))),
        "a\u2028b\u0085c\x0bd\x1ce",
    ),
    _whole("NUL", answer("a\0b", "\0"), "ab"),
    _whole("lone surrogates", answer("a\ud800b", "\udc00c\ud800"), "a\ufffdb\ufffdc\ufffd"),
    _whole("a surrogate pair in two deltas", answer("\ud83d", "\ude00!"), "😀!"),
    _whole("no UTF-8", raw(HEAD, line(chunk("a")), b'data: {"note": "\xff\xfe"}\n\n' + line(FINISH)), "a"),
    _whole("emoji with joiners", answer(*FAMILY), FAMILY),
    _failed("an unknown finish", answer("kept ", finish="abort"), "upstream_protocol", text="kept "),
]

REFUSALS = [
    _failed("401 that repeats the key", _repeats_the_key(401), "upstream_authentication", says="Not welcome"),
    _failed("403 that repeats the key", _repeats_the_key(403), "upstream_authentication", says="Not welcome"),
    _failed("400 that repeats the key", _repeats_the_key(400), "upstream_bad_request", says="Not welcome"),
    _failed(
        "429 in seconds",
        _repeats_the_key(429, **{"Retry-After": "77"}),
        "upstream_rate_limit",
        retry_after=lambda seconds: seconds == 77,
    ),
    _failed(
        "429 with a date",
        _later,
        "upstream_rate_limit",
        retry_after=lambda seconds: seconds is not None and 60 <= seconds <= 90,
    ),
    _failed(
        "429 with an absurd time",
        status(429, {"error": {"message": "never"}}, {"Retry-After": "9" * 30}),
        "upstream_rate_limit",
        retry_after=lambda seconds: seconds == 86_400,
    ),
    _failed(
        "429 with text",
        status(429, {"error": {"message": "later"}}, {"Retry-After": "soon"}),
        "upstream_rate_limit",
        retry_after=lambda seconds: seconds == 10,  # our own, where theirs is none
        within=RETRIES,
    ),
    _failed(
        "500 with HTML",
        status(500, f"<html><body>{SECRET} {KEY}</body></html>"),
        "upstream_unavailable",
        within=RETRIES,
    ),
    _failed(
        "context length",
        status(400, {"error": {"message": "maximum context length is 1", "code": "context_length_exceeded"}}),
        "context_length",
    ),
    _failed("200 with HTML", status(200, f"<html>{SECRET}</html>"), "upstream_protocol"),
    _failed(
        "200 with a JSON error",
        status(200, {"error": {"message": f"No: {KEY}", "type": "invalid_request_error", "trace": SECRET}}),
        "upstream_bad_request",
        says="No: ",
    ),
    _failed("200 with JSON of no use", status(200, {"hello": SECRET}), "empty_answer"),
    _whole(
        "200 with a whole answer",
        status(200, {"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}]}),
        "whole",
    ),
    _failed(
        "an error in the stream",
        events(GOOD, json.dumps({"error": {"message": f"Broke: {KEY}", "code": 500, "trace": SECRET}}), "[DONE]"),
        "upstream_unavailable",
        text="kept ",
        says="Broke: ",
    ),
    _failed(
        "gzip",
        raw(
            HEAD.replace(b"Connection", b"Content-Encoding: gzip\r\nConnection"),
            gzip.compress(line(chunk("x")) * 200_000),
        ),
        "upstream_protocol",
    ),
    _failed("no HTTP", raw(f"SSH-2.0-{SECRET}\r\n".encode()), "upstream_protocol"),
    _failed("redirect inwards", redirect("http://169.254.169.254/latest/meta-data"), "upstream_protocol"),
    _failed("redirect to a path of its own", redirect("/v1/internal", 307), "upstream_protocol"),
]

SIZES = [
    _failed(
        "a huge line",
        raw(HEAD + line(GOOD) + b"data: ", *[b"x" * MEGABYTE] * HUGE_LINE),
        "upstream_protocol",
        text="kept ",
        within=SLACK,
    ),
    _failed(
        "an answer that never ends",
        answer("x" * 65_536, endless=True),
        "upstream_protocol",
        text=lambda text: len(text) <= MAX_ANSWER and set(text) == {"x"} and len(text) > MAX_ANSWER // 2,
        within=TOTAL,
    ),
    _failed(
        "a slow answer that never ends",
        answer("tick ", endless=True, delay=0.05),
        "upstream_timeout",
        text=lambda text: text.startswith("tick tick "),
        within=TOTAL,
    ),
    _whole(
        "very many tiny chunks",
        raw(HEAD, *[line(chunk("x")) * 1000] * (TINY_CHUNKS // 1000), line(FINISH)),
        lambda text: text == "x" * TINY_CHUNKS,
        within=TOTAL,
    ),
]

TOOL: dict[str, Any] = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
ARGUMENTS = '{"city": "北京"}'
CALLED = ("call_0", "look_up", ARGUMENTS)


def _called(*pieces: object) -> Behaviour:
    """A stream of deltas under ``tool_calls``, a list each."""
    lines = [json.dumps({"choices": [{"delta": {"tool_calls": piece}}]}) for piece in pieces]
    return events(*lines, json.dumps({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}), "[DONE]")


def _piece(arguments: object, **names: object) -> dict[str, object]:
    name = {"name": "look_up"} if "id" in names else {}
    return {**names, "function": {**name, "arguments": arguments}}


TOOLS = [
    _whole(
        "text, a call, text",
        answer("one ", deltas=[*call(0, ARGUMENTS[:5], ARGUMENTS[5:]), {"content": "two"}]),
        "one two",
        calls=(CALLED,),
    ),
    _whole("a call in bytes", answer(deltas=call(0, *ARGUMENTS), slice=1), "", calls=(CALLED,)),
    _whole("a call whole, without a number", _called([_piece(ARGUMENTS, id="call_0")]), "", calls=(CALLED,)),
    _whole(
        "calls at once, arguments as objects",
        _called([_piece({"a": 1}, id="x", index=0), _piece({"b": 2}, id="y", index=1)]),
        "",
        calls=(("x", "look_up", '{"a": 1}'), ("y", "look_up", '{"b": 2}')),
    ),
    _whole("a call of nothing", answer(deltas=call(0)), "", calls=(("call_0", "look_up", "{}"),)),
    _whole(
        "arguments that are no JSON", answer(deltas=call(0, "{never")), "", calls=(("call_0", "look_up", "{never"),)
    ),
    _failed(
        "a stall in arguments",
        answer("kept ", deltas=call(0, ARGUMENTS[:5], ARGUMENTS[5:]), stall=3),
        "upstream_timeout",
        text="kept ",
        calls=(("call_0", "look_up", ARGUMENTS[:5]),),
        says=SILENT,
        within=BETWEEN_TOKENS,
    ),
    _failed(
        "reset in arguments",
        answer(deltas=call(0, ARGUMENTS[:5], ARGUMENTS[5:]), cut=2),
        "upstream_protocol",
        calls=(("call_0", "look_up", ARGUMENTS[:5]),),
    ),
    _failed(
        "reset before arguments",
        answer("kept ", deltas=call(0, "x"), cut=2),
        "upstream_protocol",
        text="kept ",
        calls=(),
    ),
    _failed(
        "an error after a call",
        events(
            json.dumps({"choices": [{"delta": {"tool_calls": [_piece(ARGUMENTS, id="call_0")]}}]}),
            json.dumps({"error": {"message": "Broke", "code": 500}}),
        ),
        "upstream_unavailable",
        calls=(CALLED,),
        says="Broke",
    ),
]

FAULTS: Sequence[Fault] = [*STALLS, *CUTS, *FORMATS, *REFUSALS, *SIZES, *TOOLS]
BY_NAME = {fault.name: fault for fault in FAULTS}


def behave(request: Request) -> Behaviour:
    """Do what the last user message of ``request`` asks for; an echo if that is nothing."""
    said = next(message["content"] for message in reversed(request.body["messages"]) if message["role"] == "user")
    if not said.startswith(COMMAND):
        return echo()
    does = BY_NAME[said.removeprefix(COMMAND)].does
    return does(request) if callable(does) else does
