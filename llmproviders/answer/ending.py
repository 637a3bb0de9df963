"""What the end of an answer means: a finish reason may be a failure's, and an answer may say nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping

from django.utils.translation import gettext_noop

from ..exceptions import AnswerCut, EmptyAnswer
from ..types import CompletionFinished

# Finish reasons of an answer that broke: abort (vLLM, SGLang), error (vLLM, OpenRouter), network_error (GLM),
# insufficient_system_resource (DeepSeek), error_finish (DashScope), and their like. Every other word is kept.
_BROKEN = re.compile(
    r"abort(ed)?|cancel(l?ed)?|error(_finish)?|\w+_error|fail(ed|ure)?|interrupted"
    r"|timeout|timed_out|insufficient_system_resource|(engine_)?overloaded",
    re.IGNORECASE,
)
_CUT = gettext_noop("The model's server broke off its answer.")
_NOTHING = gettext_noop("The model ended its answer without a word.")
_ONLY_THOUGHT = gettext_noop("The model thought, and ended without an answer.")
_NO_TOKENS = gettext_noop("The model used up its tokens before it began to answer; allow it more (max_tokens).")
_FILTERED = gettext_noop("The model's server withheld the answer (content filter).")
_TOOLS = gettext_noop("The model called a tool instead of answering, and it has none.")
# Why an answer with these finish reasons says nothing.
_WHY: Mapping[str, str] = {
    "length": _NO_TOKENS,
    "max_tokens": _NO_TOKENS,
    "model_length": _NO_TOKENS,
    "model_context_window_exceeded": _NO_TOKENS,
    "content_filter": _FILTERED,
    "sensitive": _FILTERED,
    "safety": _FILTERED,
    "tool_calls": _TOOLS,
    "function_call": _TOOLS,
}


def broken_off(finished: CompletionFinished | None = None) -> AnswerCut:
    """The error of an answer that is not whole; ``finished`` is what is known of its end."""
    return AnswerCut(_CUT, finished=finished)


def nothing_said(finished: CompletionFinished, *, thought: bool) -> EmptyAnswer:
    """The error of an answer without text; ``thought`` says whether there was reasoning."""
    why = _WHY.get(finished.finish_reason.lower(), _ONLY_THOUGHT if thought else _NOTHING)
    return EmptyAnswer(why, finished=finished)


def judged(finished: CompletionFinished, *, answered: bool, thought: bool) -> CompletionFinished:
    """Return ``finished`` if it ends an answer.

    ``answered`` and ``thought`` say whether there was text of either kind. Raises ``AnswerCut`` where the finish
    reason is a failure's, ``EmptyAnswer`` where nothing was said.
    """
    if _BROKEN.fullmatch(finished.finish_reason):
        raise broken_off(finished)
    if not answered:
        raise nothing_said(finished, thought=thought)
    return finished
