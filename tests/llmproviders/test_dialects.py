"""What model servers answer, each in its dialect: the same is read wherever the bytes were cut, and over a socket."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from llmproviders import CompletionFinished, ContentDelta, Delta, ProviderError, ReasoningDelta, ThoughtSoFar, Usage
from llmproviders.answer import AnswerFraming, AnswerReader
from llmproviders.text import ThinkSplitter
from tests.llmproviders.conftest import Ask, Outcome
from tests.upstream import ScriptedUpstream, raw

NO_USAGE = None
DONE = b"data: [DONE]\n\n"


def sse(*documents: object, end: bytes = b"\n\n") -> bytes:
    return b"".join(b"data: " + json.dumps(document).encode() + end for document in documents)


def delta(content: object = None, *, finish: str | None = None, **fields: object) -> dict[str, Any]:
    said = fields if content is None else {"content": content, **fields}
    return {"model": "m", "choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


def choice(**fields: object) -> dict[str, Any]:
    return {"model": "m", "choices": [fields]}


def whole(message: object, *, finish: str | None = "stop", **fields: object) -> bytes:
    return json.dumps({**choice(index=0, message=message, finish_reason=finish), **fields}).encode()


def usage(prompt: object, completion: object, **fields: object) -> dict[str, object]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, **fields}


STOP = delta(finish="stop")
HI = delta("Hi")


@dataclass
class Case:
    """A body, and what is to be read of it; ``end`` is the finish reason, or the code of the error."""

    name: str
    body: bytes
    content: str = ""
    reasoning: str = ""
    end: str = "stop"
    says: str = ""  # within the error's text
    usage: Usage | None = None
    content_type: str = "text/event-stream"
    model: str | None = "m"


THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
SUMMARY = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
NESTED = json.loads('[{"type": "text", "text":' * 50 + '"x"' + "}]" * 50)
REASON = {"error": {"message": "out of memory", "code": 500}}
TOO_LONG = '{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"x"}'

CASES = [
    # Errors in odd places
    Case("an error as a field", sse(HI) + f"error: {TOO_LONG}\n\n".encode() + DONE, "Hi", end="context_length"),
    Case("an error as a field, first", f"error: {TOO_LONG}\n\ndata: [DONE]\n\n".encode(), end="context_length"),
    Case("an error as a field, last", f"error: {TOO_LONG}".encode(), end="context_length", says="context size"),
    Case("an error without a field", sse(HI) + json.dumps(REASON).encode() + b"\n\n" + DONE, "Hi",
         end="upstream_unavailable", says="out of memory"),
    Case("an error in a list", sse(HI) + sse([REASON]), "Hi", end="upstream_unavailable", says="out of memory"),
    Case("an error without its blank line", sse(HI) + sse(REASON, end=b""), "Hi", end="upstream_unavailable",
         says="out of memory"),
    Case("an error event of plain words", sse(HI) + b"event: error\ndata: out of memory\n\n", "Hi",
         end="upstream_unavailable", says="out of memory"),
    Case("an error of the choice", sse(HI, choice(delta={"content": ""}, finish_reason="error", **REASON)), "Hi",
         end="upstream_unavailable", says="out of memory"),
    Case("an error in a list, without a field", sse(HI) + json.dumps([REASON]).encode() + b"\n", "Hi",
         end="upstream_unavailable", says="out of memory"),
    Case("an error of a code and a text", sse(HI, {"text": "GPU is gone", "error_code": 50001}) + DONE, "Hi",
         end="upstream_unavailable", says="GPU is gone"),
    Case("an error of a type and a message", sse(HI, {"choices": None, "error_type": "BadRequestError",
         "error_message": "GPU is gone"}) + DONE, "Hi", end="upstream_bad_request", says="GPU is gone"),
    Case("a code that says that all is well", sse(HI, {"code": 0, "message": "Success", "choices": []}, STOP) + DONE,
         "Hi"),
    # Contents that are lists
    Case("texts in a list", sse(delta(["H", {"type": "text", "text": "i"}]), STOP) + DONE, "Hi"),
    Case("text parts", sse(delta([{"type": "text", "text": "H"}]), delta([{"type": "text", "text": "i"}]), STOP)
         + DONE, "Hi"),
    Case("thinking parts", sse(delta([THOUGHT]), delta([{"type": "text", "text": "Hi"}]), STOP) + DONE, "Hi", "hm"),
    Case("both in one", sse(delta([THOUGHT, {"type": "text", "text": "Hi"}]), STOP) + DONE, "Hi", "hm"),
    Case("a summary of the reasoning", sse(delta([SUMMARY]), HI, STOP) + DONE, "Hi", "hm"),
    Case("a thought that is a text", sse(delta([{"type": "thinking", "thinking": "hm"}]), HI, STOP), "Hi", "hm"),
    Case("one part without a list", sse(delta({"type": "text", "text": "Hi"}), STOP), "Hi"),
    Case("reasoning that is a list", sse(delta(reasoning=[{"type": "text", "text": "hm"}]), HI, STOP), "Hi", "hm"),
    Case("unknown parts", sse(delta([{"type": "reference", "reference_ids": [1]}, {"type": "text", "text": "Hi"},
         {"type": 7}, 7, None, {"type": "text", "text": None}, {"type": "text"}]), STOP) + DONE, "Hi"),
    Case("parts of a whole", whole({"role": "assistant", "content": [SUMMARY, {"type": "text", "text": "Hi"}]}),
         "Hi", "hm", content_type="application/json"),
    Case("parts nested without end", sse(HI, delta(NESTED), STOP), "Hi"),
    # Finish reasons
    *(
        Case(f"finish reason {word}", sse(HI, delta(finish=word)) + DONE, "Hi", end="upstream_protocol")
        for word in ("network_error", "insufficient_system_resource", "error_finish", "error", "abort", "aborted",
                     "ERROR", "server_error", "internal_error", "cancelled", "failed", "timeout")
    ),
    *(
        Case(f"finish reason {word}", sse(HI, delta(finish=word)) + DONE, "Hi", end=word)
        for word in ("length", "content_filter", "sensitive", "eos", "model_length", "tool_calls", "end_turn",
                     "error_free")
    ),
    Case("cut, and then stopped", sse(HI, delta(finish="length"), STOP) + DONE, "Hi", end="length"),
    Case("broken, and then stopped", sse(HI, delta(finish="error"), STOP) + DONE, "Hi", end="upstream_protocol"),
    Case("a failure in a whole", whole({"content": "Hi"}, finish="network_error"), "Hi", end="upstream_protocol"),
    # Choices
    Case("an index that counts tokens", sse(*(choice(index=n, delta={"content": c}) for n, c in enumerate("Hi!")),
         choice(index=3, delta={}, finish_reason="stop")) + DONE, "Hi!"),
    Case("two choices", sse({"model": "m", "choices": [{"index": 1, "delta": {"content": "no"}},
         {"index": 0, "delta": {"content": "Hi"}}]}, STOP), "Hi"),
    # The end of the body
    Case("[DONE] without its blank line", sse(HI) + b"data: [DONE]", "Hi"),
    Case("[DONE] with one line feed", sse(HI) + b"data: [DONE]\n", "Hi"),
    Case("the last chunk without its blank line", sse(HI, delta("!", finish="stop"), end=b"\n\n")[:-2], "Hi!"),
    Case("the last chunk without its blank line, CRLF", sse(HI, STOP, end=b"\r\n\r\n")[:-2], "Hi"),
    Case("half a chunk at the end", sse(HI) + sse(delta("!", finish="stop"))[:-5], "Hi", end="upstream_protocol"),
    Case("half a [DONE] at the end", sse(HI) + b"data: [DO", "Hi", end="upstream_protocol"),
    Case("another kind of event at the end", sse(HI) + b"event: ping\ndata: {}", "Hi", end="upstream_protocol"),
    Case("no end", sse(HI), "Hi", end="upstream_protocol"),
    Case("no blank lines at all", sse(HI, delta("!"), STOP, end=b"\n") + b"data: [DONE]\n", "Hi!"),
    # Framings
    *(
        Case(f"events as {kind}", sse(HI, STOP) + DONE, "Hi", content_type=kind)
        for kind in ("application/json", "text/plain", "text/html", "")
    ),
    *(
        Case(f"JSON as {kind}", whole({"content": "Hi"}), "Hi", content_type=kind)
        for kind in ("text/event-stream", "text/plain", "text/html", "")
    ),
    *(
        Case(f"an error as {kind}", json.dumps(REASON).encode(), end="upstream_unavailable", says="out of memory",
             content_type=kind)
        for kind in ("text/event-stream", "application/json", "text/plain", "")
    ),
    Case("blanks before JSON", b"\r\n \n\t" + whole({"content": "Hi"}), "Hi"),
    Case("a BOM before JSON", b"\xef\xbb\xbf" + whole({"content": "Hi"}), "Hi", content_type="application/json"),
    Case("a BOM before events", b"\xef\xbb\xbf" + sse(HI, STOP) + DONE, "Hi"),
    Case("blanks and a BOM before events", b"\n\n\xef\xbb\xbf\n" + sse(HI, STOP) + DONE, "Hi"),
    Case("a list of one whole", b"[" + whole({"content": "Hi"}) + b"]", "Hi", content_type="application/json"),
    Case("an error in a list as JSON", json.dumps([REASON]).encode(), end="upstream_unavailable",
         says="out of memory", content_type="application/json"),
    Case("a line of JSON for each chunk", b"\n".join(json.dumps(d).encode() for d in (HI, delta("!"), STOP)), "Hi!",
         content_type="application/x-ndjson"),
    Case("[DONE] after a whole", whole({"content": "Hi"}) + b"\n\ndata: [DONE]\n\n", "Hi"),
    Case("half of a whole", whole({"content": "Hi"})[:-9], end="upstream_protocol", content_type="application/json"),
    Case("plain words", b"upstream connect error", end="upstream_protocol", says="upstream connect error",
         content_type="text/plain"),
    Case("a page", b"\n<!DOCTYPE html><html>secret", end="upstream_protocol", says="web page"),
    Case("nothing at all", b"", end="upstream_protocol"),
    Case("the field's name twice", b"".join(b"data: " + sse(each, end=b"\ndata:\ndata:\n\n") for each in (HI, STOP))
         + b"data: " + DONE, "Hi"),
    Case("no field's name at the end", sse(HI) + json.dumps(STOP).encode() + b"\n\n[DONE]\n\n", "Hi"),
    # The whole message again
    Case("the message beside an empty delta", sse(HI, delta("!"), choice(delta={}, message={"content": "Hi!"},
         finish_reason="stop")) + DONE, "Hi!"),
    Case("the message beside no delta", sse(HI, choice(message={"content": "Hi"}, finish_reason="stop")), "Hi"),
    Case("the message after thoughts alone", sse(delta(reasoning="hm"), choice(delta={"content": ""}, message={
         "reasoning": "hm", "content": "Hi"}, finish_reason="stop")), "Hi", "hm"),
    Case("the message after tags", sse(delta("<think>hm</think>Hi"), choice(delta={}, message={"reasoning": "hm",
         "content": "Hi"}, finish_reason="stop")), "Hi", "hm"),
    Case("only a message", sse(choice(index=0, delta={}, message={"content": "Hi"}, finish_reason="stop")) + DONE,
         "Hi"),
    # Refusals
    Case("a refusal", sse(delta(refusal="I "), delta(refusal="cannot"), STOP) + DONE, "I cannot"),
    Case("a refusal as a whole", whole({"content": None, "refusal": "No"}, finish="content_filter"), "No",
         end="content_filter", content_type="application/json"),
    Case("a part that refuses", sse(delta([{"type": "refusal", "refusal": "No"}]), STOP), "No"),
    # Nothing said
    Case("[DONE] alone", DONE, end="empty_answer", model=None),
    Case("an object without choices", sse({"id": "x", "model": "m"}) + DONE, end="empty_answer"),
    Case("a whole without choices", b'{"id": "x", "model": "m"}', end="empty_answer",
         content_type="application/json"),
    Case("a stop without a word", sse(delta(role="assistant", content=""), STOP) + DONE, end="empty_answer"),
    Case("blanks only", sse(delta(" \n"), STOP) + DONE, " \n", end="empty_answer", says="without a word"),
    Case("NUL only", sse(delta("\0"), STOP) + DONE, end="empty_answer"),
    Case("a whole without a word", whole({"content": None}), end="empty_answer", content_type="application/json"),
    Case("reasoning only", sse(delta(reasoning_content="hm"), STOP) + DONE, "", "hm", end="empty_answer",
         says="without an answer"),
    Case("reasoning that used all tokens", sse(delta(reasoning="hm"), delta(finish="length")) + DONE, "", "hm",
         end="empty_answer", says="max_tokens"),
    Case("a <think> that is never closed", sse(delta("<think>hm"), STOP) + DONE, "", "hm", end="empty_answer"),
    *(
        Case(f"a thought in {tag}", sse(delta(f"{tag}hm"), delta(f"{close}\n\nHi {tag}"), STOP) + DONE, f"Hi {tag}",
             "hm")
        for tag, close in ThinkSplitter.TAGS.items()
    ),
    Case("a link first", sse(delta("[THE"), delta(" LINK]"), STOP) + DONE, "[THE LINK]"),
    Case("filtered", sse(delta(finish="content_filter")) + DONE, end="empty_answer", says="content filter"),
    Case("a tool called", sse(delta(tool_calls=[{}]), delta(finish="tool_calls")), end="empty_answer", says="tool"),
    # Noise
    Case("lines that are no chunk", b"data: ping\n\ndata: 2024-04-07 20:20:50\n\n" + sse(HI) + b"data: :\n\n"
         + sse(STOP) + b'data: "x"\n\n' + DONE, "Hi"),
    Case("raw control characters", b'data: {"model": "m", "choices": [{"delta": {"content": "a\tb\0c\x01"}}]}\n\n'
         + sse(STOP) + DONE, "a\tbc\x01"),
    Case("raw line feeds in a whole", b'{"model": "m", "choices": [{"message": {"content": "a\n\tb"},'
         b' "finish_reason": "stop"}]}', "a\n\tb", content_type="application/json"),
    Case("blanks before thoughts", sse(delta("\n"), delta(reasoning="hm"), HI, STOP), "Hi", "hm"),
    Case("a part of no type", sse(delta([{"type": None, "text": "Hi"}, 5, None, ["x"]]), STOP) + DONE, "Hi"),
    # Names
    *(
        Case(f"{reason!r} while it goes on", sse(delta("H", finish=reason), delta("i", finish=reason)), "Hi",
             end="upstream_protocol")
        for reason in ("null", "None", "NULL", "")
    ),
    Case("an error that tells of a role", sse(HI, {"detail": "Unknown role: system"}) + DONE, "Hi",
         end="upstream_unavailable", says="Unknown role"),
    # Counts
    Case("counts of the choice", sse(HI, choice(delta={}, finish_reason="stop", usage=usage(1, 2))) + DONE, "Hi",
         usage=Usage(1, 2, 3)),
    Case("counts as floats and texts", sse(HI, STOP, {"choices": [], "usage": usage(1.0, "2", total_tokens="3.0")}),
         "Hi", usage=Usage(1, 2, 3)),
    Case("the fullest counts", sse({**HI, "usage": usage(5, 1)}, {**STOP, "usage": usage(5, 4)},
         {"choices": [], "usage": usage(0, 0)}) + DONE, "Hi", usage=Usage(5, 4, 9)),
    Case("zeros", sse(HI, {**STOP, "usage": usage(0, 0, total_tokens=0)}) + DONE, "Hi", usage=NO_USAGE),
    Case("a total that is too small", sse(HI, {**STOP, "usage": usage(2, 3, total_tokens=0)}) + DONE, "Hi",
         usage=Usage(2, 3, 5)),
    *(
        Case(f"counts of {bad!r}", sse(HI, {**STOP, "usage": usage(bad, 1)}) + DONE, "Hi", usage=NO_USAGE)
        for bad in (-1, "-1", 1.5, "x", "", True, None, 10**30, "9" * 30, 2**31, 2**31 - 1, [1], 1e300, "inf", "nan")
    ),
    Case("counts of an answer that is none", sse(delta(reasoning="hm"), {**delta(finish="length"),
         "usage": usage(1, 2)}), "", "hm", end="empty_answer", usage=Usage(1, 2, 3)),
]  # fmt: skip


def read(chunks: Iterable[bytes]) -> Outcome:
    """What the decoder makes of a body in these pieces, at whose end the connection was not broken."""
    outcome = Outcome()
    try:
        outcome.deltas.extend(_deltas(chunks))
    except _Failed as failed:
        outcome.deltas, outcome.error = failed.before, failed.error
    return outcome


class _Failed(Exception):
    def __init__(self, before: list[Delta], error: ProviderError) -> None:
        self.before, self.error = before, error


def _deltas(chunks: Iterable[bytes]) -> list[Delta]:
    framing, reader = AnswerFraming(max_line_bytes=10_000, max_bytes=10_000), AnswerReader(max_bytes=10_000)
    found: list[Delta] = []

    def all_of() -> Iterator[Delta]:
        for chunk in chunks:
            yield from reader.read(framing.feed(chunk))
        yield from reader.read(framing.end())
        yield from reader.flush()
        yield reader.finished()

    try:
        for one in all_of():
            found.append(one)  # one by one: those before an error count
    except ProviderError as error:
        raise _Failed(found, error) from error
    return found


def shown(outcome: Outcome) -> tuple[str, str, str, str, CompletionFinished | None]:
    last = outcome.deltas[-1] if outcome.deltas else None
    finished = outcome.error.finished if outcome.error else last if isinstance(last, CompletionFinished) else None
    end = outcome.error.code if outcome.error else finished.finish_reason if finished else ""
    return outcome.content, outcome.reasoning, end, str(outcome.error or ""), finished


def check(case: Case, outcome: Outcome) -> None:
    content, reasoning, end, text, finished = shown(outcome)
    assert (content, reasoning, end) == (case.content, case.reasoning, case.end), text
    assert case.says in text
    if not outcome.error or outcome.error.code == "empty_answer":
        assert finished is not None
        assert finished.usage == case.usage
        assert finished.model == (case.model or "")
    for one in outcome.deltas[:-1]:
        assert isinstance(one, ThoughtSoFar) or (isinstance(one, ContentDelta | ReasoningDelta) and one.text)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_same_is_read_wherever_the_bytes_are_cut(case: Case) -> None:
    body = case.body
    check(case, read([body]))
    expected = shown(read([body]))
    assert shown(read(body[start : start + 1] for start in range(len(body)))) == expected
    for cut in range(len(body)):
        assert shown(read([body[:cut], body[cut:]])) == expected, cut


def response(body: bytes, content_type: str, size: int) -> Sequence[bytes]:
    kind = f"Content-Type: {content_type}\r\n" if content_type else ""
    head = f"HTTP/1.1 200 OK\r\n{kind}Connection: close\r\n\r\n".encode()
    return [head, *(body[start : start + size] for start in range(0, len(body), size))]


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_it_is_read_over_a_socket(ask: Ask, upstream: ScriptedUpstream, case: Case, size: int) -> None:
    upstream.script = [raw(*response(case.body, case.content_type, size))]
    check(case, await ask())


@pytest.mark.parametrize("last", [b"data: [DONE]", sse(delta("!", finish="stop"))[:-1]])
async def test_what_is_pending_does_not_count_where_the_connection_broke(
    ask: Ask, upstream: ScriptedUpstream, last: bytes
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9999\r\n\r\n"
    upstream.script = [raw(head, sse(HI) + last)]
    outcome = await ask()
    assert (outcome.content, outcome.error and outcome.error.code) == ("Hi", "upstream_protocol")


async def test_unknown_parts_are_logged_once(
    ask: Ask, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "llmproviders")
    part = {"type": "video\n" + "x" * 1000, "video": "y"}
    upstream.script = [raw(*response(sse(*[delta([part])] * 3, HI, STOP) + DONE, "", 100_000))]
    assert (await ask()).content == "Hi"
    logged = [record.getMessage() for record in caplog.records if "unknown parts" in record.getMessage()]
    assert len(logged) == 1
    assert "video" in logged[0]
    assert "\n" not in logged[0]
    assert len(logged[0]) < 400
