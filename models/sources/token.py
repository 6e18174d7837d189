"""How a registry's token is obtained: the challenge of a 401, and its answer (CONTRACT 6.4)."""

import asyncio
import base64
import hashlib
import ipaddress
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
from yarl import URL

from .failures import HttpRefused, Unreachable
from .transport import FixedHeaders, HttpClient

_TOKEN_BYTES: Final = 1 << 20  # of the answer that are read
_EMPTY_HASH: Final = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()
_PARAMETER = re.compile(r'(\w+)\s*=\s*(?:"([^"]*)"|([^\s,]+))')


class RequestSigner(Protocol):
    """The user's key (keys.py)."""

    def authorise(self, text: str, /) -> str:
        """The value of an Authorization header that signs `text` (CONTRACT 6.4)."""
        ...


FindKey = Callable[[], RequestSigner | None]  # called only when a registry asks for a key


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a `WWW-Authenticate: Bearer` header asks for."""

    realm: str
    service: str = ""
    scope: str = ""


class _Token(msgspec.Struct):
    """The answer of a token endpoint; `access_token` is its OAuth 2 name."""

    token: str = ""
    access_token: str = ""


class RegistryCredentials:
    """The token of one repository, obtained when the registry asks for it, and renewed likewise."""

    def __init__(self, host: str, find_key: FindKey) -> None:
        self._host = host
        self._find_key = find_key
        self._headers: Mapping[str, str] = {}
        self._lock = asyncio.Lock()

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers

    async def renew(self, http: HttpClient, refused: HttpRefused, sent: Mapping[str, str]) -> bool:
        """Whether there is another token now; several requests may be refused at the same time."""
        async with self._lock:
            if self._headers != sent:
                return True
            challenge = parse_challenge(refused.challenge)
            if challenge is None:
                return False
            check_realm(challenge, self._host, insecure=http.insecure)
            token = await self._ask(http, challenge)
            self._headers = {"Authorization": f"Bearer {token}"} if token else {}
            return bool(token)

    async def _ask(self, http: HttpClient, challenge: Challenge) -> str:
        """A token for the user's key, else one for anybody; empty if the registry gives none."""
        for key in (self._find_key() if may_sign(challenge) else None, None):
            try:
                return await _request_token(http, challenge, key)
            except HttpRefused as refused:
                if refused.status >= 500 or refused.status == 429:
                    raise
        return ""


def parse_challenge(header: str) -> Challenge | None:
    """The challenge in a WWW-Authenticate header; None if it is not a Bearer challenge."""
    scheme, _, rest = header.strip().partition(" ")
    found = {key.lower(): quoted or bare for key, quoted, bare in _PARAMETER.findall(rest)}
    if scheme.lower() != "bearer" or not found.get("realm"):
        return None
    return Challenge(found["realm"], found.get("service", ""), found.get("scope", ""))


def check_realm(challenge: Challenge, host: str, *, insecure: bool) -> None:
    """Refuses to answer on another host than the registry's, since the answer is signed."""
    realm = URL(challenge.realm)
    if realm.raw_authority != host:
        text = f'realm host "{realm.raw_authority}" does not match original host "{host}"'
        raise Unreachable(host, text, is_final=True)
    if realm.scheme != "https" and not insecure:
        raise Unreachable(host, f"insecure protocol {realm.scheme}", is_insecure=True)


def may_sign(challenge: Challenge) -> bool:
    """Whether a signature may travel there: encrypted, or on this machine."""
    realm = URL(challenge.realm)
    if realm.scheme == "https" or realm.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(realm.host or "").is_loopback
    except ValueError:
        return False


def token_url(challenge: Challenge, *, now_s: int, nonce: bytes) -> str:
    """The URL of the token request; `nonce` has 16 bytes, `now_s` counts from the epoch."""
    query = [("service", challenge.service)] if challenge.service else []
    query += [("scope", scope) for scope in challenge.scope.split()]
    query += [("ts", str(now_s)), ("nonce", base64.urlsafe_b64encode(nonce).decode().rstrip("="))]
    return str(URL(challenge.realm).extend_query(query))


async def _request_token(http: HttpClient, challenge: Challenge, key: RequestSigner | None) -> str:
    url = token_url(challenge, now_s=int(time.time()), nonce=secrets.token_bytes(16))
    signed = {"Authorization": key.authorise(f"GET,{url},{_EMPTY_HASH}")} if key else {}
    data = await http.read(url, credentials=FixedHeaders(signed), limit_bytes=_TOKEN_BYTES)
    try:
        wire = msgspec.json.decode(data, type=_Token)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return wire.token or wire.access_token
