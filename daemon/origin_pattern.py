"""Which origins does an entry of ORIGINS let in? (CONTRACT 4, CORS rules)"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from .authority import DEFAULT_PORTS, Authority, Origin

ANY = "*"
# A wildcard stands for a part of a host name or for a port, and never crosses into the next part.
WEB_PATTERN = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.*]+\]|[A-Za-z0-9._~*-]+)(?::(?P<port>[0-9*]{1,5}))?"
)
APP_PATTERN = re.compile(r"[A-Za-z0-9._~!$&'()*+;=:\[\]%/-]*")
SCHEME_PATTERN = re.compile(r"[A-Za-z*][A-Za-z0-9+.*-]*")
NOT_AN_ORIGIN = "{!r} is no origin; write it as https://a.example or https://*.a.example:8443"


@dataclass(frozen=True, slots=True)
class OriginPattern:
    """An origin in which `*` stands for any characters of the scheme, the host or the port."""

    scheme: re.Pattern[str]
    web_host: re.Pattern[str]
    web_port: str | None  # decimal, with wildcards; None: the default port of the scheme
    takes_any_port: bool
    app_location: re.Pattern[str]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError for a text that fits no origin."""
        scheme, separator, rest = text.partition("://")
        if not separator or not SCHEME_PATTERN.fullmatch(scheme):
            raise ValueError(NOT_AN_ORIGIN.format(text))
        is_app = scheme.lower() not in DEFAULT_PORTS
        web = WEB_PATTERN.fullmatch(rest.removesuffix("/"))
        if not (APP_PATTERN.fullmatch(rest) if is_app else web):
            raise ValueError(NOT_AN_ORIGIN.format(text))
        host, port = (web["host"], web["port"]) if web else ("", None)
        is_open = port is None and host.endswith(ANY)
        location = _pattern(rest)
        return cls(_pattern(scheme), _pattern(_canonical(host)), port, is_open, location)

    def fits(self, origin: Origin) -> bool:
        """Whether the pattern lets this origin in."""
        if not self.scheme.fullmatch(origin.scheme):
            return False
        if origin.scheme not in DEFAULT_PORTS:
            return bool(self.app_location.fullmatch(origin.location))
        return bool(self.web_host.fullmatch(origin.location)) and self._fits_port(origin)

    def _fits_port(self, origin: Origin) -> bool:
        default = DEFAULT_PORTS[origin.scheme]
        if self.takes_any_port:
            return True
        if self.web_port is None:
            return origin.port in (None, default)
        if ANY in self.web_port:
            return origin.port is not None and bool(
                _pattern(self.web_port).fullmatch(str(origin.port))
            )
        return (origin.port or default) == int(self.web_port)


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text).replace(r"\*", ".*"), re.IGNORECASE | re.ASCII)


def _canonical(host: str) -> str:
    """As `Authority` words a host: an address in its shortest form, without brackets."""
    authority = Authority.parse(host)
    return host.strip("[]") if authority is None else str(authority.host)
