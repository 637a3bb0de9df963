"""What was said is found again: any part of a word, in any script, the same on every database."""

from __future__ import annotations

import random
import sys
import time
import unicodedata
from datetime import timedelta
from io import StringIO
from typing import Any

import httpx
import pytest
from django.core.management import call_command
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.test import APIClient

from conversations.access.rules import Caller, identifier_of
from conversations.exceptions import InvalidRequest
from conversations.models import Conversation, Message, SearchText
from conversations.search import folding, index
from conversations.search.folding import Folded, fold
from conversations.search.index import DatabaseIndex, Document
from conversations.search.query import MOST_WORDS, Query
from conversations.search.snippets import LENGTH, marks, snippet
from conversations.services import search as searching
from tests.upstream import ScriptedUpstream, answer, status

from .accounts import key_of, make_user, require_login
from .helpers import chat

# Texts, what is looked for, and what of the text is marked: None where it is not found.
CASES: list[tuple[str, str, list[str] | None]] = [
    ("The quick brown fox", "QUICK", ["quick"]),
    ("The quick brown fox", "fox the", ["The", "fox"]),
    ("The quick brown fox", "own", ["own"]),
    ("The quick brown fox", "quick cat", None),
    ("The quick brown fox", "-fox quick", None),
    ("The quick brown fox", "quick -cat", ["quick"]),
    ("The quick brown fox", '"quick brown"', ["quick brown"]),
    ("The quick brown fox", '"brown quick"', None),
    ("The quick\n  brown fox", '"quick brown"', ["quick\n  brown"]),
    ("The quick brown fox", "“quick brown”", ["quick brown"]),
    ("Café crème à la naïve", "cafe CREME", ["Café", "crème"]),
    ("Cafe\u0301 noir", "café", ["Cafe\u0301"]),
    ("Straße und Gasse", "STRASSE", ["Straße"]),
    ("ΟΔΟΣ", "οδος", ["ΟΔΟΣ"]),
    ("Ёлка", "елка", ["Ёлка"]),
    ("今天天气很好，我们去公园。", "天气", ["天气"]),
    ("今天天气很好，我们去公园。", "园", ["园"]),
    ("今天天气很好，我们去公园。", "天气很", ["天气很"]),
    ("今天天气很好，我们去公园。", "公园 天气", ["天气", "公园"]),
    ("今天天气很好，我们去公园。", "气天", None),
    ("今天天气很好，我们去公园。", "“我们去”", ["我们去"]),
    ("ＡＢＣ１２３　全角", "abc123", ["ＡＢＣ１２３"]),
    ("カタカナとひらがな", "カタ", ["カタ"]),
    ("カタカナとひらがな", "かた", None),
    ("ｶﾞｲﾄﾞ", "ガイド", ["ｶﾞｲﾄﾞ"]),
    ("がんばって", "か", None),
    ("안녕하세요 세계", "하세", ["하세"]),
    ("안녕하세요 세계", "녀", None),
    (unicodedata.normalize("NFD", "안녕하세요"), "안녕", [unicodedata.normalize("NFD", "안녕")]),
    ("สวัสดีชาวโลก", "สวัสดี", ["สวัสดี"]),
    ("สวัสดีชาวโลก", "สวส", None),
    ("Well done 👍🏽 friend", "👍", ["👍"]),
    ("I ❤️ it", "❤", ["❤️"]),
    ("call my_function(arg) in foo::bar", "my_function(", ["my_function("]),
    ("call my_function(arg) in foo::bar", "foo::bar", ["foo::bar"]),
    ("100% of _all_ \\ cases", "100%", ["100%"]),
    ("100% of _all_ \\ cases", "%_", None),
    ("100% of _all_ \\ cases", "\\", ["\\"]),
    ("run it with --help or -v", "--help", ["--help"]),
    ('it\'s "quoted"', "it's", ["it's"]),
    ("ﬁne print", "fine", ["ﬁne"]),
    ("İstanbul", "istanbul", ["İstanbul"]),
    ("naive naive naive", "naive", ["naive", "naive", "naive"]),
    ("aaaa", "aa", ["aaaa"]),
]


