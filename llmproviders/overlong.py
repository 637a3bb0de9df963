"""Refusals of what is too long, in the words of the servers that people use: which it is, and the numbers in it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .reasons import Said

# Bounded, as is every repetition that a pattern begins with: each place in a text is a beginning.
_NUMBER = r"(\d[\d,_]{0,15})"

# Tokens in a time, money and the bound of the answer are other matters, also where they name tokens or a length.
_ANOTHER_MATTER = re.compile(
    r"rate[_ -]?limit|tokens?[ -]per[ -](minute|min|day|hour|second)|\bTPM\b|\bTPD\b|quota|per[ -]minute"
    r"|too many requests|insufficient|billing|input[_ ]token[_ ]limit[_ ]per|tokens?/min",
    re.IGNORECASE,
)
_OVERLONG = re.compile(
    r"context[ _-]?(length|window|size|limit|overflow)|maximum context|max_?context|contextwindow"
    r"|context the overflows|n_ctx|max_model_len|max_seq_len"
    r"|max_position_embeddings|prompts? (is |was |are )?too (long|large|big)"
    r"|prompt_too_long|reduce the (length|size|(input )?token)|too many (input |prompt |total )?tokens"
    r"|(inputs?|messages?|conversation|request|text|query|content) (is |are |was )?too (long|many tokens)"
    r"|input[ _]?(length|tokens?)[^.]{0,60}exceed|exceeds?[^.]{0,60}input (length|tokens?|limit)"
    r"|exceed\w{0,3} (the )?(model'?s? )?(maximum|max\.?|limit)[^.]{0,40}(tokens?|length)"
    r"|(token count|tokens?|length)[^.]{0,60}exceed"
    r"|exceed\w{0,3}[^.]{0,60}(token limit|tokens? (in|of) the prompt)"
    r"|(exceed\w{0,3}|over) (the )?(model )?token limit|maximum (allowed )?(prompt|input|sequence) length"
    r"|max(imum)? (input|prompt|message) (length|tokens?)|longer than (the )?(model|maximum|max|context|allowed)"
    r"|prompt[^.]{0,60}(longer|larger) than|range of input length|prompt exceeds max length"
    r"|must have less than \d+ tokens|`?inputs`? tokens \+ `?max_new_tokens"
    r"|prompt_tokens[^.]{0,40}must be less than|max_prompt_tokens|tokens_limit_reached|max size: \d+ tokens"
    r"|tokens to keep from the initial prompt|maximum (number of )?(input )?tokens (allowed|is)"
    r"|string_above_max_length|expected maxlength|(current )?length is \d+ while limit is"
    r"|上下文|超长|过长|太长|超[过出限].{0,16}(长度|上限|最大|token|字数|限制)|(长度|token|字数).{0,16}超[过出限]"
    r"|exceed(ed)? max(imum)? (message )?tokens|tokens? limit exceeded|exceed\w{0,3} max message tokens"
    r"|\b1261\b|\b1039\b",
    re.IGNORECASE,
)
# With a 5xx, which may as well speak of a context that could not be made, also how it came to be refused.
_BECAUSE = re.compile(
    r"exceed|too (long|large|big|many)|long(er)? than|larg(er)? than|reduce|overflow|maximum|shorter"
    r"|must (be|have) less"
    r"|not enough|超|过长|太长",
    re.IGNORECASE,
)
_ANSWER_BOUND = r"['\"`]?max[ _]?(?:completion[ _]?|output[ _]?|new[ _]?)?tokens['\"`]?"
_ANSWER = re.compile(
    rf"{_ANSWER_BOUND}[^.\d]{{0,60}}(is |value |: )?(too (large|big|high)|must be|should be|cannot|can't"
    rf"|exceed|invalid"
    rf"|at most|参数非法|不能|必须|最大)|(invalid|range of|illegal|maximum value for"
    rf"|max value of)[^.]{{0,20}}{_ANSWER_BOUND}"
    rf"|{_ANSWER_BOUND}\s*(:|\(|=)?\s*\d+\)?\s*(>|is too|exceeds|is greater|must|cannot)"
    rf"|maximum (allowed )?number of output tokens|{_ANSWER_BOUND} 参数"
    rf"|maximum tokens you requested exceeds|{_ANSWER_BOUND} value of \d+ but the supported range",
    re.IGNORECASE,
)
# What names both is met by a shorter prompt, which has a shorter answer with it.
_BOTH = re.compile(r"inputs?`? (length|tokens) (and|\+) `?max|context_length_exceeded|requested about", re.IGNORECASE)
_ANSWER_LIMITS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"at most {_NUMBER} (?:completion |output )?tokens",
        rf"range is from \d+[^\d]{{1,20}}{_NUMBER} \((?:in|ex)clusive",
        r"\[\s*\d+\s*,\s*(\d+)\s*[\])]",
        rf"> {_NUMBER},? which is the maximum",
        rf"(?:less than or equal to|at most|up to|no (?:more|greater|larger) than|cannot exceed"
        rf"|不能超过|不超过|最大只支持"
        rf"|最大(?:值)?为?|<=|≤)\s*[`'\"]?{_NUMBER}",
        rf"\b(?:maximum|max|limit)(?: \w+){{0,4}} (?:is|of|:) ?[`'\"]?{_NUMBER}",
        rf"between \d+ and {_NUMBER}",
        rf"(?:\d\)?|than|exceeds?(?: the)?)\s*>?\s*(?:limit|maximum|max)?\s*(?:of )?\(?{_NUMBER}",
    )
)
_LEFT = re.compile(rf"{_NUMBER} > {_NUMBER} - {_NUMBER}")
# With room for fewer tokens, it is the prompt that is too long. With more, a shorter answer is asked for, as not
# everyone who asks can shorten a prompt.
_LEAST_ROOM = 64

# The window, then what the prompt alone takes, then prompt and answer together: the first that is found counts.
_LIMITS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\d \+ \d[\d,_]* > (\d[\d,_]*)",
        rf"(?:max_seq_len|max_model_len|n_ctx)[^\d]{{0,4}}{_NUMBER}",
        rf"context (?:length|window|size|limit)(?:(?! by |exceeds limit)[^.\d]){{0,40}}{_NUMBER}",
        rf"with {_NUMBER} maximum context",
        rf"> {_NUMBER} maximum",
        rf"maximum (?:model|prompt|input|allowed) length (?:of|is|\()\s*{_NUMBER}",
        rf"maximum (?:allowed )?(?:input |prompt )?length[^.\d]{{0,6}}{_NUMBER}",
        rf"(?:tokens allowed|supports up to|only supports|token limit|configured limit of"
        rf"|limit of|limit is|cannot exceed|must have less than|max size:|<=)"
        rf"[^\d]{{0,4}}{_NUMBER}",
        rf"max(?:imum)? input tokens:? {_NUMBER}",
        r"input length should be \[\d+, ?(\d+)\]",
        rf"(?:最大|上限|限制)[^\d]{{0,12}}{_NUMBER}",
    )
)
_PROMPTS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\(?{_NUMBER} (?:tokens )?(?:in|from|of) (?:the|your|text) ?(?:input )?(?:messages|prompt|input)",
        rf"{_NUMBER} (?:text |prompt )?`?input`?s?`? tokens",
        rf"(?:messages resulted in|prompt contains(?: at least)?|request contains"
        rf"|requested|received)[^\d]{{0,12}}{_NUMBER}",
        rf"too (?:long|large|big|many tokens):? {_NUMBER}",
        rf"(?:prompt|input|request|tokens|length|prompt_tokens|count)[^\d.;]{{0,4}}\((?:length )?{_NUMBER}",
        rf"{_NUMBER} \+ \d+ > ",
        rf"(?:keep the first|token count of|token count is|input token count:|length is|length) {_NUMBER}",
        rf"given: {_NUMBER}",
    )
)
_CHARACTERS = re.compile(r"string too long|string_above_max_length|characters|字符|字数", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Overlong:
    """The numbers of a refusal, in the model's own tokens; None for what it does not say."""

    limit: int | None = None
    prompt: int | None = None


