"""JSON in: an object, or a refusal that says why, whatever the bytes are."""

from __future__ import annotations

import json
from contextlib import suppress
from io import BytesIO
from typing import Any

import pytest
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser
from rest_framework.renderers import BrowsableAPIRenderer, JSONRenderer
from rest_framework.request import Request

from conversations.exceptions import InvalidRequest
from conversations.web.parsers import JSONOnlyNegotiation, StrictJSONParser, loads

GOOD: dict[bytes, dict[str, Any]] = {
    b"{}": {},
    b' \r\n\t{"a": 1} ': {"a": 1},
    '{"你": "好"}'.encode(): {"你": "好"},
    b'{"a": "\\u4f60"}': {"a": "你"},
    b'{"a": "\\ud83d\\ude00"}': {"a": "😀"},
    b'{"a": [1, 2.5, true, false, null, {"b": {}}]}': {"a": [1, 2.5, True, False, None, {"b": {}}]},
    b'{"a": 1, "a": 2}': {"a": 2},
    b'{"a": "' + b"x" * 500_000 + b'"}': {"a": "x" * 500_000},
}
MALFORMED = [
    b"",
    b"{",
    b"}",
    b'{"a"}',
    b'{"a": 1,}',
    b"{'a': 1}",
    b'{"a": 1} {"b": 2}',
    b'{"a": 1}x',
    b'{"a": NaN}',
    b'{"a": Infinity}',
    b'{"a": -Infinity}',
    b'{"a": 01}',
    b'{"a": "\n"}',
    b'{"a": "\\x41"}',
    b'{"a": 1} // comment',
    b"\xef\xbb\xbf{}",
    b'{"a": "\xff"}',
    b'{"a": "\xed\xa0\x80"}',
    b'{"a": "\xc0\x80"}',
    '{"a": 1}'.encode("utf-16"),
    '{"a": 1}'.encode("utf-32"),
    b"\0",
    b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"a":' * 100_000,
    b'{"a": ' + b"9" * 5000 + b"}",
]
NO_OBJECTS = [b"[]", b'[{"a": 1}]', b"1", b"-0.5", b'"text"', b"true", b"null"]


@pytest.mark.parametrize("body", GOOD, ids=lambda body: repr(body[:20]))
def test_an_object_is_read(body: bytes) -> None:
    assert loads(body) == loads(body.decode()) == GOOD[body]


@pytest.mark.parametrize("body", MALFORMED, ids=lambda body: repr(body[:20]))
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(ParseError):
        loads(body)


@pytest.mark.parametrize("body", NO_OBJECTS)
def test_other_json_is_no_object(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        loads(body)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=9), values, max_size=5), st.booleans())
def test_every_object_comes_through_as_it_is(data: dict[str, Any], ascii_only: bool) -> None:
    body = json.dumps(data, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    try:
        assert loads(body) == data
    except ParseError:
        with pytest.raises(UnicodeDecodeError):
            body.decode("utf-8")


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,\\u0aN1-. ', max_size=40))
def test_any_bytes_are_an_object_or_refused(body: bytes | str) -> None:
    with suppress(ParseError, InvalidRequest):
        assert isinstance(loads(body), dict)


def test_an_empty_body_is_an_empty_object() -> None:
    assert StrictJSONParser().parse(BytesIO(b"")) == {}


@pytest.mark.parametrize("body", [b" ", b" \r\n\t ", b"\x0b", b"\x0c", b" \x0b ", b"\xc2\xa0"])
def test_a_body_of_white_space_is_malformed(body: bytes) -> None:
    with pytest.raises(ParseError):
        StrictJSONParser().parse(BytesIO(body))


# What is taken, what is given -----------------------------------------------------------------------------------
def request(content_type: str = "", **headers: str) -> Request:
    factory = RequestFactory(headers=headers)
    return Request(factory.generic("POST", "/", b"{}", content_type=content_type))


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8", "application/json ;"],
)
def test_json_is_taken_however_it_is_written(content_type: str) -> None:
    parser = StrictJSONParser()
    assert JSONOnlyNegotiation().select_parser(request(content_type), [parser]) is parser


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json-patch+json",
        "application/jsonx",
        "text/json",
        "*/*",
        "application/*",
        "nonsense",
    ],
)
def test_nothing_else_is_taken(content_type: str) -> None:
    assert JSONOnlyNegotiation().select_parser(request(content_type), [StrictJSONParser()]) is None


@pytest.mark.parametrize(
    "accept", ["text/html", "application/xml;q=1", "*/*", "application/json;indent=4", "", "nonsense", "a/b;c"]
)
def test_json_is_given_whatever_is_accepted(accept: str) -> None:
    renderer = JSONRenderer()
    chosen = JSONOnlyNegotiation().select_renderer(request(accept=accept), [renderer, BrowsableAPIRenderer()])
    assert chosen == (renderer, "application/json")


def test_the_frameworks_own_parser_would_take_what_ours_refuses() -> None:
    """Why there is one of our own: a list is a body for it, and very deep JSON ends it."""
    taken: object = JSONParser().parse(BytesIO(b"[]"), parser_context={})
    assert taken == []
    with pytest.raises(RecursionError):
        JSONParser().parse(BytesIO(b"[" * 100_000), parser_context={})
