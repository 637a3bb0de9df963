"""Which IP addresses are public, and which nobody may call. Tables and arithmetic, standard library only.

The tables follow IANA's registries rather than ``ipaddress.is_global``, which passes multicast, transition
addresses that carry private ones, and a cloud's metadata service at a public address.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def _networks(*blocks: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(block) for block in blocks)


# IANA IPv4 Special-Purpose Address Registry, last updated 2025-10-09: every block, also those that are marked
# globally reachable (anycast services of the network itself: no model is there). And IANA's multicast space.
_SPECIAL_IPV4 = _networks(
    "0.0.0.0/8",  # this network; 0.0.0.0 is this machine
    "10.0.0.0/8",  # private use
    "100.64.0.0/10",  # shared address space of carriers
    "127.0.0.0/8",  # loopback
    "169.254.0.0/16",  # link-local
    "172.16.0.0/12",  # private use
    "192.0.0.0/24",  # IETF protocol assignments
    "192.0.2.0/24",  # documentation
    "192.31.196.0/24",  # AS112
    "192.52.193.0/24",  # AMT
    "192.88.99.0/24",  # 6to4 relays, withdrawn
    "192.168.0.0/16",  # private use
    "192.175.48.0/24",  # AS112
    "198.18.0.0/15",  # benchmarking
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, and the broadcast address
)
# IANA IPv6 Address Space and IPv6 Global Unicast Address Assignments: only this block is handed out.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
# IANA IPv6 Special-Purpose Address Registry, last updated 2025-10-09: its blocks within global unicast. Those
# outside need no line: loopback, unspecified, mapped, translation, discard-only, SIDs, unique local, link-local.
_SPECIAL_IPV6 = _networks(
    "2001::/23",  # IETF protocol assignments: Teredo, benchmarking, AMT, AS112, ORCHID, DRIP
    "2001:db8::/32",  # documentation
    "2002::/16",  # 6to4
    "2620:4f:8000::/48",  # AS112
    "3fff::/20",  # documentation
)
# Where the network itself answers, and where clouds keep the credentials of a machine: nobody's model is there.
_REFUSED = _networks(
    "169.254.0.0/16",  # link-local: AWS, Azure, Google, Oracle, Tencent, …
    "100.100.100.200/32",  # Alibaba
    "168.63.129.16/32",  # Azure, although the address is public
    "192.0.0.192/32",  # Oracle, classic
    "224.0.0.0/4",
    "255.255.255.255/32",
    "fe80::/10",
    "fd00:ec2::/32",  # AWS
    "fd20:ce::254/128",  # Google
    "fd00:42::42/128",  # Scaleway
    "ff00::/8",
)
# A translator's prefix (RFC 6052): what it reaches is the IPv4 address in it, so that one is judged alone.
_NAT64 = IPv6Network("64:ff9b::/96")
# Local translators (RFC 8215) choose a longer prefix within this one; the address follows it.
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
_IN_THE_LAST_BITS = _networks("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")
_ISATAP = frozenset({b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe"})


def is_refused(address: Address) -> bool:
    """Whether nobody may call ``address``, also when it is wrapped in an IPv6 address."""
    return any(_within(form, _REFUSED) for form in (address, *_carried(address)))


def is_public(address: Address) -> bool:
    """Whether ``address`` and every IPv4 address that it carries are somewhere on the internet."""
    if is_refused(address):
        return False
    if isinstance(address, IPv4Address):
        return not _within(address, _SPECIAL_IPV4)
    is_unicast = address in _NAT64 or (address in _GLOBAL_UNICAST and not _within(address, _SPECIAL_IPV6))
    return is_unicast and not any(_within(form, _SPECIAL_IPV4) for form in _carried(address))


def literal(host: str) -> Address | None:
    """The address that ``host`` spells, also in the old ways (``0x7f000001``, ``127.1``); None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _within(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _carried(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses in an IPv6 address that somebody on the way may unwrap."""
    if isinstance(address, IPv4Address):
        return
    packed = address.packed
    if _within(address, _IN_THE_LAST_BITS) or packed[8:12] in _ISATAP:
        yield IPv4Address(packed[12:])
    if address in _LOCAL_NAT64:
        # For prefixes of 48, 56, 64 and 96 bits (RFC 6052, 2.2): byte 8 is never part of the address.
        without_u = packed[:8] + packed[9:]
        yield from (IPv4Address(without_u[start : start + 4]) for start in (6, 7, 8, 11))
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
