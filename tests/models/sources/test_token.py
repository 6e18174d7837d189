"""Is a registry's challenge answered as it asks for, and by nobody else's registry?"""

from __future__ import annotations

import base64
import json
from contextlib import aclosing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from outrider.models.errors import PullFailed
from outrider.models.sources.download import DownloadPolicy
from outrider.models.sources.failures import Unreachable
from outrider.models.sources.keys import find_key
from outrider.models.sources.pull import pull
from outrider.models.sources.reference import RemoteReference
from outrider.models.sources.registry import Network
from outrider.models.sources.retry import RetryPolicy
from outrider.models.sources.token import (
    Challenge,
    check_realm,
    may_sign,
    parse_challenge,
    token_url,
)
from outrider.models.store import Store
from registry_server import RegistryServer

pytestmark = pytest.mark.unit

EMPTY = "ZTNiMGM0NDI5OGZjMWMxNDlhZmJmNGM4OTk2ZmI5MjQyN2FlNDFlNDY0OWI5MzRjYTQ5NTk5MWI3ODUyYjg1NQ=="


def test_a_challenge_is_read() -> None:
    header = 'Bearer realm="https://r.example/token",service="r, example",scope="a:b:pull,push"'
    expected = Challenge("https://r.example/token", "r, example", "a:b:pull,push")
    assert parse_challenge(header) == expected
    assert parse_challenge("bearer Realm=https://r.example/t") == Challenge("https://r.example/t")
    for other in ("", 'Basic realm="x"', "Bearer", 'Bearer service="x"'):
        assert parse_challenge(other) is None


def test_the_token_request() -> None:
    challenge = Challenge("https://r.example/token?a=1", "s", "x:pull y:push")
    url = token_url(challenge, now_s=12, nonce=bytes(16))
    assert url == (
        "https://r.example/token?a=1&service=s&scope=x:pull&scope=y:push&ts=12"
        "&nonce=AAAAAAAAAAAAAAAAAAAAAA"
    )


def test_a_realm_elsewhere_is_refused() -> None:
    realm = Challenge("https://evil.example/token")
    text = 'realm host "evil.example" does not match original host "r.example"'
    with pytest.raises(Unreachable, match=text):
        check_realm(realm, "r.example", insecure=True)
    with pytest.raises(Unreachable, match="insecure protocol http"):
        check_realm(Challenge("http://r.example/token"), "r.example", insecure=False)
    check_realm(Challenge("http://r.example/token"), "r.example", insecure=True)


def test_a_signature_travels_encrypted_or_not_at_all() -> None:
    assert may_sign(Challenge("https://r.example/token"))
    assert may_sign(Challenge("http://127.0.0.1:5/token"))
    assert may_sign(Challenge("http://localhost/token"))
    assert not may_sign(Challenge("http://r.example/token"))


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "ollama" / "id_ed25519"
    key = find_key(path)
    again = find_key(path)
    assert key
    assert again
    assert key.public == again.public
    assert path.stat().st_mode & 0o777 == 0o600
    public = load_ssh_public_key(Path(f"{path}.pub").read_bytes())
    public.verify(base64.b64decode(key.sign("text")), b"text")  # type: ignore[union-attr,call-arg]
    assert find_key(tmp_path / "ollama") is None  # a folder is no key
    (tmp_path / "bad").write_text("no key")
    assert find_key(tmp_path / "bad") is None


async def fetch(registry: RegistryServer, tmp_path: Path, *, has_key: bool = True) -> None:
    path = tmp_path / "id_ed25519"
    network = Network(
        policy=DownloadPolicy(retry=RetryPolicy(first_s=0.001)),
        find_key=lambda: find_key(path) if has_key else None,
    )
    source = RemoteReference.parse(f"{registry.host}/user/tiny", insecure=True)
    async with aclosing(pull(Store(tmp_path / "models"), source, network)) as steps:
        assert [progress async for progress in steps][-1].status == "success"


@pytest.mark.parametrize("has_key", [True, False])
async def test_a_pull_with_a_token(tmp_path: Path, has_key: bool) -> None:
    async with RegistryServer(wants_token=True).serve() as registry:
        registry.add("user/tiny", "latest", json.dumps({}).encode(), [("model", b"weights")])
        await fetch(registry, tmp_path, has_key=has_key)
        (request,) = registry.token_requests
        assert request.query["scope"] == "repository:user/tiny:pull"
        signed = request.headers.get("Authorization", "")
        assert bool(signed) == has_key
        if has_key:
            public, _, signature = signed.partition(":")
            key = load_ssh_public_key(f"ssh-ed25519 {public}".encode())
            text = f"GET,http://{registry.host}{request.raw_path},{EMPTY}".encode()
            key.verify(base64.b64decode(signature), text)  # type: ignore[union-attr,call-arg]


async def test_a_second_refusal_is_final(tmp_path: Path) -> None:
    async with RegistryServer(wants_token=True).serve() as registry:
        registry.add("user/tiny", "latest", b"{}", [])
        registry.given_token = "another"
        with pytest.raises(PullFailed, match="unauthorized: access denied"):
            await fetch(registry, tmp_path)
        assert len(registry.token_requests) == 1


async def test_a_token_that_expires_is_renewed(tmp_path: Path) -> None:
    async with RegistryServer(wants_token=True).serve() as registry:
        registry.add("user/tiny", "latest", b"{}", [("model", b"weights")])
        registry.expires_after = 2
        await fetch(registry, tmp_path)
        assert len(registry.token_requests) == 2