def stored(text: str, *, title: str = "", owner: str = "", **fields: Any) -> Conversation:
    conversation = Conversation.objects.create(user_identifier=owner, title=title, **fields)
    message = Message.objects.create(conversation=conversation, role="user", content=text)
    DatabaseIndex().add([Document(message.pk, conversation.pk, text)])
    return conversation


def found(api: APIClient | httpx.Client, q: str, **query: Any) -> list[dict[str, Any]]:
    response = (
        api.get("/search", params={"q": q, **query})
        if isinstance(api, httpx.Client)
        else api.get("/search", {"q": q, **query})
    )
    assert response.status_code == 200, response.content
    conversations: list[dict[str, Any]] = response.json()["conversations"]
    return conversations


def marked(hit: dict[str, Any]) -> list[str]:
    (part,) = hit["snippets"]
    return [part["text"][start:end] for start, end in part["highlights"]]


@pytest.mark.parametrize(("text", "q", "marks"), CASES)
def test_the_table_of_cases(api: APIClient, text: str, q: str, marks: list[str] | None) -> None:
    stored("something else")
    conversation = stored(text)
    hits = found(api, q)
    if marks is None:
        assert hits == []
    else:
        (hit,) = hits
        assert hit["session_id"] == str(conversation.session_id)
        assert marked(hit) == marks
        assert hit["snippets"][0]["text"] == text


@pytest.mark.parametrize(("text", "q", "marks"), CASES)
def test_titles_are_found_alike(api: APIClient, text: str, q: str, marks: list[str] | None) -> None:
    Conversation.objects.create(title=text[:200])
    hits = found(api, q)
    assert [[text[start:end] for start, end in hit["title_highlights"]] for hit in hits] == ([marks] if marks else [])


PARTS = st.sampled_from(
    [*"aÉßﬁİ \n", "\u0301", "\u3099", "か", "ｶﾞ", "한", "\u1100", "\u1161", "\u11a8", "天", "สี", "👍🏽", "\ufe0f"]
)


@given(st.lists(PARTS, max_size=12).map("".join))
def test_folding_twice_changes_nothing_and_parts_fold_as_the_whole(text: str) -> None:
    folded = fold(text)
    assert fold(folded) == folded
    assert "".join(map(fold, folding._clusters(text, 0, len(text)))) == folded


@given(st.text(), st.data())
def test_any_part_of_any_text_is_found_where_it_is(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    word = fold(text[start:end])
    folded = Folded(text)
    if word.strip() and word in folded.folded:
        for first, last in marks(folded, Query((word,))):
            assert word in fold(text[first:last])


@pytest.mark.parametrize("marks", ["\u0301\u0327", "\u064b\u0650", "\u05b0\u05b1", "\u0e38\u0e48"])
def test_marks_upon_marks_take_no_long_time(marks: str) -> None:
    """Putting many of them in order would take minutes, in one step."""
    text = "a" + marks * 200_000
    began = time.process_time()
    folded = Folded(text)
    assert len(folded.folded) <= 1 + folding.MOST_MARKS
    assert folded.place(0, 1)[0] == 0
    assert time.process_time() - began < 2


def test_every_character_that_may_change_another_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    known = folding._kinds()
    monkeypatch.setattr(folding, "_LETTERS", (range(0xA0, sys.maxunicode + 1),))
    assert folding._kinds.__wrapped__() == known


def test_places_are_right_in_a_long_text() -> None:
    chance = random.Random(1)
    text = "".join(chance.choices(["天", "é", "e\u0301", " ", "\n\n", "ﬁ", "한", "x"], k=20_000))
    at = 15_000 - 15_000 % 1
    text = f"{text[:at]}needle{text[at:]}"
    part = snippet(text, Query(("needle",)))
    assert part is not None
    ((start, end),) = part.highlights
    assert part.text[start:end] == "needle"
    assert text[part.offset : part.offset + len(part.text)] == part.text
    assert len(part.text) == LENGTH


MANY_WORDS = " ".join(map(str, range(MOST_WORDS + 1)))


# What is asked ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "q",
    [
        "",
        "   ",
        "-word",
        '""',
        '-"two words"',
        "\u0301",
        "\x00",
        "a\x00b",
        "x" * 501,
        " ".join(map(str, range(MOST_WORDS + 1))),
    ],
)
def test_what_cannot_be_looked_for_is_refused_by_name(api: APIClient, q: str) -> None:
    response = api.get("/search", {"q": q})
    assert response.status_code == 400
    assert list(response.json()["errors"]) == ["q"]


