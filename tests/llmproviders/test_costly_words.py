"""What a server may write to keep us busy: answers and errors are read in a time that grows as they do."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from llmproviders.answer import AnswerFraming, AnswerReader
from llmproviders.answer.documents import MAX_DOCUMENTS, sequence
from llmproviders.answer.unopened import UnopenedThought
from llmproviders.dialect import Dialect, Wish, change_for
from llmproviders.exceptions import AnswerTooLarge
from llmproviders.failures import MAX_RETRY_AFTER, from_document, from_response
from llmproviders.reasons import said_by

MANY = 60_000
BODY = {"model": "m", "max_tokens": 2000, "temperature": 0.7, "stream": True, "messages": []}
NESTED = [{"error": [{"error": [{"code": 1, "type": 2}] * 10}] * 10}] * 10
REASONS = {
    "digits": "context length " + "1" * MANY,
    "digits and commas": "context length exceeded: " + "1," * MANY,
    "blanks": "max_tokens is too large 1" + " " * MANY + "x",
    "blanks and digits": "max_tokens is too large" + " 1" * MANY,
    "a range without end": "temperature is invalid: " + "1" * MANY + "x",
    "a range of points": "temperature is invalid: " + "1." * MANY + "x",
    "words": "maximum " + "limit a b c d " * (MANY // 14),
    "one long word": "exceed" * MANY,
    "brackets": "temperature is invalid: " + "[ " * MANY,
    "slashes": "//" * MANY,
    "names of secrets": "token= " * (MANY // 7),
}


def processor_seconds(job: Callable[[], object]) -> float:
    """What a job costs, without what the collector does for the whole process meanwhile."""
    gc.disable()
    try:
        before = time.thread_time()
        job()
        return time.thread_time() - before
    finally:
        gc.enable()


@pytest.mark.parametrize("name", REASONS)
@pytest.mark.parametrize("status", [400, 429, 500])
def test_a_refusal_is_read_at_once(name: str, status: int) -> None:
    body = json.dumps({"error": {"message": REASONS[name], "code": status}}).encode()

    def judge() -> None:
        change_for(status, said_by(body), BODY, Dialect())
        from_response(status, {}, body)
        from_document(json.loads(body))

    assert processor_seconds(judge) < 0.5


def test_many_neighbours_of_one_role_are_joined_in_one_pass() -> None:
    """A refusal decides whether they are joined; how many there are is decided by whoever asks."""
    said = {"role": "user", "content": "x" * 1_900}
    wish = Wish(("url", "m", ""), {**BODY, "messages": [said] * 10_000})
    refusal = b'{"error": {"message": "Conversation roles must alternate"}}'
    assert processor_seconds(lambda: wish.refused(400, refusal)) < 1.0
    assert [len(message["content"]) for message in wish.body["messages"]] == [10_000 * 1_902 - 2]


@pytest.mark.parametrize(
    "body",
    [
        b"<html" + b"<title" * 10_000,
        b"<" * MANY,
        b"error:" * 10_000,
        b'{"message":' * 6_000,
        json.dumps(NESTED).encode(),
    ],
    ids=["titles", "tags", "fields", "messages", "nested"],
)
def test_so_is_a_body_of_another_kind(body: bytes) -> None:
    assert processor_seconds(lambda: from_response(500, {}, body)) < 0.5


def test_what_stands_within_the_first_thousand_characters_counts() -> None:
    text = f"maximum context length\n is  8192 tokens{' ' * 2000}.{'x' * MANY}"
    said = said_by(json.dumps({"error": text}).encode())
    assert said.reason.startswith("maximum context length is 8192 tokens .xxx")
    assert len(said.reason) < 5_000


def test_many_documents_are_read_in_one_pass() -> None:
    text = '{"a": "b"}\n' * (MAX_DOCUMENTS - 1)
    assert processor_seconds(lambda: sequence(text)) < 1.0
    assert len(sequence(text)[0]) == MAX_DOCUMENTS - 1


@pytest.mark.parametrize(
    "body",
    [b"{}\n" * 1_300_000, b"[" + b"{}," * 1_300_000 + b"{}]", b"data: {}\n" * 300_000 + b"\n"],
    ids=["lines", "a list", "one event"],
)
def test_too_many_documents_are_refused(body: bytes) -> None:
    framing, reader = AnswerFraming(max_line_bytes=2**20, max_bytes=2**22), AnswerReader(max_bytes=2**22)

    def read() -> None:
        list(reader.read(framing.feed(body)))
        list(reader.read(framing.end()))

    def refused() -> None:
        with pytest.raises(AnswerTooLarge):
            read()

    assert processor_seconds(refused) < 2.0


def test_blanks_behind_a_tag_are_not_a_reason_to_read_all_of_the_text_again() -> None:
    thought = UnopenedThought()
    thought.feed("word\n" * 400_000 + "a word </think>")

    def wait() -> None:
        for _number in range(300):
            assert thought.feed("  ") == (None, "")

    assert processor_seconds(wait) < 0.5
    assert thought.feed("\n") == ("", "")


def test_blanks_behind_a_tag_may_come_one_by_one() -> None:
    thought = UnopenedThought()
    thought.feed("a word </think>")
    assert processor_seconds(lambda: [thought.feed(" ") for _blank in range(50_000)]) < 1.0
    assert thought.feed("- and more") == (None, "</think>" + " " * 50_000 + "- and more")


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        ("20.5", 20.5),
        ("-5", 0.0),
        ("1e9", MAX_RETRY_AFTER),
        ("1e400", None),
        ("NaN", None),
        ("-Infinity", None),
        ("9" * 400, None),
    ],
)
def test_an_estimate_that_is_no_time_is_none(estimate: str, expected: Any) -> None:
    body = f'{{"error": "Model m is currently loading", "estimated_time": {estimate}}}'
    assert from_response(503, {}, body.encode()).retry_after == expected
