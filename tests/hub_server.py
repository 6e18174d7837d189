"""A small Hugging Face hub for tests: strict about the protocol, over real HTTP on loopback.

As the real one it lists a repository page by page, and redirects large files to a second host,
which refuses requests with a token, takes signed URLs alone and knows ranges.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SIGNATURE = "Signature=s~1%2F2"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class HubRepositoryContent:
    """A repository; `gated` as the API tells it. Files whose name ends in `.gguf` are in LFS."""

    files: dict[str, bytes] = field(default_factory=dict)
    gated: bool | str = False
    is_private: bool = False
    card: Mapping[str, object] = field(default_factory=dict)
    readers: set[str] = field(default_factory=set)  # tokens


@dataclass
class HubServer:
    """The repositories and the log of requests of both hosts; URLs are known while it serves."""

    repositories: dict[str, HubRepositoryContent] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    page_files: int = 2
    refuse_with: tuple[int, Mapping[str, str]] | None = None
    wrong_files: dict[str, bytes] = field(default_factory=dict)  # sent in place of the right ones
    cut_after_bytes: int | None = (
        None  # of each answer with a part that starts behind the first byte
    )
    log: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    storage_log: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    sent_bytes: int = 0  # by the second host
    url: str = ""
    storage_url: str = ""

    def add(self, repository: str, files: Mapping[str, bytes], **more: object) -> None:
        self.repositories[repository] = HubRepositoryContent(dict(files), **more)  # type: ignore[arg-type]

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[HubServer]:
        hub, storage = web.Application(), web.Application()
        hub.router.add_get("/api/models/{user}/{name}", self._model)
        hub.router.add_get("/api/models/{user}/{name}/tree/{revision}", self._tree)
        hub.router.add_route("*", "/{user}/{name}/resolve/{revision}/{path:.+}", self._resolve)
        storage.router.add_get("/{sha256}", self._storage)
        runners = [
            web.AppRunner(app, access_log=None, shutdown_timeout=0.1) for app in (hub, storage)
        ]
        try:
            for runner in runners:
                await runner.setup()
                await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url, self.storage_url = (
                f"http://127.0.0.1:{runner.addresses[0][1]}" for runner in runners
            )
            yield self
        finally:
            for runner in runners:
                await runner.cleanup()

    def _enter(self, request: web.Request) -> HubRepositoryContent:
        """The repository of a request; what the hub says to those who may not see it."""
        self.log.append((request.method, request.path_qs, dict(request.headers)))
        if self.refuse_with:
            status, headers = self.refuse_with
            raise _fail(status, "We had to rate limit your IP.", headers)
        token = _token(request)
        if token and token not in self.tokens:
            raise _fail(401, "Invalid credentials in Authorization header")
        name = "{user}/{name}".format(**request.match_info)
        if name in self.renamed:
            target = request.path_qs.replace(name, self.renamed[name])
            raise web.HTTPTemporaryRedirect(target)
        found = self.repositories.get(name)
        if found is None or (found.is_private and token not in found.readers):
            raise (
                _fail(404, "Repository not found")
                if token
                else _fail(401, "Invalid username or password.")
            )
        return found

    async def _model(self, request: web.Request) -> web.Response:
        found = self._enter(request)
        name = "{user}/{name}".format(**request.match_info)
        info = {"_id": "1", "id": name, "sha": COMMIT, "gated": found.gated, "private": False}
        return web.json_response(info | {"cardData": dict(found.card)} if found.card else info)

    async def _tree(self, request: web.Request) -> web.Response:
        found = self._enter(request)
        assert request.match_info["revision"] == COMMIT, "the commit of the first answer"
        assert request.query["recursive"] == "true"
        start = int(request.query.get("cursor", "0"))
        entries = [_entry(path, data) for path, data in sorted(found.files.items())]
        folders = {path.rpartition("/")[0] for path in found.files if "/" in path}
        entries += [{"type": "directory", "oid": "0", "size": 0, "path": path} for path in folders]
        page, left = entries[start : start + self.page_files], entries[start + self.page_files :]
        headers = {}
        if left:
            following = f"{self.url}{request.path}?recursive=true&cursor={start + len(page)}"
            headers["Link"] = f'<{following}>; rel="next"'
        return web.json_response(page, headers=headers)

    async def _resolve(self, request: web.Request) -> web.Response:
        found = self._enter(request)
        assert request.match_info["revision"] == COMMIT
        if found.gated and _token(request) not in found.readers:
            name = "{user}/{name}".format(**request.match_info)
            text = f"Access to model {name} is restricted."
            raise _fail(403 if _token(request) else 401, text, {"X-Error-Code": "GatedRepo"})
        data = found.files.get(request.match_info["path"])
        if data is None:
            raise _fail(404, "Entry not found")
        if not request.match_info["path"].endswith(".gguf"):
            return web.Response(body=data)
        location = f"{self.storage_url}/{sha256(data)}?{SIGNATURE}"
        return web.Response(status=302, headers={"Location": location})  # byte for byte

    async def _storage(self, request: web.Request) -> web.StreamResponse:
        self.storage_log.append((request.method, request.path_qs, dict(request.headers)))
        if "Authorization" in request.headers:
            raise _fail(400, "Only one auth mechanism allowed")
        if request.rel_url.raw_query_string != SIGNATURE:
            raise _fail(403, "SignatureDoesNotMatch")
        files = [d for found in self.repositories.values() for d in found.files.values()]
        key = request.match_info["sha256"]
        data = next(data for data in files if sha256(data) == key)
        data = self.wrong_files.get(key, data)
        asked = request.http_range
        start, end = asked.start or 0, min(asked.stop or len(data), len(data))
        response = web.StreamResponse(
            status=206, headers={"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"}
        )
        response.content_length = end - start
        await response.prepare(request)
        is_cut = self.cut_after_bytes is not None and start > 0
        content = data[start:end][: self.cut_after_bytes if is_cut else None]
        await response.write(content)
        self.sent_bytes += len(content)
        if is_cut:
            assert request.transport is not None
            request.transport.close()
        return response


def _token(request: web.Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


def _entry(path: str, data: bytes) -> dict[str, object]:
    blob = {"type": "file", "oid": hashlib.sha1(data).hexdigest(), "size": len(data), "path": path}
    if not path.endswith(".gguf"):
        return blob
    return blob | {"lfs": {"oid": sha256(data), "size": len(data), "pointerSize": 134}}


def _fail(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.HTTPException:
    class Refusal(web.HTTPException):
        status_code = status

    return Refusal(
        text=json.dumps({"error": text}),
        content_type="application/json",
        headers=dict(headers or {}),
    )
