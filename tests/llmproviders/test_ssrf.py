"""A user's own URL leads nowhere but out: attempts on a canary that listens on loopback.

Each attempt goes the way of a real one: the user's saved settings, with login on, and the provider's stream. The
settings are not validated on their way in, as if they had been saved under other rules. No test looks up a name,
and none reaches beyond loopback.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from asyncio.selector_events import BaseSelectorEventLoop
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from django.core.exceptions import ValidationError

from conversations.admin.user_configs import UserConfigForm
from conversations.engine import completions
from conversations.exceptions import UnknownModel
from conversations.models import UserConfig
from conversations.web.serializers import ConfigUpdateSerializer
from llmproviders import ContentDelta, Endpoint, ProviderError, get_provider, local
from llmproviders.exceptions import AddressRefused, UpstreamUnavailable
from llmproviders.models import Preset
from llmproviders.net import guard, http, pool
from llmproviders.net.deadline import Deadline
from llmproviders.net.http import close_client, post_stream
from llmproviders.net.policy import Policy, policy_for
from llmproviders.types import SetBy
from tests.upstream import ScriptedUpstream, status

from .certificates import self_signed
from .conftest import KEY, Limits, request

CODE = "upstream_unavailable"
TEXT = "The model's server cannot be reached."
PATH = "/v1/chat/completions"
PUBLIC = "93.184.215.14"
PUBLIC_V6 = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"


def _words(text: str) -> list[str]:
    return text.split()


# The attempts ---------------------------------------------------------------------------------------------------
LOOPBACK = _words("""
127.0.0.1 127.0.0.1. 127.1 127.0.1 127.255.255.254 127.000.000.001 0 0.0.0.0 00000000 2130706433 017700000001
0177.1 0177.0.0.1 00000177.0.0.1 0x7f000001 0X7F000001 0x7f.0.0.1 0x7f.1 0x7f.0x0.0x0.0x1 127.0x0.0.1 0x0 020000000001
[::1] [0:0:0:0:0:0:0:1] [0000:0000:0000:0000:0000:0000:0000:0001] [::] [::0.0.0.1] [::ffff:127.0.0.1] [::FFFF:7F00:1]
[0:0:0:0:0:ffff:127.0.0.1] [::127.0.0.1] [::7f00:1] [::ffff:0:127.0.0.1] [64:ff9b::127.0.0.1] [64:ff9b::7f00:1]
[64:ff9b:1::7f00:1] [64:ff9b:1:7f00:0:100::] [2002:7f00:1::] [2002:7f00:1::1] [2001:0:7f00:1::]
[2001:0:1234:5678:0:0:80ff:fffe] [fe80::5efe:127.0.0.1] [2a00::5efe:127.0.0.1] [2a00::200:5efe:7f00:1]
""")
ELSEWHERE = _words("""
10.0.0.1 0x0a000001 172.16.0.1 172.31.255.254 192.168.0.1 3232235521 100.64.0.1 169.254.169.254 2852039166 0xa9fea9fe
169.254.43518 100.100.100.200 168.63.129.16 192.0.0.192 192.0.0.9 192.0.2.1 192.88.99.1 198.18.0.1 198.51.100.1
203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
[fc00::1] [fd12:3456::1] [fd00:ec2::254] [fd20:ce::254] [fe80::1] [fec0::1] [ff02::1] [100::1] [2001:db8::1] [3fff::1]
[5f00::1] [4000::1] [::ffff:10.0.0.1] [::ffff:8.8.8.8] [64:ff9b::10.0.0.1] [64:ff9b::a9fe:a9fe] [2002:a00:1::]
""")
# Hosts that are none, or are only for a reader that is more generous than ours.
MALFORMED = [
    "\uff11\uff12\uff17.0.0.1",  # full-width digits
    "127\u30020\u30020\u30021",  # ideographic full stops
    "127\uff0e0\uff0e0\uff0e1",  # full-width full stops
    "127\uff610\uff610\uff611",  # half-width ideographic full stops
    "\u2460\u2461\u2466.0.0.1",  # circled digits
    "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3",  # circled letters
    "loca\u00adlhost",  # a soft hyphen
    "%31%32%37.0.0.1",
    "127%2e0%2e0%2e1",
    "localhost%00.example.com",
    "127.0.0.1%00",
    "[::1%lo]",
    "[::1%25lo]",
    "[fe80::1%25lo]",
    "[::1]x",
    "[127.0.0.1]",
    "[localhost]",
    "::1",
    "127.0.0.1\t",
    " 127.0.0.1",
    "127.0.0.1..",
    ".127.0.0.1",
    "-127.0.0.1",
]
# What names stand for, one list an answer; the last is repeated. None: there is no such name.
NAMES: dict[str, list[list[str] | None]] = {
    "localhost": [["127.0.0.1", "::1"]],
    "v4.test": [["127.0.0.1"]],
    "v6.test": [["::1"]],
    "zero.test": [["0.0.0.0"]],
    "mapped.test": [["::ffff:127.0.0.1"]],
    "compatible.test": [["::127.0.0.1"]],
    "nat64.test": [["64:ff9b::7f00:1"]],
    "6to4.test": [["2002:7f00:1::1"]],
    "teredo.test": [["2001:0:7f00:1::"]],
    "ten.test": [["10.0.0.5"]],
    "metadata.test": [["169.254.169.254"]],
    "scoped.test": [["fe80::1%lo"]],
    "public-first.test": [[PUBLIC, "127.0.0.1"]],
    "private-first.test": [["127.0.0.1", PUBLIC]],
    "public-v6-first.test": [[PUBLIC_V6, "::1"]],
    "mixed-families.test": [[PUBLIC, "::1"]],
    "many.test": [[*(f"8.8.{number}.8" for number in range(40)), "127.0.0.1"]],
    "rebinding.test": [[PUBLIC], ["127.0.0.1"]],
    "rebinding-v6.test": [[PUBLIC_V6], ["::1"]],
    "flapping.test": [[PUBLIC], ["127.0.0.1"], [PUBLIC], ["127.0.0.1"]],
    "twice.test": [[PUBLIC], [PUBLIC], ["127.0.0.1"]],
    "localhost.example.com": [["127.0.0.1"]],
    "127.0.0.1.nip.test": [["127.0.0.1"]],
    "xn--nxasmq6b.test": [["127.0.0.1"]],
    # No attempts, but they may not look different.
    "public.test": [[PUBLIC]],
    "unknown.test": [None],
}
URLS = [
    # Somebody before the @ is nobody.
    "https://user:password@127.0.0.1:{port}" + PATH,
    "https://public.test@127.0.0.1:{port}" + PATH,
    "https://127.0.0.1:{port}@public.test" + PATH,
    "https://public.test:443@127.0.0.1:{port}" + PATH,
    "https://@127.0.0.1:{port}" + PATH,
    "https://public.test\\@127.0.0.1:{port}" + PATH,
    "https://public.test#@127.0.0.1:{port}" + PATH,
    "https://public.test?@127.0.0.1:{port}" + PATH,
    "https://127.0.0.1:{port}#@public.test" + PATH,
    "https://127.0.0.1:{port}\\.public.test" + PATH,
    # Schemes.
    "http://public.test:{port}" + PATH,
    "HTTP://127.0.0.1:{port}" + PATH,
    "HtTpS://127.0.0.1:{port}" + PATH,
    "ftp://127.0.0.1:{port}/x",
    "file:///etc/passwd",
    "file://127.0.0.1:{port}/etc/passwd",
    "gopher://127.0.0.1:{port}/_POST",
    "ws://127.0.0.1:{port}" + PATH,
    "unix://127.0.0.1:{port}/x",
    "http+unix://%2Fvar%2Frun%2Fx.sock/",
    "data:text/plain,127.0.0.1",
    "javascript:alert(1)",
    "//127.0.0.1:{port}" + PATH,
    "https:127.0.0.1:{port}" + PATH,
    "https:/127.0.0.1:{port}" + PATH,
    "https:///127.0.0.1:{port}" + PATH,
    "https:\\\\127.0.0.1:{port}" + PATH,
    "127.0.0.1:{port}" + PATH,
    "url:https://127.0.0.1:{port}" + PATH,
    # Ports.
    "https://127.0.0.1" + PATH,
    "https://127.0.0.1:0" + PATH,
    "https://127.0.0.1:" + PATH,
    "https://127.0.0.1:+{port}" + PATH,
    "https://127.0.0.1:0{port}" + PATH,
    "https://127.0.0.1:{port}:{port}" + PATH,
    "https://127.0.0.1:99999" + PATH,
    "https://public.test:{port}:127.0.0.1" + PATH,
    # Lines of a header.
    "https://127.0.0.1:{port}/v1\r\nHost: 127.0.0.1",
    "https://127.0.0.1:{port}/v1 HTTP/1.1\r\nX-Injected: 1\r\n\r\n",
    "https://public.test\r\nHost: 127.0.0.1:{port}/v1",
    "https://public.test:{port}\r\n@127.0.0.1:{port}/v1",
    "https://127.0.0.1:{port}/v1?x=\nX-Injected: 1",
    "https://127.0.0.1:{port}/v1\u0120HTTP/1.1\u010d\u010aX-Injected:1",
    "https://127.0.0.1:{port}/v1%0d%0aX-Injected:%201",
    "https://127.0.0.1:{port}/\x00",
    "https://127.0.0.1\x00.public.test:{port}/",
]
ATTEMPTS = [
    *(f"{scheme}://{host}:{{port}}{PATH}" for host in LOOPBACK for scheme in ("https", "http")),
    *(f"https://{host}:{{port}}{PATH}" for host in (*ELSEWHERE, *MALFORMED)),
    *(f"https://{spelt}:{{port}}{PATH}" for name in NAMES for spelt in (name, f"{name.upper()}.")),
    *URLS,
]


# The other side -------------------------------------------------------------------------------------------------
@dataclass
class Canary:
    """Listens on 127.0.0.1 and ::1, at one port, and counts who comes."""

    port: int = 0
    connections: int = 0
    servers: list[asyncio.Server] = field(default_factory=list)

    async def open(self) -> None:
        for _attempt in range(20):
            first = await asyncio.start_server(self._connected, "127.0.0.1", 0)
            self.port = first.sockets[0].getsockname()[1]
            try:
                self.servers = [first, await asyncio.start_server(self._connected, "::1", self.port)]
                return
            except OSError:  # somebody else's on ::1
                first.close()
        raise RuntimeError("no port is free on both")

    async def close(self) -> None:
        for server in self.servers:
            server.close()
            await server.wait_closed()

    def _connected(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()


@dataclass
class Wire:
    """The way out of this process: names are looked up in a table, and nothing but loopback is connected to."""

    answers: dict[str, Iterator[list[str] | None]]
    dialled: list[str] = field(default_factory=list)
    looked_up: list[str] = field(default_factory=list)
    _real: Callable[..., Any] = socket.getaddrinfo

    def getaddrinfo(self, host: str, port: int, family: int = 0, kind: int = 0, proto: int = 0, flags: int = 0) -> Any:
        name = host.lower().removesuffix(".")
        self.looked_up.append(name)
        if name not in self.answers:
            return self._real(host, port, family, kind, proto, socket.AI_NUMERICHOST)
        addresses = next(self.answers[name])
        if addresses is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [_info(address, port) for address in addresses]


def _info(address: str, port: int) -> Any:
    plain, _, scope = address.partition("%")
    if ":" in address:
        return socket.AF_INET6, socket.SOCK_STREAM, 6, "", (plain, port, 0, 1 if scope else 0)
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (plain, port)


@pytest.fixture(autouse=True)
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    wire = Wire({name: chain(answers, repeat(answers[-1])) for name, answers in NAMES.items()})
    real_connect = BaseSelectorEventLoop.sock_connect

    async def connect(loop: Any, sock: socket.socket, address: Any) -> None:
        wire.dialled.append(address[0])
        if address[0] not in ("127.0.0.1", "::1"):
            raise ConnectionRefusedError(111, "refused")
        await real_connect(loop, sock, address)

    monkeypatch.setattr(socket, "getaddrinfo", wire.getaddrinfo)
    monkeypatch.setattr(BaseSelectorEventLoop, "sock_connect", connect)
    return wire


@pytest_asyncio.fixture
async def canary(wire: Wire) -> AsyncIterator[Canary]:
    canary = Canary()
    await canary.open()
    yield canary
    await close_client()
    await canary.close()


@pytest.fixture(autouse=True)
def login(settings: Any, limits: Limits, no_retries: None) -> None:
    """Login is on; a failed connection is tried again at once, as an attempt to rebind would want."""
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "REQUIRE_LOGIN": True}
    limits(MAX_RETRIES=2, MAX_RETRY_WAIT=0)


async def said(deltas: Any) -> str:
    async with aclosing(deltas):
        return "".join([delta.text async for delta in deltas if isinstance(delta, ContentDelta)])


async def ask_own(url: str, key: str = "") -> str:
    """Ask a user's own model, as their chat does."""
    config = UserConfig(custom_api_url=url, custom_model="own-model", custom_api_key=key)
    endpoint = completions.endpoint_for(asked="custom", conversation="", config=config)
    return await said(completions.stream(endpoint, request("hi")))


