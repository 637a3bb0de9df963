"""The end of a thought whose beginning nobody saw: templates of some models write ``<think>`` into the prompt.

The rule. The first ``</think>`` ends a thought that all of the text before it was, unless the text says otherwise:

- nothing opened a thought before it: no ``<think>`` in the text, no reasoning that the server told apart;
- it is in no code: no fence and no backtick before it is open;
- it begins its line or ends it; or it touches what is on one of its sides, and no mark of punctuation or closing quote
  follows (``hm.</think>Hi``; and not: the </think> tag; "</think>"; ends with </think>, then …).

So a model that talks about the tag keeps its answer. Where a preset says that its model thinks first, none of this is
asked: see ``ThinkSplitter``.
"""

from __future__ import annotations

import re

from ..text import ThinkSplitter, begun

# A text with more of them talks about them.
MOST_TAGS = 8
_FENCE = re.compile(r"^[ \t]{0,3}(```|~~~)", re.MULTILINE)
# Within a line.
_BLANKS = " \t\r"
# What is not the beginning of an answer that follows the tag without a blank.
_NO_BEGINNING = "\"'`’”»」』)）]】>.,;:!?。，、；：！？"


class UnopenedThought:
    """Feed the answer's text as it comes, until ``passed``."""

    def __init__(self) -> None:
        self.passed = False
        self._closed = False
        # All of the text before what is held.
        self._before: list[str] = []
        self._held = ""
        # After a tag that is held.
        self._blanks: list[str] = []
        self._tags = 0

    def feed(self, text: str) -> tuple[str | None, str]:
        """Return ``(thought, answer)`` as far as they are sure.

        ``thought`` is None, but when the tag has come: then what of this text was before it, and all earlier text was
        thought too. White space after the tag belongs to nobody.
        """
        if self._closed:
            return None, self._answer(text)
        if self._held.startswith(ThinkSplitter.CLOSE) and not text.strip(_BLANKS):
            self._blanks.append(text)  # nothing new to look at all of the text for
            return None, ""
        text = self._all_held() + text
        start = 0
        while (at := text.find(ThinkSplitter.CLOSE, start)) >= 0:
            after = text[at + len(ThinkSplitter.CLOSE) :]
            ends = _ends_thought("".join([*self._before, text[:at]]), after)
            if ends is None:
                return None, self._hold(text, at)
            if ends:
                self._closed = True
                return text[:at], self._answer(after)
            start = at + 1
            self._tags += 1
            if self._tags == MOST_TAGS:
                self.passed = True
                return None, text
        return None, self._hold(text, len(text) - begun(text, ThinkSplitter.CLOSE))

    def flush(self) -> tuple[str | None, str]:
        """Return what was held, at the end of the text: a tag there ends its line."""
        text = self._all_held()
        self.passed = True
        if text.startswith(ThinkSplitter.CLOSE) and _ends_thought("".join(self._before), "\n"):
            return "", ""
        return None, text

    def _all_held(self) -> str:
        held = "".join([self._held, *self._blanks])
        self._held = ""
        self._blanks.clear()
        return held

    def _hold(self, text: str, at: int) -> str:
        self._held = text[at:]
        if at:
            self._before.append(text[:at])
        return text[:at]

    def _answer(self, text: str) -> str:
        text = text.lstrip()
        self.passed = bool(text)
        return text


def _ends_thought(before: str, after: str) -> bool | None:
    """Whether a tag between the two ends a thought; None where more has to come to tell."""
    line = before[before.rfind("\n") + 1 :]
    if ThinkSplitter.OPEN in before or len(_FENCE.findall(before)) % 2 or line.count("`") % 2:
        return False
    if not line.strip():
        return True
    rest = after.lstrip(_BLANKS)
    if not rest:
        return None
    if rest[0] == "\n":
        return True
    touches = not line[-1].isspace() or rest == after
    return touches and rest[0] not in _NO_BEGINNING
