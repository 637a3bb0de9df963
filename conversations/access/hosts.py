"""Names of this machine, origins, and signs of a proxy. A settings module may import it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from .. import conf

DEFAULT_PORTS = {"http": 80, "https": 443}
# What proxies, load balancers and content delivery networks add to a request, and no program that calls straight:
# by a word of the name (`Forwarded`, `X-Forwarded-…`, `Proxy-…`, `Via`, `X-Real-IP` and every other `…-IP`), by what
# it tells of the call before (`X-Original-…`, `X-Scheme`, `X-Request-Start`), or by whose it is (`CF-…`, `Fly-…`).
_BY_WORD = (
    r"(?:.*-)?(?:forward|prox(?:y|ied)|remote(?:-|$)|via$|(?:client|real|user|remote|source|src|origin)?ip(?:-|$))"
)
_BY_WHAT_IT_TELLS = (
    r"(?:x-)?(?:orig(?:inal|inating)?-|rewrite-|url-scheme|scheme$|https$|front-end-https|ssl-|tls-|client-(?:cert|dn)"
    r"|(?:request|queue)-start$|surrogate-|accel-|cluster-|auth-request-|cloud-trace-|coming-from$|client-addr"
    r"|port$|(?<=x-)host$)"
)
_BY_WHOSE_IT_IS = (
    r"(?:x-)?(?:akamai|ali|amz|amzn|apigw|appengine|appgw|arr|authentik|azure|caddy|cdn|cf|cloudflare|cloudfront"
    r"|eagleeye|edge|envoy|fastly|fly|gateway|haproxy|heroku|incap|istio|kong|lb|litespeed|netlify|nf|nginx|ngrok"
    r"|railway|render|rndr|squid|stgw|sucuri|tailscale|tencent|traefik|varnish|vercel|waws|wl)(?:-|$)"
)
_OF_A_PROXY = re.compile(f"{_BY_WORD}|{_BY_WHAT_IT_TELLS}|{_BY_WHOSE_IT_IS}|eagleid$")


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def names_this_machine(host: str) -> bool:
    """Whether a host can only mean this machine; so does, under a test runner, the one that its clients name."""
    return is_loopback(host) or (host == conf.TEST_HOST and conf.is_under_test())


def header_of_a_proxy(names: Iterable[str]) -> str:
    """Return the first of these header names, in lower case, that a proxy must have added; else ``""``."""
    return next((name for name in names if _OF_A_PROXY.match(name.replace("_", "-"))), "")


def is_same_origin(origin: str, *, scheme: str, host: str) -> bool:
    """Whether an `Origin` header names ``scheme`` and the server of a `Host` header, port by port."""
    asked = _origin_of(f"{scheme}://{host}")
    return asked is not None and _origin_of(origin) == asked


def _origin_of(url: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port; None for what is more or less than an origin."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    bare = f"{parts.scheme}://{parts.netloc}".lower() == url.lower() and "@" not in parts.netloc
    return (parts.scheme, parts.hostname, port) if bare and parts.hostname and port else None
