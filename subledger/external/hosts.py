"""Allowed hosts of deliveries and notices, by the addresses of their names.

A name is checked when a channel is set and used (``connectors.connector``), but an allowed name can resolve to this
machine. So each connection is made to an address that was resolved and checked here; the name is not resolved again.

Owns: the check of addresses. Does not own: the check of names.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final, TypeVar

HOSTS: Final = "SUBLEDGER_DELIVERY_HOSTS"

Connection = TypeVar("Connection")


_NAT64: Final = IPv6Network("64:ff9b::/96")
_METADATA: Final = frozenset(map(ip_address, ("169.254.169.254", "fd00:ec2::254", "100.100.100.200")))
"""The metadata addresses of AWS and most other clouds, of AWS by IPv6, and of Alibaba Cloud (see their
documentation).
"""


class AddressRefused(OSError):
    """The host resolves to an address of this machine or its network, and the allowed hosts do not name this
    address.
    """


def allowed_hosts() -> list[str]:
    """Returns the names in ``SUBLEDGER_DELIVERY_HOSTS``: hosts, .domains and ``*``."""
    return [name.strip().lower().rstrip(".") for name in os.environ.get(HOSTS, "").split(",") if name.strip()]


def is_near(host: str) -> bool:
    """True for addresses of this machine and its network.

    These are loopback, link-local and unspecified addresses in any form, such as 127.1; localhost; and the metadata
    addresses of clouds.
    """
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        found: IPv4Address | IPv6Address = ip_address(host.strip("[]"))
    except ValueError:
        try:
            found = IPv4Address(socket.inet_aton(host))
        except (OSError, UnicodeError):
            return False
    if found in _METADATA:
        return True
    forms: list[IPv4Address | IPv6Address] = [found]
    if isinstance(found, IPv6Address):
        forms += _within(found)
    return any(form.is_loopback or form.is_link_local or form.is_unspecified or form in _METADATA for form in forms)


def _within(address: IPv6Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses inside an IPv6 address: mapped, compatible, 6to4, Teredo, NAT64 (RFC 6052)."""
    for found in (address.ipv4_mapped, address.sixtofour, *(address.teredo or ())):
        if found is not None:
            yield found
    if address in _NAT64 or int(address) >> 32 == 0:
        yield IPv4Address(int(address) & 0xFFFF_FFFF)


def connect_checked(host: str, port: int, connect: Callable[[str], Connection]) -> Connection:
    """Connects to the first address of a host that accepts. Returns the result of ``connect``.

    Addresses of this machine and its network are skipped, unless ``SUBLEDGER_DELIVERY_HOSTS`` names the host or the
    address. Raises AddressRefused if no address remains. If all fail, raises the error of the last one.
    """
    resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    found = list(dict.fromkeys(str(address[0]) for *_, address in resolved))
    allowed = allowed_hosts()
    is_named = host.lower().rstrip(".") in allowed
    checked = [address for address in found if is_named or address in allowed or not is_near(address)]
    if not checked:
        raise AddressRefused(
            f"{host} resolves to {', '.join(found)}, which is this machine or its network; whoever runs the "
            f"installation can name the host in {HOSTS}"
        )
    for address in checked[:-1]:
        try:
            return connect(address)
        except Exception:  # the next address may answer; the last failure is raised, as in create_connection
            continue
    return connect(checked[-1])