async def refusal(url: str, key: str = "") -> tuple[str, str]:
    with pytest.raises(ProviderError) as caught:
        await ask_own(url, key)
    return caught.value.code, str(caught.value)


@pytest.fixture(autouse=True)
def no_judgements_are_kept() -> Iterator[None]:
    """Some of these tests change the judge."""
    yield
    guard._judge.cache_clear()


def judges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Policy, "why_not_host", lambda *_: "")
    monkeypatch.setattr(Policy, "why_not_address", lambda *_: "")


# Attempts -------------------------------------------------------------------------------------------------------
def test_there_are_attempts_enough() -> None:
    assert len(ATTEMPTS) == len(set(ATTEMPTS)) >= 80


@pytest.mark.parametrize("attempt", ATTEMPTS)
async def test_an_attempt_reaches_nobody_and_learns_nothing(attempt: str, canary: Canary, wire: Wire) -> None:
    assert await refusal(attempt.replace("{port}", str(canary.port))) == (CODE, TEXT)
    assert canary.connections == 0
    assert set(wire.dialled) <= {PUBLIC, PUBLIC_V6}


# What was saved under other rules, which no HTTP client can read.
UNREADABLE = _words("""
https://xn--localhost/ https://xn--a.test/ https://127.0.0.257/ https://08.8.8.8/ https://1.2.3.4.5/
https://[fe80::1%25eth0]/ https://example.com:99999/ https://user@public.test/ https://public.test/#x https:public.test
https://[::1/ https://exámple.test/ https://１２７.0.0.1/ https://public.test\\@v4.test/ nonsense https://
https://localhost/ https://intranet/ https://llm.internal/
""")