def test_lone_surrogates_are_refused(api: APIClient) -> None:
    with pytest.raises(InvalidRequest):
        Query.parsed("-a")
    assert api.get("/search?q=%ED%A0%80").status_code in (200, 400)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"in": "bodies"}, "in"),
        ({"in": "titles,"}, "in"),
        ({"in": ",titles"}, "in"),
        ({"in": "titles,,messages"}, "in"),
        ({"from": "yesterday"}, "from"),
        ({"to": "2026-13-01"}, "to"),
        ({"from": "2026-01-02", "to": "2026-01-01T00:00:00Z"}, "to"),
        ({"archived": "perhaps"}, "archived"),
        ({"limit": "51"}, "limit"),
        ({"limit": "0"}, "limit"),
        ({"language": "en"}, "language"),
    ],
)
def test_a_query_that_means_nothing_is_refused(api: APIClient, query: dict[str, str], field: str) -> None:
    response = api.get("/search", {"q": "word", **query})
    assert response.status_code == 400
    assert list(response.json()["errors"]) == [field]


def test_a_cursor_of_another_list_is_refused(api: APIClient) -> None:
    for number in range(3):
        stored(f"word {number}", title="word")
    following = api.get("/conversations", {"limit": "1"}).json()["next"]
    cursor = httpx.URL(following).params["cursor"]
    response = api.get("/search", {"q": "word", "cursor": cursor})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_cursor")


def test_all_words_have_to_be_in_one_text(api: APIClient) -> None:
    conversation = stored("apples")
    other = Message.objects.create(conversation=conversation, role="assistant", content="pears")
    DatabaseIndex().add([Document(other.pk, conversation.pk, "pears")])
    assert found(api, "apples pears") == []
    assert len(found(api, "apples")) == len(found(api, "pears")) == 1


def test_where_and_which_and_when(api: APIClient) -> None:
    now = timezone.now()
    said = stored("needle", title="hay", updated_at=now)
    named = stored("hay", title="needle", updated_at=now - timedelta(minutes=1), is_archived=True)
    Message.objects.create(conversation=named, role="assistant", model_type="glm", content="hay")
    old = stored("needle", updated_at=now - timedelta(days=9), created_at=now - timedelta(days=9))
    Message.objects.filter(conversation=old).update(created_at=now - timedelta(days=9))

    def ids(**query: str) -> list[str]:
        return [hit["session_id"] for hit in found(api, "needle", **query)]

    a, b, c = (str(each.session_id) for each in (said, named, old))
    assert ids() == [a, b, c]
    assert ids(**{"in": "titles"}) == [b]
    assert ids(**{"in": "messages"}) == [a, c]
    assert ids(**{"in": ""}) == ids(**{"in": "titles,messages,titles"}) == ids()
    assert ids(archived="true") == [b]
    assert ids(archived="false") == [a, c]
    assert ids(model_type="glm") == [b]
    day = (now - timedelta(days=9)).date().isoformat()
    assert ids(to=day) == [c]
    assert ids(**{"from": day, "to": day}) == [c]
    assert ids(**{"from": (now - timedelta(hours=1)).isoformat()}) == [a, b]


def test_pages_go_on_where_the_last_ended(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "FIRST_PAGE", 2)
    monkeypatch.setattr(searching, "MOST_AT_ONCE", 4)
    now = timezone.now()
    wanted = []
    for number in range(23):
        text = "needle" if number % 3 == 0 else "hay"
        conversation = stored(text, updated_at=now - timedelta(minutes=number))
        wanted += [str(conversation.session_id)] if text == "needle" else []
    seen: list[str] = []
    url: str | None = "/search?q=needle&limit=3"
    while url:
        body = api.get(url).json()
        assert len(body["conversations"]) <= 3
        seen += [hit["session_id"] for hit in body["conversations"]]
        url = body["next"]
    assert seen == wanted
    # One that looked through much may come back with nothing, and goes on all the same.
    monkeypatch.setattr(searching, "MOST_LOOKED_AT", 4)
    seen, url, pages = [], "/search?q=needle", 0
    while url:
        body = api.get(url).json()
        seen += [hit["session_id"] for hit in body["conversations"]]
        url, pages = body["next"], pages + 1
    assert seen == wanted
    assert pages > 3


