"""What does a repository on the Hugging Face hub hold, and how is the hub asked?"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeVar
from urllib.parse import quote, urlsplit

import msgspec
from yarl import URL

from ..errors import PullFailed
from .download import RemoteFile
from .failures import HttpRefused, Unreachable
from .retry import RetryPolicy
from .transport import FixedHeaders, HttpClient

T = TypeVar("T")

HUB: Final = "https://huggingface.co"  # hf.co redirects to it
_PAGE_BYTES: Final = 8 << 20  # of an answer of the API at most
_MAX_PAGES: Final = 100  # of a list of files; the hub puts up to 1000 files on one
_REPOSITORY: Final = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository; `digest` is None for a small one, which git itself holds."""

    path: str
    size_bytes: int
    digest: str | None = None  # `sha256:<hex>`

    @property
    def name(self) -> str:
        """The path without its folders."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class HubRepository:
    """A repository at one commit; `card` is what the model card states as data."""

    id: str  # `<user>/<repository>`
    commit: str
    is_gated: bool = False
    card: Mapping[str, object] = field(default_factory=dict)
    files: tuple[HubFile, ...] = ()

    def find(self, path: str) -> HubFile | None:
        """The file at that path."""
        return next((file for file in self.files if file.path == path), None)


class _WireLfs(msgspec.Struct):
    oid: str  # hex sha256 of the content
    size: int


class _WireEntry(msgspec.Struct):
    type: str
    path: str
    size: int = 0
    lfs: _WireLfs | None = None


class _WireRepository(msgspec.Struct, rename="camel"):
    sha: str
    id: str = ""
    gated: bool | str = False
    card_data: dict[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub and the token that it wants to see; hosts that it redirects to never see it."""

    endpoint: str = HUB
    token: str = field(default="", repr=False)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Hub":
        """The hub of `HF_ENDPOINT` and `HF_TOKEN`; raises PullFailed for what is no URL."""
        endpoint = (environment.get("HF_ENDPOINT", "").strip() or HUB).rstrip("/")
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise PullFailed(f"HF_ENDPOINT is {endpoint!r}, which is no URL such as {HUB}")
        return cls(endpoint, environment.get("HF_TOKEN", "").strip())

    @property
    def is_plain(self) -> bool:
        """Whether the endpoint asks for plain HTTP, which allows it."""
        return self.endpoint.startswith("http:")

    @property
    def credentials(self) -> FixedHeaders:
        return FixedHeaders({"Authorization": f"Bearer {self.token}"} if self.token else {})

    def remote(self, repository: HubRepository, file: HubFile) -> RemoteFile:
        """Where a file is downloaded from, as it was at the repository's commit."""
        url = f"{self.endpoint}/{repository.id}/resolve/{repository.commit}/{quote(file.path)}"
        return RemoteFile(url, file.digest, file.size_bytes, self.credentials)

    async def list(self, http: HttpClient, retry: RetryPolicy, repository: str) -> HubRepository:
        """The repository with all of its files; raises PullFailed with what to do."""
        url = f"{self.endpoint}/api/models/{repository}"
        try:
            data, _ = await retry.run(lambda: self._read_page(http, url))
            wire = _decode(self, data, _WireRepository)
            actual = wire.id if _REPOSITORY.fullmatch(wire.id) else repository  # it was renamed
            found = HubRepository(actual, wire.sha, bool(wire.gated), wire.card_data or {})
            files = await self._list_files(http, retry, found)
        except (HttpRefused, Unreachable) as error:
            raise PullFailed(f"pull model manifest: {self.word(error, repository)}") from error
        return replace(found, files=files)

    async def read(
        self, http: HttpClient, retry: RetryPolicy, repository: HubRepository, file: HubFile
    ) -> bytes:
        """A small file; raises HttpRefused and Unreachable."""
        remote = self.remote(repository, file)
        return await retry.run(
            lambda: http.read(remote.url, credentials=self.credentials, limit_bytes=_PAGE_BYTES)
        )

    async def _list_files(
        self, http: HttpClient, retry: RetryPolicy, repository: HubRepository
    ) -> tuple[HubFile, ...]:
        base = f"{self.endpoint}/api/models/{repository.id}/tree/{quote(repository.commit)}"
        url: str | None = f"{base}?recursive=true"
        files: list[HubFile] = []
        for _ in range(_MAX_PAGES):
            if url is None:
                break
            data, url = await retry.run(partial(self._read_page, http, url))
            entries = _decode(self, data, list[_WireEntry])
            files += [_file(entry) for entry in entries if entry.type == "file"]
        return tuple(files)

    async def _read_page(self, http: HttpClient, url: str) -> tuple[bytes, str | None]:
        """An answer of the API, and the URL of the next page if there is one (RFC 8288)."""
        async with http.open("GET", url, credentials=self.credentials) as response:
            data = bytearray()
            async for chunk in response.content.iter_any():
                data += chunk
                if len(data) > _PAGE_BYTES:
                    raise Unreachable(response.host, "its answer is too long", is_final=True)
            link = response.links.get("next")
        following = URL(str(link["url"]), encoded=True) if link else None
        if following is not None and following.origin() != URL(url, encoded=True).origin():
            host = following.host
            raise Unreachable(self.host, f"its list goes on at {host}", is_final=True)
        return bytes(data), str(following) if following else None

    @property
    def host(self) -> str:
        return urlsplit(self.endpoint).netloc

    def word(
        self, error: HttpRefused | Unreachable, repository: str, *, is_gated: bool = False
    ) -> str:
        """What is wrong with a repository or its files, and what to do about it."""
        if isinstance(error, Unreachable):
            advice = "" if self.endpoint == HUB else f"; HF_ENDPOINT is {self.endpoint}: check it"
            return f"{error.advised}{advice}"
        if error.status == 429:
            hint = "" if self.token else ", or set HF_TOKEN, which raises the limit"
            return f"{error.advised}{hint}"
        if error.host == self.host and error.status in (401, 403, 404):
            return self._word_access(error, repository, is_gated)
        return error.advised

    def _word_access(self, refused: HttpRefused, repository: str, is_gated: bool) -> str:
        page = f"{self.endpoint}/{repository}"
        how = f"set HF_TOKEN to a token of {self.endpoint}/settings/tokens that may read it"
        if "invalid credentials" in refused.body.lower():
            return f"{self.host} does not know the token in HF_TOKEN; {how}, or unset it"
        if is_gated or _speaks_of_terms(refused.body):
            return f"access to {repository} is restricted: accept its terms at {page}, and {how}"
        if refused.status == 403:
            return f"access to {repository} is denied ({refused.body}); {how}"
        return (
            f"file does not exist: there is no repository {repository} at {self.host}, or it is "
            f"private; check the name, or {how}"
        )


def _speaks_of_terms(body: str) -> bool:
    """Whether a refusal is that of a repository whose terms a user must accept first."""
    return any(word in body.lower() for word in ("gated", "restricted", "awaiting"))


def _file(entry: _WireEntry) -> HubFile:
    if entry.lfs is None or not _SHA256.fullmatch(entry.lfs.oid):
        return HubFile(entry.path, entry.size)
    return HubFile(entry.path, entry.lfs.size, f"sha256:{entry.lfs.oid}")


def _decode(hub: Hub, data: bytes, kind: type[T]) -> T:
    """The JSON of an answer; raises PullFailed for anything else."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        advice = "try again later" if hub.endpoint == HUB else f"HF_ENDPOINT is {hub.endpoint}"
        raise PullFailed(
            f"pull model manifest: {hub.host} does not answer as a Hugging Face hub does "
            f"({error}); {advice}"
        ) from error
