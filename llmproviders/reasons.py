"""What an error body says, whoever wrote it: the reason, the words of its codes, the parameters that it names.

Pure functions. Everything here was written by a stranger and may repeat the key that we sent.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .text import clean

MAX_REASON_CHARS = 300
MAX_SAID_CHARS = 65_536
# So much of a reason is looked at, and of the codes and names beside it: patterns take their time for long texts.
MAX_READ_CHARS = 4_096
MOST_COUNTED = 1e15
# How deep a reason may be wrapped: objects, lists and JSON inside of a text.
MAX_DEPTH = 8

# Names under which servers put their reason, most telling first; what holds it is looked into before all of these.
_REASONS = (
    "message", "Message", "msg", "error_msg", "error_message", "errorMessage", "err_msg", "status_msg", "faultstring",
    "detail", "details", "error_description", "reason", "description", "error", "title",
    "text",
)  # fmt: skip
_HOLDERS = ("error", "Error", "errors", "base_resp", "fault", "Response", "header", "response")
_CODES = ("type", "code", "Code", "status", "error_code", "error_type", "status_code", "__type")
_FIELD = re.compile(r"(?m)^(?:data|error):[ \t]?(.*)$")
_MESSAGE = re.compile(r'"(?:message|msg|error|detail)"\s*:\s*("(?:[^"\\\x00-\x1f]|\\.){1,4000}")')
_TITLE = re.compile(r"<title[^>]{0,200}>([^<]{1,200})</title", re.IGNORECASE)
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s'\",;]+"), r"\1 ***"),
    (re.compile(r"(?i)//[^/\s@]+@"), "//***@"),
    (
        re.compile(r"(?i)((?:api[-_]?key|access[-_]?token|token|key|secret|password)\s*[=:]\s*['\"]?)[^\s&'\",;]+"),
        r"\1***",
    ),
    (re.compile(r"\b(?:sk|pk|rk|gsk|hf|xai|ghp|glpat|nvapi|r8|pplx|key|fw|tgp)[-_][\w.*-]{4,}"), "***"),
    (re.compile(r"\bAIza[\w-]{16,}"), "***"),
    (re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]*)*"), "***"),
    (re.compile(r"\b(?=\w*[0-9])(?=\w*[A-Za-z])\w{32,}\b"), "***"),
)
_CONTROL = re.compile("[\x00-\x20\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_GZIP = b"\x1f\x8b"
_HTML = re.compile(r"<\s*(!doctype|html|head|body)", re.IGNORECASE)


@dataclass(slots=True)
class Said:
    """What was found. ``words`` are types and codes, ``names`` the parameters, ``counts`` whole numbers by name.

    All of it is short: a reason is at most ``MAX_READ_CHARS`` long, with one blank for each stretch of white space.
    """

    reason: str = ""
    words: str = ""
    names: str = ""
    counts: dict[str, float] = field(default_factory=dict)

    @property
    def all(self) -> str:
        """Everything that may tell what kind of refusal it is."""
        return f"{self.words} {self.reason}"


def said_by(body: bytes) -> Said:
    """Read an error's body: JSON of any shape, also as an event of a stream, or a line of text."""
    body = _unpacked(body)
    text = body[:MAX_SAID_CHARS].decode("utf-8", "replace").lstrip("\ufeff").strip()
    for document in _documents(body, text):
        said = said_in(document)
        if said.reason or said.words:
            return said
    return Said(reason=_short(_plain(text)))


def said_in(document: Any) -> Said:
    """Read a JSON value that was parsed."""
    said = Said()
    said.reason = _short(_reason(document, said, MAX_DEPTH))
    return said


def _short(reason: str) -> str:
    return " ".join(reason[:MAX_READ_CHARS].split())


