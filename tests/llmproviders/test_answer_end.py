"""When an answer is known to be over, and nothing more is waited for."""

from __future__ import annotations

from typing import Any

import pytest

from llmproviders.answer import AnswerFraming, AnswerReader
from tests.llmproviders.test_dialects import HI, STOP, sse, usage


@pytest.mark.parametrize(
    ("documents", "whole"),
    [
        ([{**HI, "usage": usage(5, 1)}, STOP], False),  # the first count is not the last
        ([{**HI, "usage": usage(5, 1)}, STOP, {"choices": [], "usage": usage(5, 4)}], True),
        ([HI, {**STOP, "usage": usage(5, 4)}], True),
        ([HI, STOP], False),
    ],
)
def test_an_answer_is_whole_with_the_counts_of_its_end(documents: list[dict[str, Any]], whole: bool) -> None:
    framing, reader = AnswerFraming(max_line_bytes=10_000, max_bytes=10_000), AnswerReader(max_bytes=10_000)
    list(reader.read(framing.feed(sse(*documents))))
    assert reader.whole is whole
