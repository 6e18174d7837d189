"""Which address does OLLAMA_HOST mean? Its forms are those of the table in CONTRACT 4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

DEFAULT_PORT = 11434  # TCP (CONTRACT 4)
SCHEME_PORTS = {"": DEFAULT_PORT, "http": 80, "https": 443}  # TCP (CONTRACT 4)
NOT_AN_ADDRESS = "{!r} is not an address; try 127.0.0.1:11434"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a daemon listens, or is reached."""

    scheme: str
    host: str  # empty: every interface
    port: int
    path: str  # of the URL that a client uses, without a final slash
    has_bad_port: bool = False  # the text named a port that none can be; `port` is the default

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError for a text that is no address; a bad port is the default one."""
        if any(char.isspace() for char in text):
            raise ValueError(NOT_AN_ADDRESS.format(text))
        scheme, _, rest = text.rpartition("://")
        default = SCHEME_PORTS.get(scheme, DEFAULT_PORT)
        if text == "ollama.com":
            scheme, default = "https", SCHEME_PORTS["https"]
        if rest.count(":") > 1 and not rest.startswith("["):
            rest = f"[{rest}]"
        try:
            parts = urlsplit(f"//{rest}")
        except ValueError:
            raise ValueError(NOT_AN_ADDRESS.format(text)) from None
        try:
            port, is_bad = (parts.port if parts.port is not None else default), False
        except ValueError:
            port, is_bad = DEFAULT_PORT, True
        host = parts.hostname or ("" if rest.startswith(":") else "127.0.0.1")
        return cls(scheme or "http", host, port, parts.path.rstrip("/"), is_bad)
