"""URLs, keys and model names as people give them."""

from __future__ import annotations

import ipaddress

import pytest

from llmproviders.exceptions import AddressRefused, InvalidEndpoint, UpstreamAuthenticationFailed
from llmproviders.guard import check_callable, is_refused, read_key, validate_key, validate_model_name, validate_url


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
    ],
)
def test_unusable_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidEndpoint) as caught:
        validate_url(url)
    assert caught.value.field == "api_url"


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
    ],
)
def test_metadata_addresses_are_refused_however_they_are_written(host: str) -> None:
    with pytest.raises(InvalidEndpoint, match="may not be called"):
        validate_url(f"http://{host}/latest/meta-data/")


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "8.8.8.8", "::1", "2001:4860:4860::8888", "::ffff:8.8.8.8"]
)
def test_other_addresses_are_not_refused(address: str) -> None:
    assert not is_refused(ipaddress.ip_address(address))


def test_at_call_time_the_reason_is_not_told() -> None:
    with pytest.raises(AddressRefused) as caught:
        check_callable("http://169.254.169.254/")
    assert str(caught.value) == "The model's server cannot be reached."


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
    assert read_key("env:MY_KEY") == "secret-1"
    monkeypatch.setenv("MY_KEY", "secret-2")
    assert read_key("env:MY_KEY") == "secret-2"
    assert read_key("plain") == "plain"
    assert read_key("") == ""


@pytest.mark.parametrize("value", ["", "with space", "ключ"])
def test_a_key_of_the_environment_that_cannot_be_sent(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(UpstreamAuthenticationFailed):
        read_key("env:MY_KEY")
