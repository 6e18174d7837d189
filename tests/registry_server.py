"""A small registry for tests: strict about the protocol, over real HTTP on loopback.

It follows the OCI distribution specification as far as models need it: manifests, blobs with
ranges, uploads in order, mounts, and tokens if `wants_token`.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
OLLAMA = "application/vnd.ollama.image."


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def descriptor(kind: str, data: bytes) -> dict[str, object]:
    """A layer of a manifest; `kind` is the last part of Ollama's media type, or a whole one."""
    media_type = kind if "/" in kind else OLLAMA + kind
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def manifest_of(config: bytes, layers: list[tuple[str, bytes]]) -> bytes:
    """The manifest of these contents, in an order of keys that no encoder of ours has."""
    return json.dumps(
        {
            "mediaType": MANIFEST_TYPE,
            "layers": [descriptor(kind, data) | {"x-note": "kept"} for kind, data in layers],
            "config": descriptor(CONFIG_TYPE, config),
            "schemaVersion": 2,
        },
        indent=1,
    ).encode()


@dataclass
class RegistryServer:
    """The contents and the log of requests; `host` is known while it serves."""

    wants_token: bool = False
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)  # by repository and digest
    manifests: dict[tuple[str, str], bytes] = field(default_factory=dict)  # by repository and tag
    log: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    token_requests: list[web.Request] = field(default_factory=list)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    redirect_blobs: str = ""  # the origin that blobs are redirected to
    redirect_parts: bool = False  # the parts of an upload go to a storage of this server
    given_token: str = ""  # instead of the right one
    expires_after: int = 0  # requests, until the token is another one
    host: str = ""

    def add(
        self, repository: str, tag: str, config: bytes, layers: list[tuple[str, bytes]]
    ) -> bytes:
        """Puts a model there; returns its manifest."""
        for data in (config, *(data for _, data in layers)):
            self.blobs[repository, digest_of(data)] = data
        self.manifests[repository, tag] = manifest_of(config, layers)
        return self.manifests[repository, tag]

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[RegistryServer]:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_get("/token", self._token)
        app.router.add_put("/storage/{upload}", self._store_part)
        app.router.add_route("*", "/v2/{repository:.+}/manifests/{tag}", self._manifest)
        app.router.add_post("/v2/{repository:.+}/blobs/uploads/", self._begin)
        app.router.add_route("*", "/v2/{repository:.+}/blobs/uploads/{upload}", self._upload)
        app.router.add_get("/v2/{repository:.+}/blobs/{digest}", self._blob)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.host = f"127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()

    def count(self, method: str, path: str) -> int:
        """How many requests there were with that method and that text in their path."""
        return sum(method == told and path in where for told, where, _ in self.log)

    def _guard(self, request: web.Request, action: str = "pull") -> None:
        self.log.append((request.method, request.path_qs, dict(request.headers)))
        if not self.wants_token or request.headers.get("Authorization") == f"Bearer {self.token}":
            self.expires_after -= 1
            if self.expires_after == 0:
                self.token = secrets.token_hex(8)
            return
        scope = f"repository:{request.match_info['repository']}:{action}"
        challenge = f'Bearer realm="http://{self.host}/token",service="tests",scope="{scope}"'
        raise _fail(web.HTTPUnauthorized, "UNAUTHORIZED", {"WWW-Authenticate": challenge})

    async def _token(self, request: web.Request) -> web.Response:
        self.token_requests.append(request)
        if request.query.get("service") != "tests" or not request.query.get("scope"):
            raise web.HTTPBadRequest
        return web.json_response({"token": self.given_token or self.token})

    async def _manifest(self, request: web.Request) -> web.Response:
        repository, tag = request.match_info["repository"], request.match_info["tag"]
        self._guard(request, "pull,push" if request.method == "PUT" else "pull")
        if request.method == "PUT":
            data = await request.read()
            self._check_manifest(repository, data, request.content_type)
            self.manifests[repository, tag] = data
            return web.Response(status=201, headers={"Docker-Content-Digest": digest_of(data)})
        known = self.manifests.get((repository, tag))
        if known is None:
            raise _fail(web.HTTPNotFound, "MANIFEST_UNKNOWN")
        assert request.headers["Accept"] == MANIFEST_TYPE
        return web.Response(body=known, content_type=MANIFEST_TYPE)

    def _check_manifest(self, repository: str, data: bytes, content_type: str) -> None:
        wire = json.loads(data)
        if content_type != MANIFEST_TYPE or wire["mediaType"] != MANIFEST_TYPE:
            raise _fail(web.HTTPBadRequest, "MANIFEST_INVALID")
        for layer in (wire["config"], *wire["layers"]):
            blob = self.blobs.get((repository, layer["digest"]))
            if blob is None or len(blob) != layer["size"]:
                raise _fail(web.HTTPBadRequest, "MANIFEST_BLOB_UNKNOWN")

    async def _blob(self, request: web.Request) -> web.Response:
        self._guard(request)
        repository, digest = request.match_info["repository"], request.match_info["digest"]
        data = self.blobs.get((repository, digest))
        if data is None:
            raise _fail(web.HTTPNotFound, "BLOB_UNKNOWN")
        if self.redirect_blobs and request.method == "GET":
            raise web.HTTPTemporaryRedirect(f"{self.redirect_blobs}{request.path}?signed=yes%2Bno")
        asked = request.http_range
        headers = {"Docker-Content-Digest": digest}
        if asked.start is None:
            return web.Response(body=data, headers=headers)
        end = min(asked.stop or len(data), len(data))
        if asked.start >= end:
            raise web.HTTPRequestRangeNotSatisfiable
        headers["Content-Range"] = f"bytes {asked.start}-{end - 1}/{len(data)}"
        return web.Response(status=206, body=data[asked.start : end], headers=headers)

    async def _begin(self, request: web.Request) -> web.Response:
        self._guard(request, "pull,push")
        repository = request.match_info["repository"]
        digest, source = request.query.get("mount", ""), request.query.get("from", "")
        data = self.blobs.get((source, digest))
        if data is not None:
            self.blobs[repository, digest] = data
            return web.Response(
                status=201, headers={"Location": f"/v2/{repository}/blobs/{digest}"}
            )
        upload = secrets.token_hex(8)
        self.uploads[upload] = bytearray()
        return self._accepted(repository, upload, 202)

    async def _upload(self, request: web.Request) -> web.Response:
        self._guard(request, "pull,push")
        repository, upload = request.match_info["repository"], request.match_info["upload"]
        content = self.uploads.get(upload)
        if content is None or request.query.get("state") != str(len(content)):
            raise _fail(web.HTTPNotFound, "BLOB_UPLOAD_UNKNOWN")
        if request.method == "GET":
            return self._accepted(repository, upload, 204)
        if request.method == "PATCH" and self.redirect_parts:
            return self._redirect_part(request, repository, upload)
        body = await request.read()
        if request.method == "PATCH":
            start, _, end = request.headers["Content-Range"].partition("-")
            if int(start) != len(content) or int(end) != len(content) + len(body) - 1:
                raise _fail(web.HTTPRequestRangeNotSatisfiable, "RANGE_INVALID")
            content += body
            return self._accepted(repository, upload, 202)
        content += body
        if digest_of(bytes(content)) != request.query["digest"]:
            raise _fail(web.HTTPBadRequest, "DIGEST_INVALID")
        self.blobs[repository, request.query["digest"]] = bytes(content)
        del self.uploads[upload]
        return web.Response(status=201, headers={"Docker-Content-Digest": request.query["digest"]})

    def _redirect_part(self, request: web.Request, repository: str, upload: str) -> web.Response:
        """The next location counts the part in, though it comes by another way."""
        assert request.headers["X-Redirect-Uploads"] == "1"
        size = len(self.uploads[upload]) + int(request.headers["Content-Length"])
        headers = {
            "Location": f"/storage/{upload}",
            "Docker-Upload-Location": f"/v2/{repository}/blobs/uploads/{upload}?state={size}",
        }
        return web.Response(status=307, headers=headers)

    async def _store_part(self, request: web.Request) -> web.Response:
        self.log.append((request.method, request.path_qs, dict(request.headers)))
        assert "Authorization" not in request.headers
        self.uploads[request.match_info["upload"]] += await request.read()
        return web.Response()

    def _accepted(self, repository: str, upload: str, status: int) -> web.Response:
        """The next location changes with every part, as the specification allows."""
        size = len(self.uploads[upload])
        location = f"/v2/{repository}/blobs/uploads/{upload}?state={size}"
        headers = {"Location": location, "Range": f"0-{max(size - 1, 0)}"}
        return web.Response(status=status, headers=headers)


def _fail(
    kind: type[web.HTTPException], code: str, headers: Mapping[str, str] | None = None
) -> web.HTTPException:
    body = json.dumps({"errors": [{"code": code, "message": code.lower().replace("_", " ")}]})
    return kind(text=body, content_type="application/json", headers=dict(headers or {}))