def test_three_snippets_of_the_newest_messages(api: APIClient) -> None:
    conversation = Conversation.objects.create()
    messages = [Message.objects.create(conversation=conversation, role="user", content=f"word {n}") for n in range(5)]
    DatabaseIndex().add([Document(each.pk, conversation.pk, each.content) for each in messages])
    (hit,) = found(api, "word")
    assert [part["text"] for part in hit["snippets"]] == ["word 4", "word 3", "word 2"]


# Whose ------------------------------------------------------------------------------------------------------------
def test_nobody_finds_what_is_anothers(api: APIClient, settings: Any) -> None:
    require_login(settings)
    kim, lee = make_user("kim"), make_user("lee")
    stored("the needle of kim", title="needle", owner=identifier_of(kim))
    mine = stored("the needle of lee", owner=identifier_of(lee))
    api.credentials(HTTP_AUTHORIZATION=key_of(lee)["Authorization"])
    assert [hit["session_id"] for hit in found(api, "needle")] == [str(mine.session_id)]
    assert found(api, "kim") == []
    api.credentials(HTTP_AUTHORIZATION=key_of(lee, ["chat"])["Authorization"])
    assert api.get("/search", {"q": "needle"}).json()["code"] == "scope_missing"


# As it is said ----------------------------------------------------------------------------------------------------
def test_a_message_is_found_the_moment_its_answer_has_ended_and_gone_with_it(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    model.script = [answer("The answer is ", "forty-two"), status(400, "no")]
    done = chat(client, "What is the question?").done
    (hit,) = found(client, "forty-two")
    assert [part["message_id"] for part in hit["snippets"]] == [done["message_id"]]
    assert len(found(client, "question")) == 1
    chat(client, "and this one fails", session_id=done["session_id"])
    assert len(found(client, "fails")) == 1
    assert SearchText.objects.count() == 3
    client.delete(f"/messages/{done['message_id']}")
    assert found(client, "forty-two") == found(client, "fails") == []
    client.delete(f"/conversations/{done['session_id']}")
    assert found(client, "question") == []
    assert not SearchText.objects.exists()


def test_what_is_missing_is_made_anew(in_transaction: None) -> None:
    conversation = Conversation.objects.create()
    for number in range(5):
        Message.objects.create(conversation=conversation, role="user", content=f"text {number}")
    temporary = Conversation.objects.create(is_temporary=True, expires_at=timezone.now())
    Message.objects.create(conversation=temporary, role="user", content="text")

    def rebuilt(*arguments: str) -> str:
        out = StringIO()
        call_command("rebuild_search", *arguments, stdout=out)
        return out.getvalue().strip()

    assert rebuilt() == "5"
    assert rebuilt() == "0"
    SearchText.objects.update(text="wrong")
    assert rebuilt("--all") == "5"
    assert sorted(SearchText.objects.values_list("text", flat=True)) == [f"text {number}" for number in range(5)]
    last = Message.objects.filter(conversation=conversation).order_by("-pk").values_list("pk", flat=True)[0]
    assert rebuilt("--all", "--from", str(last)) == "1"


class Elsewhere(DatabaseIndex):
    """An index of a project's own."""

    added: list[Document] = []

    def add(self, documents: Any) -> None:
        self.added.extend(documents)


def test_a_project_may_have_an_index_of_its_own(settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "SEARCH": f"{__name__}.Elsewhere"}
    assert type(index.current()) is Elsewhere


@pytest.mark.parametrize(
    "path",
    [
        "nowhere.Index",
        "conversations.search.query.Query",
        "conversations.search.index.nothing",
        "",
        ".Index",
        "..x.Index",
    ],
)
def test_a_setting_that_names_no_index_is_an_error(settings: Any, path: str) -> None:
    from conversations.checks.settings import check_app_settings

    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "SEARCH": path}
    assert [message.id for message in check_app_settings(None)] == ["conversations.E015"]


def test_the_number_of_statements_does_not_grow(api: APIClient, django_assert_max_num_queries: Any) -> None:
    for _number in range(30):
        stored("word in a text")
    with django_assert_max_num_queries(3):
        searching.search(caller=Caller(sees_all=True), search=searching.Search(query=Query.parsed("word")), limit=20)