def is_overlong(said: Said, status: int) -> bool:
    """Whether a refusal means that the prompt does not fit the model."""
    text = said.all
    if _ANOTHER_MATTER.search(text) or asks_for_a_shorter_answer(said):
        return False
    if status == 413:
        return True
    return bool(_OVERLONG.search(text)) and (status < 500 or bool(_BECAUSE.search(text)))


def asks_for_a_shorter_answer(said: Said) -> bool:
    """Whether a refusal means that ``max_tokens`` is larger than the model allows."""
    return bool(_ANSWER.search(said.reason)) and not _BOTH.search(said.all) and not _leaves_too_little(said)


def _leaves_too_little(said: Said) -> bool:
    left = _left(said)
    return left is not None and left[0] - left[1] < _LEAST_ROOM


def _left(said: Said) -> tuple[int, int] | None:
    """Return the window, and what the prompt takes of it, where a refusal reckons with both."""
    found = _LEFT.search(said.reason)
    return found and (_int(found[2]), _int(found[3]))


def answer_limit(said: Said, sent: int) -> tuple[int, bool] | None:
    """The largest ``max_tokens`` that a refusal allows, and whether for any prompt; None if it does not say."""
    if left := _left(said):
        room = left[0] - left[1]
        return (room, False) if 0 < room < sent else None
    for pattern in _ANSWER_LIMITS:
        for found in pattern.finditer(said.reason):
            most = _int(found[1]) - ("exclusive" in found[0])
            if 0 < most < sent:
                return most, True
    return None


def numbers(said: Said) -> Overlong:
    """The window and the prompt's size, as far as the refusal gives them."""
    if _CHARACTERS.search(said.all):
        return Overlong()
    if left := _left(said):
        return Overlong(*left)
    limit = _count(said, "n_ctx") or _first(_LIMITS, said.reason)
    prompt = _count(said, "n_prompt_tokens") or _first(_PROMPTS, said.reason, other_than=limit)
    return Overlong(limit, prompt)


def _count(said: Said, name: str) -> int | None:
    return int(said.counts[name]) if 0 < said.counts.get(name, 0) < 1e9 else None


def _first(patterns: tuple[re.Pattern[str], ...], text: str, *, other_than: int | None = None) -> int | None:
    for pattern in patterns:
        for found in pattern.finditer(text):
            number = _int(found[1])
            if 0 < number < 1_000_000_000 and number != other_than:
                return number
    return None


def _int(digits: str) -> int:
    return int(re.sub(r"[,_]", "", digits)[:12] or 0)
