"""``</think>`` without ``<think>``: the end of a thought that began in the prompt, or the model talks of the tag."""

from __future__ import annotations

import pytest

from llmproviders import ContentDelta, ReasoningDelta, ThoughtSoFar
from tests.llmproviders.conftest import Ask, Outcome, endpoint, request
from tests.llmproviders.test_dialects import DONE, STOP, delta, read, response, sse, whole
from tests.upstream import ScriptedUpstream, raw

ENDS = {
    "on a line of its own": ("hm\n</think>\n\nHi", "hm\n", "Hi"),
    "right after the thought": ("hm.</think>\n\nHi", "hm.", "Hi"),
    "between two words": ("hm</think>Hi", "hm", "Hi"),
    "after a word": ("hm</think> Hi", "hm", "Hi"),
    "before a word": ("hm. </think>Hi", "hm. ", "Hi"),
    "between signs": ("好的。</think>你好", "好的。", "你好"),
    "at the end of a line": ("hm </think>\r\nHi", "hm ", "Hi"),
    "before markup": ("hm.</think>**Hi**", "hm.", "**Hi**"),
    "first of all": ("</think>\n\nHi", "", "Hi"),
    "after blanks": ("\n\n</think>\n\nHi", "\n\n", "Hi"),
    "after code": ("so:\n```\nx = '`'\n```\nhm `a` \n</think>\nHi", "so:\n```\nx = '`'\n```\nhm `a` \n", "Hi"),
    "a half tag before": ("a </thin b\n</think>\nHi", "a </thin b\n", "Hi"),
    "and again": ("hm\n</think>\nHi\n</think>\nthere", "hm\n", "Hi\n</think>\nthere"),
    "and a whole thought": ("hm\n</think>\n<think>x</think>Hi", "hm\n", "<think>x</think>Hi"),
    "talked of, then there": ("The </think> tag? hm.\n</think>\nHi", "The </think> tag? hm.\n", "Hi"),
}
TALKS = (
    "The </think> tag ends a thought.",
    "It is `</think>`.",
    "Write `x\\n</think>` there.",
    'Write "</think>" there.',
    "Write “</think>” there.",
    "标签“</think>”表示结束。",
    "Close it with </think>, then answer.",
    "It ends with </think>.",
    "Like so:\n```xml\n<b>\n</think>\n```\nDone.",
    "Like so:\n\n~~~\n</think>\n~~~\nDone.",
    "Like so:\n```\n</think>",
    "Write <think>hm</think>Hi.",
    "Like this:\n<think>\nhm\n</think>\nand so on",
    "a </think> b " * 8 + "\n</think>\nc",
    "half a tag </thin",
    "half a tag </think",
)


def pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def streamed(parts: list[str]) -> bytes:
    return sse(*map(delta, parts), STOP) + DONE


def cuts(text: str) -> list[list[str]]:
    return [[text[:at], text[at:]] for at in range(1, len(text))] + [pieces(text, 1), pieces(text, 3), [text]]


@pytest.mark.parametrize(("text", "thought", "answer"), ENDS.values(), ids=ENDS)
def test_all_before_it_was_thought(text: str, thought: str, answer: str) -> None:
    for parts in cuts(text):
        body = streamed(parts)
        for chunks in ([body], pieces_of(body)):
            outcome = read(chunks)
            assert (outcome.reasoning, outcome.content, outcome.error) == (thought, answer, None), parts
            assert order_is_kept(outcome, thought + answer)


def pieces_of(body: bytes) -> list[bytes]:
    return [body[start : start + 1] for start in range(len(body))]


def order_is_kept(outcome: Outcome, text: str) -> bool:
    """So positions that were given stay true."""
    return "".join(d.text for d in outcome.deltas if isinstance(d, ContentDelta | ReasoningDelta)) == text


@pytest.mark.parametrize("text", TALKS)
def test_who_talks_of_the_tag_keeps_the_answer(text: str) -> None:
    for parts in cuts(text):
        outcome = read(pieces_of(streamed(parts)))
        assert (outcome.reasoning, outcome.content, outcome.error) == ("", text, None), parts


def test_what_was_given_as_the_answer_is_taken_back_once() -> None:
    body = streamed(["hm", " so", "\n</think>", "\n\nHi", " there"])
    deltas = read([block + b"\n\n" for block in body.split(b"\n\n")[:-1]]).deltas
    assert deltas[:-1] == [
        ContentDelta("hm"),
        ContentDelta(" so"),
        ThoughtSoFar(),
        ReasoningDelta("\n"),
        ContentDelta("Hi"),
        ContentDelta(" there"),
    ]


def test_what_came_at_once_needs_no_taking_back() -> None:
    assert read([whole({"content": "hm</think>Hi"})]).deltas[:-1] == [ReasoningDelta("hm"), ContentDelta("Hi")]


@pytest.mark.parametrize("text", ["hm\n</think>", "hm </think>", "hm</think>\n\n"])
def test_a_thought_alone_is_no_answer(text: str) -> None:
    for parts in cuts(text):
        outcome = read([streamed(parts)])
        assert outcome.error is not None
        assert (outcome.error.code, outcome.content) == ("empty_answer", "")
        assert outcome.reasoning.rstrip() == "hm"


def test_reasoning_that_the_server_told_apart_is_all_there_is() -> None:
    outcome = read([sse(delta(reasoning="hm"), delta("a\n</think>\nb"), STOP) + DONE])
    assert (outcome.reasoning, outcome.content) == ("hm", "a\n</think>\nb")


FIRST = {
    "closed": ("hm `</think>\n\nHi", "hm `", "Hi", "stop"),
    "opened all the same": ("<think>hm</think>Hi", "hm", "Hi", "stop"),
    "talks of the tag then": ("hm</think>It is `</think>`.", "hm", "It is `</think>`.", "stop"),
    "never closed": ("hm <th", "hm <th", "", "empty_answer"),
    "white space": ("\n hm </thin", "hm </thin", "", "empty_answer"),
}


@pytest.mark.parametrize(("text", "thought", "answer", "end"), FIRST.values(), ids=FIRST)
async def test_a_preset_says_that_its_model_thinks_first(
    ask: Ask, upstream: ScriptedUpstream, text: str, thought: str, answer: str, end: str
) -> None:
    for size in (1, 2, 3, 100):
        upstream.script = [raw(*response(streamed(pieces(text, size)), "text/event-stream", 7))]
        outcome = await ask(thinks_first=True)
        assert (outcome.reasoning, outcome.content) == (thought, answer)
        assert (outcome.error.code if outcome.error else outcome.finished.finish_reason) == end
        assert not any(isinstance(one, ThoughtSoFar) for one in outcome.deltas), "it never came as the answer"


def test_requests_do_not_carry_it() -> None:
    from llmproviders.backends.openai_compatible import request_body

    assert "thinks_first" not in request_body(endpoint("http://127.0.0.1/"), request())
