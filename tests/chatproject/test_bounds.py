"""What anybody may send leaves nothing behind, is counted, and holds nobody else up."""

from __future__ import annotations

import encodings
import functools
import gc
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import User
from django.utils.translation import trans_real

from conversations.limits import rates
from tests.conftest import Server
from tests.conversations.accounts import require_login, session_of

SIZE = 4000

# Each makes a request of values that nobody sent before.
FORMS: dict[str, Callable[[int], dict[str, Any]]] = {
    "lang": lambda n: {"url": "/schema", "params": {"lang": f"{n}" + "x" * SIZE}},
    "lang of json": lambda n: {"url": "/openapi.json", "params": {"lang": f"{n}" + "x" * SIZE}},
    "version": lambda n: {"url": "/schema", "params": {"version": f"{n}" + "x" * SIZE}},
    "lang of docs": lambda n: {"url": "/docs", "params": {"lang": f"{n}" + "x" * SIZE}},
    "language": lambda n: {"url": "/api/health", "headers": {"Accept-Language": f"x{n}-" + "x" * SIZE}},
    "language cookie": lambda n: {"url": "/api/health", "headers": {"Cookie": f"django_language=x{n}" + "x" * SIZE}},
    "session": lambda n: {"url": "/conversations", "headers": {"Cookie": f"sessionid={n}" + "x" * SIZE}},
    "key": lambda n: {"url": "/conversations", "headers": {"Authorization": f"Bearer {n}" + "x" * SIZE}},
    "host": lambda n: {"url": "/", "headers": {"Host": f"x{n}" + "x" * SIZE}},
    "origin": lambda n: {"url": "/", "headers": {"Origin": f"https://x{n}" + "x" * SIZE}},
    "request id": lambda n: {"url": "/", "headers": {"X-Request-Id": f"x{n}" + "x" * SIZE}},
    "path": lambda n: {"url": f"/x{n}" + "x" * SIZE},
    "static file": lambda n: {"url": f"/static/x{n}" + "x" * SIZE},
    "id": lambda n: {"url": f"/conversations/x{n}" + "x" * SIZE},
    "accept": lambda n: {"url": "/schema", "headers": {"Accept": f"text/x{n}" + "x" * SIZE}},
    "charset": lambda n: {"url": "/api/health", "headers": {"Content-Type": f"a/b; charset=x{n}" + "x" * SIZE}},
    "short charset": lambda n: {"url": "/api/health", "headers": {"Content-Type": f"a/b; charset=x{n}" + "x" * 400}},
    "encoding of accept": lambda n: {"url": "/schema", "headers": {"Accept": f"a/b; q*=x{n}" + "x" * SIZE + "''1"}},
    "address": lambda n: {"url": "/conversations", "headers": {"X-Forwarded-For": f"2001:db8:{n:x}::1"}},
    "ready": lambda n: {"url": "/api/health/ready"},
}
COUNT = 50
# Small objects that may stay of a request, on average: what is remembered of an address takes three.
FEW = 15


def sent(client: httpx.Client, form: str, first: int) -> int:
    """Send ``COUNT`` requests of a form; return how many small objects this process, the server's, then has in use."""
    for number in range(first, first + COUNT):
        assert client.get(**FORMS[form](number)).status_code < 500
    for kept in gc.get_objects():
        # Those with a bound may fill; many of Django's have none, and are what is looked for.
        if type(kept) is functools._lru_cache_wrapper and kept.cache_parameters()["maxsize"] is not None:
            kept.cache_clear()
    gc.collect()
    return sys.getallocatedblocks()


