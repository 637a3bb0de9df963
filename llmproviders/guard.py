"""Which upstream may be called, and with what: URLs, keys and model names as people give them.

Judged when they are saved and again when they are used. The checks here need no network; the address that a
name resolves to is judged where the connection is made (``http.py``, the connector's resolver), with
``is_refused``.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import socket
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import SplitResult, urlsplit

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from .exceptions import AddressRefused, InvalidEndpoint, UpstreamAuthenticationFailed

logger = logging.getLogger("llmproviders")

Address = IPv4Address | IPv6Address

MAX_URL_CHARS = 2_000
MAX_MODEL_CHARS = 200
_KEY = re.compile(r"[\x21-\x7e]{1,512}")
_ENVIRONMENT_KEY = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
_URL_CHARS = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
)
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# Where clouds keep the credentials of a machine: nobody's model is there, whoever asks.
_REFUSED_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in ("169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32", "fe80::/10", "fd00:ec2::254/128")
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")


def validate_url(url: str) -> str:
    """Return ``url`` if it can be a chat completions URL; else raise ``InvalidEndpoint`` for ``api_url``."""
    if len(url) > MAX_URL_CHARS:
        reason = _("The URL is longer than %(limit)d characters.") % {"limit": MAX_URL_CHARS}
        raise InvalidEndpoint("api_url", reason)
    if not _URL_CHARS.fullmatch(url) or "\\" in url:
        raise InvalidEndpoint("api_url", _("The URL may hold neither white space nor characters outside ASCII."))
    if "#" in url:
        raise InvalidEndpoint("api_url", _("The URL may have no fragment (#)."))
    parts = _split(url)
    if parts.scheme not in ("http", "https"):
        raise InvalidEndpoint("api_url", _("The URL has to begin with http:// or https://."))
    if "@" in parts.netloc:
        raise InvalidEndpoint("api_url", _("The URL may hold no user name and password: use the key."))
    _judge_host(parts.hostname or "", bracketed="[" in parts.netloc)
    return url


def validate_key(key: str) -> str:
    """Return ``key``, or ``env:NAME``, if it can be sent; else raise ``InvalidEndpoint`` for ``api_key``."""
    if not _KEY.fullmatch(key):
        raise InvalidEndpoint(
            "api_key", _("The key has to be 1 to 512 visible ASCII characters, with no white space.")
        )
    if key.startswith("env:") and not _ENVIRONMENT_KEY.fullmatch(key):
        raise InvalidEndpoint("api_key", _("After env: the key has to name an environment variable."))
    return key


def validate_model_name(name: str) -> str:
    """Return ``name`` if it can name a model; else raise ``InvalidEndpoint`` for ``model``."""
    if not name.strip() or len(name) > MAX_MODEL_CHARS or _UNPRINTABLE.search(name):
        reason = _("The model's name has to be 1 to %(limit)d printable characters.") % {"limit": MAX_MODEL_CHARS}
        raise InvalidEndpoint("model", reason)
    return name


def check_callable(url: str) -> str:
    """Judge ``url`` at the moment of the call. Raises ``AddressRefused``; the reason goes to the log only."""
    try:
        return validate_url(url)
    except InvalidEndpoint as error:
        logger.warning("upstream call refused: %s", error)
        raise AddressRefused(gettext_noop("The model's server cannot be reached.")) from None


def read_key(key: str) -> str:
    """Return the key to send: ``key`` itself, or what the environment holds for ``env:NAME``.

    Raises ``UpstreamAuthenticationFailed`` when that is missing or cannot be sent.
    """
    match = _ENVIRONMENT_KEY.fullmatch(key)
    value = os.environ.get(match[1], "").strip() if match else key
    if (match and not value) or (value and not _KEY.fullmatch(value)):
        logger.error("upstream call refused: %s holds no usable key", match[1] if match else "the endpoint")
        raise UpstreamAuthenticationFailed(gettext_noop("The key for this model is not set up."))
    return value


def is_refused(address: Address) -> bool:
    """Whether nobody may call ``address``, also when it is wrapped in an IPv6 address."""
    return any(
        form in network for form in _forms(address) for network in _REFUSED_NETWORKS if form.version == network.version
    )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidEndpoint("api_url", _("The URL is malformed: check its host and port.")) from None
    if port == 0 or parts.netloc.endswith(":"):
        raise InvalidEndpoint("api_url", _("The URL's port has to be from 1 to 65535."))
    return parts


def _judge_host(host: str, *, bracketed: bool) -> None:
    name = host.removesuffix(".")
    address = _literal(name)
    if "%" in name or (address is None and (bracketed or not _HOST.fullmatch(name))):
        raise InvalidEndpoint("api_url", _("The URL has no valid host."))
    if address is not None and is_refused(address):
        raise InvalidEndpoint("api_url", _("This address may not be called."))


def _literal(host: str) -> Address | None:
    """The address that ``host`` spells, also in the old ways (``0x7f000001``, ``127.1``); None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _forms(address: Address) -> list[Address]:
    """``address``, and the IPv4 addresses that it carries."""
    if isinstance(address, IPv4Address):
        return [address]
    carried = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64 or address in _COMPATIBLE:
        carried.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return [address, *(form for form in carried if form is not None)]