@pytest.mark.parametrize("url", [*UNREADABLE, "https://public.test/a b", "https://public.test/\ud800"])
async def test_what_cannot_be_called_is_refused_like_all_else(url: str, wire: Wire) -> None:
    assert await refusal(url) == (CODE, TEXT)
    assert wire.looked_up == wire.dialled == []


@pytest.mark.parametrize("name", ["localhost", "v4.test", "v6.test", "public-first.test", "rebinding.test", "0x7f.1"])
@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_without_the_guard_they_would_arrive(
    name: str, scheme: str, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the canary and the table of names would prove nothing."""
    judges_nothing(monkeypatch)
    await refusal(f"{scheme}://{name}:{canary.port}{PATH}")
    assert canary.connections


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "v4.test"])
async def test_the_connection_is_judged_whatever_the_url_seemed_to_say(
    host: str, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmproviders.backends.call.check_callable", lambda url, _policy: url)
    for scheme in ("http", "https"):
        assert await refusal(f"{scheme}://{host}:{canary.port}{PATH}") == (CODE, TEXT)
    assert canary.connections == 0


async def test_the_scheme_is_judged_where_it_is_dialled(monkeypatch: pytest.MonkeyPatch, wire: Wire) -> None:
    monkeypatch.setattr("llmproviders.backends.call.check_callable", lambda url, _policy: url)
    assert await refusal(f"http://public.test{PATH}") == (CODE, TEXT)
    assert wire.dialled == []
    await close_client()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_a_literal_address_is_judged_where_its_socket_is_made(
    host: str, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Policy, "why_not_host", lambda *_: "")
    assert await refusal(f"https://{host}:{canary.port}{PATH}") == (CODE, TEXT)
    assert canary.connections == 0


@pytest.mark.parametrize("set_by", ["user", "operator"])
async def test_what_asks_through_httpx_is_judged_alike(
    set_by: SetBy, canary: Canary, limits: Limits, wire: Wire
) -> None:
    """Whatever the client that is put around the pool would do."""
    limits(ALLOW_PRIVATE_UPSTREAMS=False)
    async with http.client_for(policy_for(set_by)) as client:
        for host in ("127.0.0.1", "[::1]", "v4.test", "metadata.test"):
            with pytest.raises(AddressRefused):
                await client.get(f"https://{host}:{canary.port}/", follow_redirects=True)
    assert canary.connections == 0
    assert wire.dialled == []
    await close_client()


async def test_a_name_is_looked_up_once_a_connection_and_only_judged_addresses_are_dialled(
    canary: Canary, wire: Wire
) -> None:
    assert await refusal(f"https://twice.test:{canary.port}{PATH}") == (CODE, TEXT)
    assert wire.looked_up == ["twice.test"] * 3
    assert wire.dialled == [PUBLIC, PUBLIC]


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("target", ["http://127.0.0.1:{port}/", "https://v4.test:{port}/", "//[::1]:{port}/", "/v1"])
async def test_a_redirect_is_not_followed(
    code: int, target: str, canary: Canary, upstream: ScriptedUpstream, limits: Limits
) -> None:
    limits(ALLOWED_UPSTREAM_HOSTS=[upstream.url.split("/")[2]])
    upstream.script = [status(code, "", {"Location": target.format(port=canary.port)})]
    assert await refusal(upstream.url) == (CODE, TEXT)
    assert (canary.connections, len(upstream.requests)) == (0, 1)


@pytest.mark.parametrize(
    "key", ["sk\r\nHost: 127.0.0.1", "sk\nX-Injected: 1", "sk\r\n\r\nPOST / HTTP/1.1", "sk\0", "\u010a\u010d", "a b"]
)
async def test_a_key_is_no_way_into_the_headers(
    key: str, canary: Canary, upstream: ScriptedUpstream, limits: Limits
) -> None:
    limits(ALLOWED_UPSTREAM_HOSTS=["127.0.0.1"])
    assert await refusal(upstream.url, key) == (CODE, TEXT)
    assert (canary.connections, upstream.connections) == (0, 0)
    serializer = ConfigUpdateSerializer(data={"model_type": "custom", "custom_api_key": key})
    assert not serializer.is_valid()
    assert serializer.errors.keys() == {"custom_api_key"}


async def test_a_servers_variable_is_not_a_users_key(
    monkeypatch: pytest.MonkeyPatch, upstream: ScriptedUpstream, limits: Limits
) -> None:
    monkeypatch.setenv("SERVERS_OWN", "sk-of-the-server")
    limits(ALLOWED_UPSTREAM_HOSTS=["127.0.0.1"])
    with pytest.raises(UnknownModel):
        await ask_own(upstream.url, "env:SERVERS_OWN")
    endpoint = Endpoint("custom", "Own", upstream.url, "m", api_key="env:SERVERS_OWN", set_by="user")
    with pytest.raises(AddressRefused):
        await said(get_provider(endpoint).stream(request("hi")))
    assert upstream.connections == 0


async def test_the_servers_own_key_does_not_go_to_a_users_url(upstream: ScriptedUpstream, limits: Limits) -> None:
    limits(ALLOWED_UPSTREAM_HOSTS=["127.0.0.1"], API_URL="https://public.test/v1", MODEL="m", API_KEY=KEY)
    assert await ask_own(upstream.url)
    assert "authorization" not in upstream.requests[0].headers
    assert KEY not in str(upstream.requests[0])


async def test_proxies_of_the_environment_are_not_used(
    monkeypatch: pytest.MonkeyPatch, canary: Canary, upstream: ScriptedUpstream, limits: Limits
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
    limits(ALLOWED_UPSTREAM_HOSTS=[upstream.url.split("/")[2]])
    assert await ask_own(upstream.url)
    assert await refusal(f"https://public.test{PATH}") == (CODE, TEXT)
    assert canary.connections == 0


async def test_each_refusal_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        await refusal("https://127.0.0.1/v1")
    assert caplog.text.count("upstream call refused host=127.0.0.1 set_by=user") == 2


# What is told, and to whom --------------------------------------------------------------------------------------
async def test_blocked_refused_unknown_and_silent_look_the_same_to_a_user(canary: Canary, limits: Limits) -> None:
    limits(CONNECT_TIMEOUT=0.05, ALLOWED_UPSTREAM_HOSTS=["silent.test"], MAX_RETRIES=0)
    names = ("v4.test", "public.test", "unknown.test", "169.254.169.254")
    assert {await refusal(f"https://{name}:{canary.port}{PATH}") for name in names} == {(CODE, TEXT)}


async def test_a_server_that_does_not_accept_looks_the_same_too(
    monkeypatch: pytest.MonkeyPatch, limits: Limits
) -> None:
    async def hang(_loop: Any, _socket: socket.socket, _address: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(BaseSelectorEventLoop, "sock_connect", hang)
    limits(CONNECT_TIMEOUT=0.05)
    assert await refusal(f"https://public.test{PATH}") == (CODE, TEXT)
    await close_client()


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("v4.test", "not a public address"),
        ("metadata.test", "a link-local, metadata or multicast address"),
        ("unknown.test", "The name of the model's server is not known."),
        ("public.test", "The model's server refused the connection."),
    ],
)
async def test_the_log_has_the_reason(host: str, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    await refusal(f"https://{host}/v1?api-key={KEY}", KEY)
    warning = next(record for record in caplog.records if record.levelno == logging.WARNING)
    assert f"host={host} set_by=user reason={reason}" in warning.getMessage()
    assert KEY not in caplog.text
    await close_client()


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("unknown.test", "The name of the model's server is not known."),
        ("public.test", "The model's server refused the connection."),
    ],
)
async def test_the_operator_is_told_the_reason(host: str, text: str) -> None:
    with pytest.raises(UpstreamUnavailable, match=text):
        await ask_as("operator", f"http://{host}{PATH}")
    await close_client()


# What is allowed ------------------------------------------------------------------------------------------------
async def ask_as(set_by: SetBy, url: str) -> str:
    endpoint = Endpoint("test", "Test", url, "m", set_by=set_by)
    return await said(get_provider(endpoint).stream(request("hi")))


@pytest.mark.parametrize("name", ["v4.test", "V4.TEST.", "127.0.0.1", "localhost"])
@pytest.mark.parametrize("with_port", [True, False])
async def test_a_host_on_the_allowlist_works_for_a_user(
    name: str, with_port: bool, upstream: ScriptedUpstream, limits: Limits
) -> None:
    port = upstream.url.split(":")[2].split("/")[0]
    limits(ALLOWED_UPSTREAM_HOSTS=[f"{name}:{port}" if with_port else name])
    assert (await ask_own(f"http://{name}:{port}{PATH}")).startswith("You said: hi")


async def test_another_port_of_a_host_on_the_allowlist_does_not(
    canary: Canary, upstream: ScriptedUpstream, limits: Limits
) -> None:
    port = upstream.url.split(":")[2].split("/")[0]
    limits(ALLOWED_UPSTREAM_HOSTS=[f"v4.test:{port}"])
    for scheme in ("http", "https"):
        assert await refusal(f"{scheme}://v4.test:{canary.port}{PATH}") == (CODE, TEXT)
    assert canary.connections == 0


async def test_a_host_on_the_allowlist_does_not_lead_to_metadata(limits: Limits, wire: Wire) -> None:
    limits(ALLOWED_UPSTREAM_HOSTS=["metadata.test", "169.254.169.254", "scoped.test"])
    for url in ("http://metadata.test/", "http://169.254.169.254/", "https://scoped.test/"):
        assert await refusal(url) == (CODE, TEXT)
    assert wire.dialled == []
    await close_client()


async def test_on_an_open_server_a_user_may_call_loopback(upstream: ScriptedUpstream, settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "REQUIRE_LOGIN": False}
    assert await ask_own(upstream.url)


@pytest.mark.parametrize("host", ["127.0.0.1", "v4.test", "localhost"])
async def test_the_operator_may_call_loopback_unless_they_say_no(
    host: str, upstream: ScriptedUpstream, limits: Limits
) -> None:
    url = upstream.url.replace("127.0.0.1", host)
    assert await ask_as("operator", url)
    limits(ALLOW_PRIVATE_UPSTREAMS=False)
    with pytest.raises(AddressRefused):
        await ask_as("operator", url)
    assert upstream.calls == 1
    limits(ALLOWED_UPSTREAM_HOSTS=[host])
    assert await ask_as("operator", url)


async def test_the_embedded_models_server_is_called_whatever_the_operator_said(
    monkeypatch: pytest.MonkeyPatch, upstream: ScriptedUpstream, limits: Limits
) -> None:
    async def running(_options: Any) -> local.Address:
        return local.Address(api_url=upstream.url, api_key=KEY)

    monkeypatch.setattr(local, "ensure", running)
    limits(ALLOW_PRIVATE_UPSTREAMS=False)
    endpoint = Endpoint("local", "Local", "", "m", backend="embedded")
    assert await said(get_provider(endpoint).stream(request("hi")))


async def test_the_operators_own_machine_may_have_link_local_addresses_too(
    upstream: ScriptedUpstream, wire: Wire, limits: Limits
) -> None:
    """As its name has in some systems: they are passed over, and not called."""
    wire.answers["machine.test"] = repeat(["fe80::1%lo", "127.0.0.1"])
    url = upstream.url.replace("127.0.0.1", "machine.test")
    assert await ask_as("operator", url)
    assert set(wire.dialled) == {"127.0.0.1"}
    with pytest.raises(AddressRefused):
        await ask_as("user", url.replace("http:", "https:"))


# One pool a policy ----------------------------------------------------------------------------------------------
async def post(url: str, policy: Policy) -> bytes:
    with Deadline(10) as deadline:
        async with post_stream(url, policy=policy, body=b"{}", headers={}, model="m", deadline=deadline) as reply:
            return await reply.read_all(1000)


async def test_a_connection_of_the_operators_is_never_reused_for_a_user(upstream: ScriptedUpstream) -> None:
    """A user's policy that lacks all but the judging of addresses, so that only the pool could be at fault."""
    upstream.script = [status(200, "one"), status(200, "two")]
    url = upstream.url.replace("127.0.0.1", "v4.test")
    assert await post(url, policy_for("operator")) == b"one"
    with pytest.raises(AddressRefused):
        await post(url, Policy("user", plain_http=True, private=False))
    assert await post(url, policy_for("operator")) == b"two"
    assert (upstream.connections, len(upstream.requests)) == (1, 2)


async def test_what_was_allowed_is_not_reused_once_it_is_not(upstream: ScriptedUpstream, limits: Limits) -> None:
    limits(ALLOWED_UPSTREAM_HOSTS=["v4.test"])
    url = upstream.url.replace("127.0.0.1", "v4.test")
    assert await ask_own(url)
    limits(ALLOWED_UPSTREAM_HOSTS=[])
    assert await refusal(url) == (CODE, TEXT)
    assert upstream.calls == 1


async def test_refusals_and_cancelled_calls_leave_the_pool_whole(upstream: ScriptedUpstream, limits: Limits) -> None:
    limits(MAX_CONNECTIONS=2, ALLOWED_UPSTREAM_HOSTS=["127.0.0.1"], MAX_RETRIES=0)
    for number in range(10):
        assert await refusal(f"https://v4.test:{10_000 + number}{PATH}") == (CODE, TEXT)
        task = asyncio.create_task(ask_own(upstream.url))
        for _ in range(number):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert await ask_own(upstream.url)


# TLS ------------------------------------------------------------------------------------------------------------
async def test_the_name_in_tls_stays_that_of_the_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: Limits
) -> None:
    """The address is judged and dialled, but the certificate is for the host."""
    context, certificate = self_signed(tmp_path, "v4.test")
    asked: list[str] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    monkeypatch.setattr(pool, "_tls", lambda: ssl.create_default_context(cafile=certificate))
    limits(ALLOWED_UPSTREAM_HOSTS=["v4.test", "localhost"], MAX_RETRIES=0)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the server's half of a failed handshake

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"choices": [{"message": {"content": "secure"}, "finish_reason": "stop"}]}'
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(handler, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        assert await ask_own(f"https://v4.test:{port}{PATH}") == "secure"
        assert await refusal(f"https://localhost:{port}{PATH}") == (
            CODE,
            "The certificate of the model's server is not valid.",
        )
    assert asked == ["v4.test", "localhost"]
    await close_client()


# When it is saved -----------------------------------------------------------------------------------------------
SAVED_TEXT = "A user's own model needs a URL that begins with https://, at a public address."
REFUSED_AT_ONCE = [
    "http://public.test/v1",
    "https://127.0.0.1/v1",
    "https://[::1]/v1",
    "https://10.0.0.5/v1",
    "https://2130706433/v1",
    "https://169.254.169.254/v1",
    "https://[64:ff9b::7f00:1]/v1",
    "https://localhost/v1",
    "https://llm/v1",
    "https://llm.internal/v1",
]


def save_by_api(url: str) -> list[str]:
    serializer = ConfigUpdateSerializer(data={"model_type": "custom", "custom_api_url": url})
    return [] if serializer.is_valid() else [str(error) for error in serializer.errors["custom_api_url"]]


def save_by_admin(url: str) -> list[str]:
    form = UserConfigForm({"user_identifier": "kim", "custom_api_url": url, "custom_model": "m"})
    return [str(error) for error in form.errors.get("custom_api_url", [])]


@pytest.mark.django_db
@pytest.mark.parametrize("save", [save_by_api, save_by_admin])
def test_a_users_url_is_judged_when_it_is_saved(
    save: Callable[[str], list[str]], limits: Limits, settings: Any, wire: Wire
) -> None:
    assert [save(url) for url in REFUSED_AT_ONCE] == [[SAVED_TEXT]] * len(REFUSED_AT_ONCE)
    assert save("https://unknown.test/v1") == save(f"https://{PUBLIC}/v1") == []
    limits(ALLOWED_UPSTREAM_HOSTS=["10.0.0.5", "public.test"])
    assert save("http://10.0.0.5/v1") == save("http://public.test/v1") == []
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "REQUIRE_LOGIN": False}
    assert save("http://127.0.0.1/v1") == []
    assert save("http://169.254.169.254/v1") == ["This address may not be called."]
    assert wire.looked_up == []


@pytest.mark.django_db
def test_a_presets_url_is_judged_when_it_is_saved(limits: Limits) -> None:
    def errors(url: str) -> list[str]:
        try:
            Preset(type="mine", name="Mine", api_url=url, model="m").full_clean()
        except ValidationError as error:
            return error.messages
        return []

    assert errors("http://127.0.0.1/v1") == []
    assert errors("http://169.254.169.254/v1") == ["This address may not be called."]
    limits(ALLOW_PRIVATE_UPSTREAMS=False)
    assert errors("http://127.0.0.1/v1") == ["This address may not be called."]
    assert errors(f"http://{PUBLIC}/v1") == []
    limits(ALLOWED_UPSTREAM_HOSTS=["127.0.0.1"])
    assert errors("http://127.0.0.1/v1") == []