def sent_texts() -> int:
    """Return how many long texts of those that were sent something in this process holds."""
    sent = ("x" * (SIZE // 2), b"x" * (SIZE // 2))
    held = (text for holder in gc.get_objects() for text in gc.get_referents(holder) if type(text) in (str, bytes))
    return len({id(text) for text in held if sent[type(text) is bytes] in text})  # type: ignore[operator]


@pytest.fixture
def no_log() -> Iterator[None]:
    """Nothing is logged: pytest keeps each record. Loggers remember what is enabled, and only these calls end that."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_that_is_sent_stays(
    presets: None, unpaced: None, client: httpx.Client, settings: Any, no_log: None, form: str
) -> None:
    require_login(settings, RATE_LIMIT="", TRUSTED_PROXIES=["127.0.0.1"])
    settings.ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
    sent(client, form, 0)
    counts = [sent(client, form, number * COUNT) for number in range(1, 5)]
    # What stays grows each time; a thread or a module that is new does so once.
    assert min(after - before for before, after in pairwise(counts)) < COUNT * FEW
    assert sent_texts() < COUNT / 2  # threads hold the last that each of them saw


@pytest.mark.parametrize("keep", [str, str.encode])
def test_what_stays_is_seen(
    presets: None, unpaced: None, client: httpx.Client, no_log: None, keep: Callable[[str], Any]
) -> None:
    """The measure itself: of something that keeps what it is sent."""
    kept: list[Any] = []

    def send(url: str, **request: Any) -> httpx.Response:
        kept.append(keep("x" * SIZE + url))
        kept.extend({number} for number in range(2 * FEW))
        return client.get(url, **request)

    keeper: Any = SimpleNamespace(get=send)
    sent(keeper, "ready", 0)  # what tests before this one left may go meanwhile
    before = sent(keeper, "ready", COUNT)
    after = sent(keeper, "ready", 2 * COUNT)
    assert after - before >= COUNT * FEW
    assert sent_texts() >= COUNT


def test_no_encoding_that_a_form_names_stays(
    presets: None, unpaced: None, client: httpx.Client, settings: Any, no_log: None
) -> None:
    require_login(settings, RATE_LIMIT="")
    name = f"{{number}}{'x' * (SIZE // 8)}"
    part = f"--x\r\nContent-Disposition: form-data; name=\"a\"; filename*={name}''b\r\n\r\n\r\n"
    form = "".join(part.format(number=number) for number in range(COUNT)) + "--x--"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    client.get("/accounts/login")  # without its cookie no form is read
    before = len(encodings._cache)  # type: ignore[attr-defined]
    assert client.post("/accounts/login", content=form, headers=headers).status_code < 500
    assert len(encodings._cache) - before < COUNT / 2  # type: ignore[attr-defined]


def test_django_knows_no_language_that_is_not_ours(presets: None, client: httpx.Client, settings: Any) -> None:
    known: Any = trans_real
    known._translations.clear()  # other tests speak others
    for lang in ("de", "en-gb", "zz", "../en", "zh-hans", "en", "", "fr-ca", "zh"):
        status = client.get("/schema", params={"lang": lang}).status_code
        assert status == (200 if lang in ("en", "zh-hans", "") else 400)
        client.get("/docs", params={"lang": lang})
        client.get("/", headers={"Accept-Language": lang})
        client.get("/", headers={"Cookie": f"django_language={lang}"})
    assert set(known._translations) <= {*dict(settings.LANGUAGES), settings.LANGUAGE_CODE}


def test_the_documents_names_are_the_same_in_every_language(presets: None, client: httpx.Client) -> None:
    """Whoever makes a client of it would else get another one where they speak Chinese."""
    english, chinese = (client.get("/openapi.json", params={"lang": lang}).json() for lang in ("en", "zh-hans"))
    assert english["components"].keys() == chinese["components"].keys()
    for kind, named in english["components"].items():
        assert named.keys() == chinese["components"][kind].keys()


# What costs is counted -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", path) for path in ("/schema", "/openapi.json", "/docs", "/conversations", "/accounts")),
        *((method, path) for method in ("GET", "POST") for path in ("/accounts/login", "/admin/login/")),
        ("GET", "/accounts/password"),
    ],
)
def test_whatever_costs_is_counted(presets: None, client: httpx.Client, settings: Any, method: str, path: str) -> None:
    require_login(settings, RATE_LIMIT="3/day")
    rates.forget()
    answers = [client.request(method, path) for _number in range(5)]
    assert [answer.status_code == 429 for answer in answers] == [False] * 3 + [True] * 2
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert answers[-1].headers["RateLimit-Limit"] == "3"


def test_pages_of_who_is_logged_in_count_as_theirs(presets: None, client: httpx.Client, settings: Any) -> None:
    require_login(settings, RATE_LIMIT="3/day")
    rates.forget()
    headers = session_of(User.objects.create_user("kim", password="difference engine 1822"))
    assert [client.get("/accounts", headers=headers).status_code for _number in range(4)] == [200, 200, 200, 429]
    assert client.get("/accounts/login").status_code == 200  # of the address


def test_the_document_is_made_once_a_language_and_format(
    presets: None, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from drf_spectacular.generators import SchemaGenerator

    made: list[str] = []
    get_schema: Any = SchemaGenerator.get_schema

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        made.append("once")
        return get_schema(self, *args, **kwargs)

    monkeypatch.setattr(SchemaGenerator, "get_schema", counted)
    texts = set()
    for lang in ("en", "zh-hans") * 3:
        for path in ("/schema", "/openapi.json"):
            texts.add(client.get(path, params={"lang": lang}).text)
    assert len(made) <= 4
    assert len(texts) == 4


def test_many_logins_take_few_threads_and_hold_up_no_other_page(
    presets: None, server: Server, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password costs as on a real server here, and time, not this machine's processor."""
    require_login(settings, RATE_LIMIT="")
    at_once, most, lock = 0, 0, threading.Lock()
    begun, may_end = threading.Event(), threading.Event()

    def slow(*_args: Any, **_kwargs: Any) -> str:
        nonlocal at_once, most
        with lock:
            at_once, most = at_once + 1, max(most, at_once + 1)
        begun.set()
        may_end.wait(20)
        with lock:
            at_once -= 1
        return "pbkdf2_sha256$1$salt$of_nobody"

    monkeypatch.setattr(PBKDF2PasswordHasher, "encode", slow)
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]
    before = threading.active_count()

    def attempt(number: int) -> int:
        with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as visitor:
            token = visitor.get("/accounts/login").cookies["csrftoken"]
            fields = {"username": f"nobody{number}", "password": "wrong", "csrfmiddlewaretoken": token}
            return visitor.post("/accounts/login", data=fields).status_code

    with ThreadPoolExecutor(30) as visitors, httpx.Client(base_url=server.url, timeout=20, trust_env=False) as other:
        attempts = [visitors.submit(attempt, number) for number in range(30)]
        assert begun.wait(20)
        deadline = time.monotonic() + 20
        while other.get("/accounts/login").status_code != 200 or other.get("/conversations").status_code != 401:
            assert time.monotonic() < deadline
        assert threading.active_count() - before - 30 < 20
        may_end.set()
        assert {done.result() for done in attempts} == {200}
    assert most <= 2
