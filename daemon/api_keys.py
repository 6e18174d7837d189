"""Which API keys does the daemon take, and when does it need one?"""

from __future__ import annotations

import hashlib
import hmac
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from .authority import is_loopback
from .errors import ConfigError

UNNAMED = "default"  # the name of a key that stands alone
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SECRET = re.compile(r"[!-~]{8,512}")  # visible ASCII: what a header can carry
COMMENT = "#"
OF_OTHERS = stat.S_IWGRP | stat.S_IRWXO  # a group may read, as in systemd's credentials
BAD_ENTRY = (
    "entry {} is no API key: write KEY or NAME:KEY, where a name has letters, digits, '.', '_' "
    "or '-', and a key has 8 to 512 visible ASCII characters and no comma"
)
EXPOSED = (
    "{} is reached from other machines, and there is no API key: whoever finds it could use, "
    "change and delete your models. Set OUTRIDER_API_KEY to a key (`openssl rand -hex 32` makes "
    "one), or listen on 127.0.0.1, or allow it with --insecure-listen (OUTRIDER_INSECURE_LISTEN=1)"
)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that the daemon takes, and how the log calls it."""

    name: str
    secret: str = field(repr=False)

    @classmethod
    def parse(cls, text: str, position: int) -> Self:
        """`KEY` or `NAME:KEY`. Raises ValueError, without telling the key."""
        name, colon, secret = (part.strip() for part in text.partition(":"))
        if not colon:
            name, secret = UNNAMED if position == 1 else f"{UNNAMED}-{position}", name
        if not (NAME.fullmatch(name) and SECRET.fullmatch(secret)):
            raise ValueError(BAD_ENTRY.format(position))
        return cls(name, secret)


class KeyRing:
    """The keys that the daemon takes; without any, requests need none."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._digests = tuple((key.name, _digest(key.secret)) for key in keys)

    def __len__(self) -> int:
        return len(self._digests)

    def find(self, secret: str) -> str | None:
        """The name of the key, in a time that tells nothing about the keys that there are."""
        digest, found = _digest(secret), None
        for name, known in self._digests:
            if hmac.compare_digest(digest, known):
                found = name
        return found


def parse_keys(text: str) -> tuple[ApiKey, ...]:
    """The keys in the value of API_KEY, separated by commas. Raises ValueError."""
    return _distinct(text.split(","))


def read_key_file(path: Path) -> tuple[ApiKey, ...]:
    """The keys in a file, a line for each; empty lines and comments are passed over.

    Raises ConfigError for a file that others may read, or that holds no key.
    """
    try:
        mode, text = path.stat().st_mode, path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the API keys in {path} cannot be read: {error}") from None
    if mode & OF_OTHERS:
        raise ConfigError(f"the API keys in {path} are open to other users; run: chmod 600 {path}")
    lines = (line.strip() for line in text.splitlines())
    try:
        keys = _distinct([line for line in lines if line and not line.startswith(COMMENT)])
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not keys:
        raise ConfigError(f"{path} holds no API key; write one on a line")
    return keys


def check_exposure(hosts: Iterable[str], *, has_keys: bool, is_insecure: bool) -> None:
    """Raises ConfigError if other machines reach one of these addresses and need no key.

    A host is a name, an address without brackets, empty (every interface) or a socket's path.
    """
    exposed = [host or "every interface" for host in hosts if not is_loopback(host)]
    if exposed and not has_keys and not is_insecure:
        raise ConfigError(EXPOSED.format(exposed[0]))


def _distinct(entries: list[str]) -> tuple[ApiKey, ...]:
    keys = tuple(ApiKey.parse(entry, i) for i, entry in enumerate(entries, 1))
    names = [key.name for key in keys]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two API keys are named {twice}")
    return keys


def _digest(secret: str) -> bytes:
    """Of equal length for all secrets, so that no comparison tells a length."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
