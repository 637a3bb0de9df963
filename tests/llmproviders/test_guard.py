"""URLs, keys and model names as people give them."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproviders.exceptions import AddressRefused, InvalidEndpoint, UpstreamAuthenticationFailed
from llmproviders.net import pool
from llmproviders.net.addresses import is_public, is_refused, literal
from llmproviders.net.guard import (
    check_callable,
    completions_url,
    read_key,
    validate_key,
    validate_model_name,
    validate_url,
)
from llmproviders.net.policy import Host, Policy, parse_entry, policy_for
from llmproviders.types import SetBy

from .conftest import Limits

OPERATOR = policy_for("operator")
USER = policy_for("user")


def _words(text: str) -> list[str]:
    return text.split()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:11434/v1/chat/completions",
        "https://api.example.com/v1/chat/completions?api-version=2024-06-01",
        "http://llm_server:8000/v1",
        "http://[::1]:8080/v1",
        "http://192.168.1.5/v1",
        "https://xn--fiqs8s.example./v1",
        "http://111.19.168.151:11551/v1/chat/completions",
    ],
)
def test_usable_urls_stay_as_they_are(url: str) -> None:
    assert validate_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/v1",
        "ftp://example.com/",
        "file:///etc/passwd",
        "http://",
        "http:///v1",
        "http://:80/v1",
        "http://user:password@example.com/",
        "http://user@example.com/",
        "http://example.com/#x",
        "http://example.com/a b",
        " http://example.com/",
        "http://example.com/\n",
        "http://example.com/\0",
        "http://例子.example/",
        "http://127。0。0。1/",
        "http://example.com\\@evil.example/",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:x/",
        "http://example.com:/",
        "http://[::1/",
        "http://[example]/",
        "http://[fe80::1%25eth0]/",
        "http://ex%61mple.com/",
        "http://-a.example/",
        "http://a..b/",
        "http://" + "a" * 64 + ".example/",
        "http://example.com/" + "a" * 2000,
        "https://xn--localhost/",
        "https://xn--a.example/",
        "https://api.xn--a.example/",
        "https://xn--abc-.example/",
        "https://xn--" + "z" * 50 + "9.example/",
        "https://XN--LOCALHOST/",
        "https://127.0.0.257/",
        "https://256.256.256.256/",
        "https://1.2.3.4.5/",
        "https://08.8.8.8/",
        "https://010.8.8.8/",
        "https://8.8.8.010/",
        "https://8.8.8.8./",
        "https://8.8.8/",
        "https://134744072/",
        "https://example.1/",
        "https://example.0x1f/",
        "https://0xg.0x/",
        "https://4294967296/",
        "https://example.com../",
        "https://./",
        "https://[2606:4700::1%eth0]/",
        "https://[2606:4700::1%25eth0]/",
        "https://[::1]x/",
        "https://[v1.fe80]/",
        "https://example.com:99999/",
        "https://example.com:-1/",
        "https://example.com:+80/",
        "https://example.com:8_0/",
        "https://example.com:٨٠/",
        "https://１２７.0.0.1/",
        "https://exámple.com/",
        "https://@example.com/",
        "https://:@example.com/",
        "https://example.com/#",
        "https:example.com",
        "https:/example.com",
        "//example.com/",
        "javascript://example.com/",
        "https://example.com/\u00a0",
        "https://example.com/\u200b",
        "https://exa\u00admple.com/",
        "https://example.com/\ud800",
    ],
)
def test_unusable_urls_are_refused(url: str) -> None:
    for set_by in ("user", "operator", "program"):
        with pytest.raises(InvalidEndpoint) as caught:
            validate_url(url, set_by=set_by)  # type: ignore[arg-type]
        assert caught.value.field == "api_url"
        with pytest.raises(AddressRefused, match="cannot be reached"):
            check_callable(url, policy_for(set_by))  # type: ignore[arg-type]


INNER = _words("""
localhost LOCALHOST localhost. foo.localhost localhost.localdomain intranet llm llm_server ollama. a printer.local
llm.internal metadata.google.internal nas.home.arpa nas.lan box.home mail.corp x.intranet x.private
""")


@pytest.mark.parametrize("host", INNER)
def test_names_of_an_inner_network_are_refused_where_private_addresses_are(limits: Limits, host: str) -> None:
    """Whatever they lead to: when the URL is saved, and when it is called."""
    url = f"https://{host}/v1"
    assert refusal(url, "user") == "A user's own model needs a URL that begins with https://, at a public address."
    assert not refusal(url, "operator")
    with pytest.raises(AddressRefused):
        check_callable(url, policy_for("user"))
    limits(ALLOW_PRIVATE_UPSTREAMS=False)
    assert refusal(url, "operator") == "This address may not be called."
    limits(ALLOW_PRIVATE_UPSTREAMS=False, ALLOWED_UPSTREAM_HOSTS=[host.lower()])
    assert not refusal(url, "operator")
    assert not refusal(url, "user")


@pytest.mark.parametrize(
    "host", ["example.com", "example.com.", "xn--bcher-kva.example", "a_b.example", "local.example"]
)
def test_names_that_may_be_public_are_judged_once_they_are_looked_up(host: str) -> None:
    assert not refusal(f"https://{host}/v1", "user")


@given(
    st.one_of(
        st.text(st.sampled_from("ab1.-_0x:@[]/?#%\\&=é～٣ \t"), max_size=24),
        st.lists(
            st.sampled_from(_words("xn-- 127 0x7f . - a b : 80 [ ] % @ com localhost 08 / ? # é")), max_size=8
        ).map("".join),
    )
)
def test_what_may_be_saved_can_be_called(rest: str) -> None:
    """The HTTP client and what connects for it read the same server in it."""
    url = f"https://{rest}"
    try:
        validate_url(url)
    except InvalidEndpoint:
        return
    origin, _head = pool._begin_of_post(url, ())
    assert origin.host.lower() == urlsplit(url).hostname


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.169.254.",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "168.63.129.16",
        "[::ffff:169.254.169.254]",
        "[::169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::1]",
        "[64:ff9b:1::a9fe:a9fe]",
        "[64:ff9b:1:a9fe:a9:fe00::]",
        "[64:ff9b:1:a9:fe:a9fe::]",
        "[64:ff9b:1:0:a9:fea9:fe00:0]",
        "[::ffff:0:169.254.169.254]",
        "[2001:0:a9fe:a9fe::1]",
        "[2001:db8::5efe:169.254.169.254]",
        "[2001:db8::200:5efe:a9fe:a9fe]",
        "[fd00:ec2::23]",
        "[fd20:ce::254]",
        "[fd00:42::42]",
        "[febf::1]",
        "192.0.0.192",
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
        "[ff02::1]",
    ],
)
def test_metadata_addresses_are_refused_however_they_are_written(host: str) -> None:
    url = f"https://{host}/latest/meta-data/"
    with pytest.raises(InvalidEndpoint, match="may not be called"):
        validate_url(url)
    with pytest.raises(InvalidEndpoint, match="may not be called"):
        validate_url(url, set_by="program")
    with pytest.raises(InvalidEndpoint, match="A user's own model"):
        validate_url(url, set_by="user")


@pytest.mark.parametrize("set_by", ["program", "operator", "user"])
def test_the_allowlist_does_not_open_what_is_refused_for_all(limits: Limits, set_by: SetBy) -> None:
    limits(ALLOWED_UPSTREAM_HOSTS=["169.254.169.254", "metadata.internal", "[fd00:ec2::254]"])
    assert refusal("http://169.254.169.254/", set_by)
    assert refusal("http://[fd00:ec2::254]/", set_by)
    assert policy_for(set_by).why_not_address(ipaddress.ip_address("169.254.169.254"), "metadata.internal", 80)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "8.8.8.8", "::1", "2001:4860:4860::8888", "::ffff:8.8.8.8"]
)
def test_other_addresses_are_not_refused(address: str) -> None:
    assert not is_refused(ipaddress.ip_address(address))


# The blocks of IANA's two special-purpose registries (2025-10-09), with the first and the last address of each, and
# the multicast and reserved space around them.
SPECIAL = _words("""
0.0.0.0/8 0.0.0.0/32 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.0.0/29
192.0.0.8/32 192.0.0.9/32 192.0.0.10/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24
192.88.99.0/24 192.88.99.2/32 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4
255.255.255.255/32 224.0.0.0/4
::1/128 ::/128 ::ffff:0:0/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001::/32 2001:1::1/128 2001:1::2/128
2001:1::3/128 2001:2::/48 2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28 2001:30::/28 2001:db8::/32 2002::/16
2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8 ::/3 4000::/2 8000::/1
""")


@pytest.mark.parametrize("block", SPECIAL)
def test_special_blocks_are_not_public(block: str) -> None:
    network = ipaddress.ip_network(block)
    assert not is_public(network[0])
    assert not is_public(network[-1])


@pytest.mark.parametrize("block", [block for block in SPECIAL if not block.startswith(("240", "255", "ff", "8000"))])
def test_what_follows_a_block_is_judged_by_itself(block: str) -> None:
    """Else a table that refuses everything would pass."""
    after = ipaddress.ip_network(block).broadcast_address + 1
    expected = not any(after in ipaddress.ip_network(other) for other in SPECIAL if (":" in other) == (":" in block))
    assert is_public(after) is expected


@pytest.mark.parametrize(
    "address",
    ["1.0.0.0", "8.8.8.8", "111.19.168.151", "223.255.255.255", "2001:200::1", "2001:4860:4860::8888", "2a00::1"],
)
def test_ordinary_addresses_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("64:ff9b::8.8.8.8", True),  # what an IPv6-only network makes of a public IPv4 address
        ("64:ff9b::127.0.0.1", False),
        ("64:ff9b::10.0.0.1", False),
        ("64:ff9b::168.63.129.16", False),
        ("64:ff9b:1::8.8.8.8", False),
        ("::ffff:8.8.8.8", False),
        ("::8.8.8.8", False),
        ("2002:808:808::1", False),
        ("168.63.129.16", False),
        ("100.100.100.200", False),
        ("2a00::5efe:8.8.8.8", True),
        ("2a00::5efe:10.0.0.1", False),
        ("2a00::200:5efe:10.0.0.1", False),
    ],
)
def test_an_address_that_carries_another_is_judged_by_both(address: str, expected: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is expected


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0x7f.1", "017700000001", "127.1", "127.0.0.1"])
def test_old_spellings_of_an_address(host: str) -> None:
    assert literal(host) == ipaddress.ip_address("127.0.0.1")


# The policies ---------------------------------------------------------------------------------------------------
def refusal(url: str, set_by: SetBy) -> str:
    """What is said of a URL when it is saved; ``""`` if it is taken."""
    try:
        validate_url(url, set_by=set_by)
    except InvalidEndpoint as error:
        return error.message
    return ""


PLAIN_PUBLIC = "http://111.19.168.151:11551/v1"
TLS_PUBLIC = "https://8.8.8.8/v1"
PRIVATE = ("http://127.0.0.1:8000/v1", "https://10.0.0.5/v1", "https://[fd12::1]/v1", "http://0.0.0.0/v1")


def test_the_operator_may_call_private_addresses() -> None:
    assert not any(refusal(url, "operator") for url in (PLAIN_PUBLIC, TLS_PUBLIC, *PRIVATE))


def test_the_operator_may_forbid_private_addresses_and_still_use_plain_http(limits: Limits) -> None:
    limits(ALLOW_PRIVATE_UPSTREAMS=False)
    assert {refusal(url, "operator") for url in PRIVATE} == {"This address may not be called."}
    assert not any(refusal(url, "operator") for url in (PLAIN_PUBLIC, TLS_PUBLIC, "http://llm.example.com/v1"))


def test_the_embedded_models_own_server_is_not_concerned(limits: Limits) -> None:
    limits(ALLOW_PRIVATE_UPSTREAMS=False)
    assert not refusal("http://127.0.0.1:9/v1", "program")


@pytest.mark.parametrize("allow", [True, False])
def test_a_user_needs_https_and_a_public_address(limits: Limits, allow: bool) -> None:
    limits(ALLOW_PRIVATE_UPSTREAMS=allow)
    said = {refusal(url, "user") for url in (PLAIN_PUBLIC, "http://llm.example.com/v1", *PRIVATE)}
    assert said == {"A user's own model needs a URL that begins with https://, at a public address."}
    assert not any(refusal(url, "user") for url in (TLS_PUBLIC, "https://llm.example.com/v1"))


@pytest.mark.parametrize("set_by", ["operator", "user"])
def test_a_host_on_the_list_may_be_private_and_plain(limits: Limits, set_by: SetBy) -> None:
    limits(ALLOW_PRIVATE_UPSTREAMS=False, ALLOWED_UPSTREAM_HOSTS=["LLM.internal.", "10.0.0.5:8000", "[fd00::1]"])
    policy, private = policy_for(set_by), ipaddress.ip_address("10.9.9.9")
    assert not policy.why_not_host("http", "llm.internal", 80)
    assert not policy.why_not_address(private, "llm.internal.", 1234)
    for url in ("http://10.0.0.5:8000/v1", "http://0xa000005:8000/v1", "http://[fd00:0::1]:7/v1"):
        assert not refusal(url, set_by)
    for url in ("http://10.0.0.5/v1", "http://10.0.0.6:8000/v1", "https://[fd00::2]/v1"):
        assert refusal(url, set_by)
    for name in ("internal", "x.llm.internal", "llm.internal.example.com", "xllm.internal"):
        assert policy.why_not_address(private, name, 80)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("llm.internal", Host("llm.internal")),
        ("LLM.internal.:8000", Host("llm.internal", 8000)),
        ("10.0.0.5", Host("10.0.0.5")),
        ("0xa000005:80", Host("10.0.0.5", 80)),
        ("[FD00:0::1]:443", Host("fd00::1", 443)),
        ("", None),
        ("*", None),
        ("*.internal", None),
        ("a/b", None),
        ("a b", None),
        ("http://a", None),
        ("u@a", None),
        ("a:", None),
        ("a:0", None),
        ("a:65536", None),
        ("fd00::1", None),
        ("[llm]", None),
        ("10.0.0.0/8", None),
    ],
)
def test_entries_of_the_allowlist(entry: str, expected: Host | None) -> None:
    assert parse_entry(entry) == expected


def test_a_malformed_entry_allows_nothing(limits: Limits) -> None:
    limits(ALLOWED_UPSTREAM_HOSTS=["*", "http://llm.internal", ""])
    assert policy_for("user").listed == frozenset()


# At call time ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("policy", [OPERATOR, USER])
@pytest.mark.parametrize("url", ["http://169.254.169.254/", "nonsense", "https://u:p@example.com/"])
def test_at_call_time_the_reason_is_not_told(policy: Policy, url: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(AddressRefused) as caught:
        check_callable(url, policy)
    assert str(caught.value) == "The model's server cannot be reached."
    assert f"set_by={policy.set_by} reason=" in caplog.text
    assert "u:p" not in caplog.text


@pytest.mark.parametrize("key", ["codegeex", "sk-abc_DEF.123~!", "x" * 512, "env:OPENAI_API_KEY"])
def test_usable_keys(key: str) -> None:
    assert validate_key(key) == key


@pytest.mark.parametrize("key", ["", "a b", "ключ", "a\n", "a\0", "x" * 513, "env:", "env:1A", "env:A-B", "\x7f"])
def test_unusable_keys_are_refused(key: str) -> None:
    with pytest.raises(InvalidEndpoint) as caught:
        validate_key(key)
    assert caught.value.field == "api_key"
    assert len(key) < 9 or key not in str(caught.value)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\0", "x" * 201, "\ud800"])
def test_unusable_model_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidEndpoint) as caught:
        validate_model_name(name)
    assert caught.value.field == "model"


def test_usable_model_names() -> None:
    assert validate_model_name("org/模型 v1:latest") == "org/模型 v1:latest"


def test_a_key_from_the_environment_is_read_at_call_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret-1")
    assert read_key("env:MY_KEY", OPERATOR) == "secret-1"
    monkeypatch.setenv("MY_KEY", "secret-2")
    assert read_key("env:MY_KEY", OPERATOR) == "secret-2"
    for policy in (OPERATOR, USER):
        assert read_key("plain", policy) == "plain"
        assert read_key("", policy) == ""


@pytest.mark.parametrize("key", ["env:MY_KEY", "a\r\nX-Injected: 1", "with space", "ключ"])
def test_a_users_key_is_no_variable_and_no_header(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("MY_KEY", "secret-1")
    with pytest.raises(AddressRefused):
        read_key(key, USER)


@pytest.mark.parametrize("value", ["", "with space", "ключ"])
def test_a_key_of_the_environment_that_cannot_be_sent(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(UpstreamAuthenticationFailed):
        read_key("env:MY_KEY", OPERATOR)


@pytest.mark.parametrize(
    ("given_url", "called"),
    [
        ("https://a.example", "https://a.example/v1/chat/completions"),
        ("https://a.example/", "https://a.example/v1/chat/completions"),
        ("https://a.example/v1", "https://a.example/v1/chat/completions"),
        ("https://a.example/v1/", "https://a.example/v1/chat/completions"),
        ("https://a.example/api/paas/v4", "https://a.example/api/paas/v4/chat/completions"),
        ("https://a.example/v1beta/openai/", "https://a.example/v1beta/openai/chat/completions"),
        (
            "https://a.example/openai/deployments/gpt?api-version=1",
            "https://a.example/openai/deployments/gpt/chat/completions?api-version=1",
        ),
        ("https://a.example/v1/chat/completions", "https://a.example/v1/chat/completions"),
        ("https://a.example/v1/chat/completions?x=y", "https://a.example/v1/chat/completions?x=y"),
        ("https://a.example/my/gateway", "https://a.example/my/gateway"),
    ],
)
def test_a_base_url_is_taken_for_the_call_below_it(given_url: str, called: str) -> None:
    assert completions_url(given_url) == called