def clean_reason(text: str, *, key: str = "") -> str:
    """One short line of an upstream's own words, with secrets blotted out; ``""`` if nothing of use is left."""
    line = _CONTROL.sub(" ", clean(text[:MAX_SAID_CHARS])).strip()
    if _HTML.search(line):
        return ""
    line = without_key(line, key)
    for pattern_of_secret, replacement in _SECRETS:
        line = pattern_of_secret.sub(replacement, line)
    return line if len(line) <= MAX_REASON_CHARS else line[: MAX_REASON_CHARS - 1].rstrip() + "…"


def without_key(text: str, key: str) -> str:
    """``text`` with the key that was sent blotted out."""
    if not key or key not in text:
        return text
    # A short key may be part of ordinary words.
    pattern = re.escape(key) if len(key) >= 8 else rf"(?<!\w){re.escape(key)}(?!\w)"
    return re.sub(pattern, "***", text)


def _unpacked(body: bytes) -> bytes:
    """Return the body as it was before somebody on the way compressed it, which was not asked for."""
    if not body.startswith(_GZIP):
        return body
    try:
        return zlib.decompressobj(wbits=31).decompress(body, MAX_SAID_CHARS)
    except zlib.error:
        return b""


def _documents(body: bytes, text: str) -> Iterator[Any]:
    """The JSON values of a body: itself, or those of its events."""
    for source in (body, *_FIELD.findall(text)):
        parsed = parsed_json(source)
        if isinstance(parsed, Mapping | list):
            yield parsed


def parsed_json(source: bytes | str) -> Any:
    """Return the value, None where it is no JSON."""
    try:
        return json.loads(source)
    except (ValueError, RecursionError):
        return None


def _reason(value: Any, said: Said, depth: int) -> str:
    if depth == 0:
        return ""
    if isinstance(value, str):
        inner = parsed_json(value) if value.lstrip()[:1] in ("{", "[") else None
        return (_reason(inner, said, depth - 1) or value) if inner is not None else value.strip()
    if isinstance(value, list):
        return next((found for item in value[:10] if (found := _reason(item, said, depth - 1))), "")
    if isinstance(value, Mapping):
        _note(value, said)
        return _reason_of_object(value, said, depth)
    return ""


def _reason_of_object(value: Mapping[str, Any], said: Said, depth: int) -> str:
    metadata = value.get("metadata")
    # What a router was told by the server behind it says more than that it was told something.
    sources = [metadata.get("raw")] if isinstance(metadata, Mapping) else []
    sources += [value[name] for name in _HOLDERS if isinstance(value.get(name), Mapping | list)]
    sources += [value.get(name) for name in _REASONS]
    return next((found for source in sources if (found := _reason(source, said, depth - 1))), "")


def _note(value: Mapping[str, Any], said: Said) -> None:
    for name in _CODES:
        if isinstance(code := value.get(name), str | int):
            said.words = _joined(said.words, str(code))
    location = value.get("loc")
    for named in (value.get("param"), *(location if isinstance(location, list) else ())):
        if isinstance(named, str):
            said.names = _joined(said.names, named)
    for name, count in list(value.items())[:50]:
        # JSON may hold more than any count, and Python's also what is no number.
        if isinstance(count, int | float) and not isinstance(count, bool) and abs(count) < MOST_COUNTED:
            said.counts.setdefault(str(name), count)


def _joined(words: str, word: str) -> str:
    return f"{words} {word[:200]}".strip() if len(words) < MAX_READ_CHARS else words


def _plain(text: str) -> str:
    """The reason in a body that is no JSON: a page's title, a short text, the end of a traceback."""
    if _HTML.search(text):
        title = _TITLE.search(text)
        return " ".join(title[1].split()) if title else ""
    if text[:1] in ("{", "["):  # JSON that was cut, or nearly is some
        found = _MESSAGE.search(text)
        return str(parsed_json(found[1]) or "") if found else ""
    text = "\n".join(_FIELD.findall(text)) or text
    if text.startswith("Traceback"):
        text = text.rpartition("\n")[2]
    # What is no text to read is no reason either.
    return "" if text.count("\ufffd") + text.count("\x00") > len(text) // 20 else text
