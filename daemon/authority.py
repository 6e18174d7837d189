"""Which host and port does a Host header, or an Origin header, name?

Both are read by the grammar of URLs (RFC 3986 3.2, RFC 6454 7.1) and in the form that browsers and
clients send (WHATWG URL 3.5): names in ASCII, IPv4 addresses as four decimal numbers, IPv6
addresses in brackets and without a zone. Everything else names nothing, and is refused.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Self

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Host = str | IPAddress

MAX_PORT = 65535  # TCP
MAX_NAME = 253  # characters of a domain name (RFC 1035 2.3.4, in text form)
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}  # TCP, by scheme (WHATWG URL)
AUTHORITY = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9_~-]+(?:\.[A-Za-z0-9_~-]+)*\.?)?)"
    r"(?::(?P<port>[0-9]{0,5}))?"
)
NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")  # a last label that makes a host an IPv4 address
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")  # RFC 3986 3.1
# What follows the scheme of an application's page, such as a file's: never user information.
APP_LOCATION = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:\[\]%/-]*")


@dataclass(frozen=True, slots=True)
class Authority:
    """A host and a port."""

    host: Host  # a name in lower case; empty: none is named
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """`host`, `host:port` or `:port`; None for everything else, user information included."""
        found = AUTHORITY.fullmatch(text)
        if not found:
            return None
        host, port = _parse_host(found["host"]), int(found["port"] or 0) or None
        if host is None or (port or 0) > MAX_PORT or (found["port"] and not port):
            return None
        return cls(host, port)


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of a web page, or scheme and location of a page of an application."""

    scheme: str  # in lower case
    location: str  # the host, without a port; of an application: what follows the scheme
    port: int | None  # of a web page, if it is named

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """None for `null` and for everything that is no origin of one page."""
        scheme, separator, rest = text.partition("://")
        if not separator or not SCHEME.fullmatch(scheme):
            return None
        scheme = scheme.lower()
        if scheme not in DEFAULT_PORTS:
            return cls(scheme, rest, None) if APP_LOCATION.fullmatch(rest) else None
        authority = Authority.parse(rest)
        if authority is None or not authority.host:
            return None
        return cls(scheme, str(authority.host), authority.port)

    def is_at(self, authority: Authority) -> bool:
        """Whether the page was loaded from this host and port."""
        if self.scheme not in DEFAULT_PORTS or self.location != str(authority.host):
            return False
        default = DEFAULT_PORTS[self.scheme]
        return (self.port or default) == (authority.port or default)


def _parse_host(text: str) -> Host | None:
    if text.startswith("["):
        try:
            address = ipaddress.IPv6Address(text[1:-1])
        except ValueError:
            return None
        return address.ipv4_mapped or address
    if NUMBER.fullmatch(text.removesuffix(".").rpartition(".")[2]):
        try:
            return ipaddress.IPv4Address(text)
        except ValueError:
            return None
    return text.lower() if len(text) <= MAX_NAME else None


def is_loopback(host: str) -> bool:
    """Whether what listens on this host is reached from this machine only; a path is a socket's."""
    if host.startswith(("/", "@")):
        return True
    authority = Authority.parse(f"[{host}]" if ":" in host else host)
    if authority is None or isinstance(authority.host, str):
        return authority is not None and authority.host == "localhost"
    return authority.host.is_loopback
