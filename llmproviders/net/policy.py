"""Which upstream addresses may be called: one policy for each kind of person who sets a URL.

=========  ==========================================================================================
program    The embedded model's own server: anything that is not refused for all.
operator   The environment, a preset, or the one person of an open server: http and private addresses
           too; with ``ALLOW_PRIVATE_UPSTREAMS`` off, public addresses only. http stays theirs to choose:
           it is the operator who knows the way between.
user       An account's own URL: https and public addresses only.
=========  ==========================================================================================

A host in ``ALLOWED_UPSTREAM_HOSTS`` may have a private address and plain http, whoever set the URL.
Link-local and metadata addresses are refused for all, listed or not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache

import idna

from .. import conf
from ..types import SetBy
from .addresses import Address, is_public, is_refused, literal

PORTS = {"http": 80, "https": 443}
_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
)
# As the rules for URLs have it, a host whose last part is a number is an IPv4 address, or nothing.
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
# Top names that no public name server knows: special use (IANA), or by custom those of a network's own.
_INNER_DOMAINS = (
    "localhost",
    "local",
    "localdomain",
    "internal",
    "home.arpa",
    "lan",
    "home",
    "corp",
    "intranet",
    "private",
)
_ENTRY = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:/@\[\]]+))(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Host:
    """An entry of the allowlist; without a port it means every port."""

    name: str
    port: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """What the calls of one kind of person may reach. Methods return why not, in English, for the log; or ``""``."""

    set_by: SetBy
    plain_http: bool
    private: bool
    listed: frozenset[Host] = frozenset()

    @property
    def tells_reasons(self) -> bool:
        """Whether whoever calls may know why there is no connection: a user could map the network with it."""
        return self.set_by != "user"

    def why_not_host(self, scheme: str, host: str, port: int) -> str:
        """Judge what a URL says by itself: scheme, and the address if it is one, or a name that can only be an inner
        one. What other names lead to is judged once they are resolved.
        """
        return _why_not_host(self, scheme, host, port)

    def why_not_address(self, address: Address, host: str, port: int) -> str:
        """Judge one address of ``host``."""
        if is_refused(address):
            return "a link-local, metadata or multicast address"
        if self.private or self.lists(host, port) or is_public(address):
            return ""
        return "not a public address"

    def lists(self, host: str, port: int) -> bool:
        """Whether the allowlist has this host, with this port or with every port."""
        name = canonical(host)
        return Host(name) in self.listed or Host(name, port) in self.listed


def policy_for(set_by: SetBy) -> Policy:
    """Return the policy in force for URLs set by ``set_by``."""
    settings = conf.get()
    return _policy(set_by, settings.ALLOW_PRIVATE_UPSTREAMS, tuple(settings.ALLOWED_UPSTREAM_HOSTS))


@lru_cache(maxsize=64)
def _policy(set_by: SetBy, allow_private: bool, allowed: tuple[str, ...]) -> Policy:
    listed = _listed(allowed)
    if set_by == "program":
        return Policy("program", plain_http=True, private=True)
    if set_by == "operator":
        return Policy("operator", plain_http=True, private=allow_private, listed=listed)
    return Policy("user", plain_http=False, private=False, listed=listed)


def parse_entry(entry: str) -> Host | None:
    """Read an entry of ``ALLOWED_UPSTREAM_HOSTS``: a name or an address, perhaps a port; None if it is neither."""
    match = _ENTRY.fullmatch(entry)
    if match is None:
        return None
    name = canonical(match["v6"] or match["host"])
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 0 < port < 65_536:
        return None
    is_host = literal(name) is not None if match["v6"] else is_host_name(name) or literal(name) is not None
    return Host(name, port) if is_host else None


def plain(host: str) -> str:
    """A host without the dot that may end it, in small letters."""
    return host.removesuffix(".").lower()


def canonical(host: str) -> str:
    """One spelling for all that name the same host."""
    address = literal(plain(host))
    return plain(host) if address is None else str(address)


def is_host_name(name: str) -> bool:
    """Whether ``name``, in small letters, can be looked up."""
    return bool(_NAME.fullmatch(name)) and not _NUMERIC.fullmatch(name) and all(map(_is_readable, name.split(".")))


def _is_readable(label: str) -> bool:
    """Whether a label that says it stands for other characters does: an HTTP client reads it, and would fail."""
    if not label.startswith("xn--"):
        return True
    try:
        return bool(idna.ulabel(label))
    except UnicodeError:  # idna raises its own kinds of it
        return False


def is_inner_name(name: str) -> bool:
    """Whether a name, in small letters, can only be known on this machine or in its own network."""
    return "." not in name or name.endswith(tuple(f".{domain}" for domain in _INNER_DOMAINS))


@lru_cache(maxsize=1024)
def _why_not_host(policy: Policy, scheme: str, host: str, port: int) -> str:
    """The judgement of ``Policy.why_not_host``: kept, as every call asks for it twice and nothing can change it."""
    if scheme != "https" and not (policy.plain_http or policy.lists(host, port)):
        return "not https"
    address = literal(plain(host))
    if address is not None:
        return policy.why_not_address(address, host, port)
    is_free = policy.private or policy.lists(host, port)
    return "" if is_free or not is_inner_name(plain(host)) else "a name of an inner network"


@cache
def _listed(entries: tuple[str, ...]) -> frozenset[Host]:
    """The hosts of the allowlist. A malformed entry allows nothing; the system checks name it."""
    return frozenset(host for host in map(parse_entry, entries) if host is not None)
