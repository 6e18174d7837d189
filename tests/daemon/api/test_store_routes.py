"""What does the API say when the store is short of space, or cannot be read? (CONTRACT 1.15)"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from front import Front, start_front
from outrider.models.errors import NoSpace
from outrider.models.space import RESERVE_BYTES

pytestmark = pytest.mark.unit

ABSENT = "sha256:" + "0" * 64


@pytest.mark.parametrize("has_length", [True, False])
async def test_an_upload_is_bounded_by_the_free_space(
    front: Front, has_length: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body of unknown length is refused at the chunk that does not fit."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * 2000

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=RESERVE_BYTES + 999))
    body = b"x" * 2000 if has_length else chunks()
    async with front.client.post(f"/api/blobs/{ABSENT}", data=body) as response:
        error = (await response.json())["error"]
        assert response.status == 500
    assert "not enough disk space" in error
    assert "2.0 kB are needed for the file, 999 B are free" in error
    assert not list(front.store.root.glob(".outrider-*"))


@pytest.mark.parametrize(
    "name", ["h" * 256 + "/n/m", "n" * 256 + "/m", "m" * 256, "m:" + "t" * 256]
)
async def test_a_name_with_a_part_that_no_file_can_have_is_refused(front: Front, name: str) -> None:
    for path in ("/api/show", "/api/generate", "/api/pull", "/api/create"):
        status, answer = await front.post(path, {"model": name, "stream": False})
        assert status == 400
        assert answer == {"error": "invalid model name"}, path


async def test_a_store_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    """An empty list would hide models on a disk that is not mounted."""
    manifests = tmp_path / "manifests"
    manifests.symlink_to(tmp_path / "unmounted")
    reason = "leads nowhere (No such file or directory); check the path and its permissions"
    error = (500, {"error": f"{manifests} {reason}"})
    async with start_front(tmp_path) as front:
        assert await front.get("/api/tags") == error
        assert await front.post("/api/show", {"model": "chat"}) == error


async def test_an_upload_mends_a_truncated_blob(front: Front) -> None:
    """Else a model that is damaged could not be created again, as its error advises."""
    path = front.store.resolve("chat").model_path
    assert path is not None
    content, url = path.read_bytes(), f"/api/blobs/{path.name.replace('-', ':')}"
    assert (await front.client.head(url)).status == 200
    path.write_bytes(content[:100])
    assert (await front.client.head(url)).status == 404
    assert (await front.client.post(url, data=content)).status == 201
    assert path.read_bytes() == content
    assert (await front.client.head(url)).status == 200


async def send_file(front: Front, digest: str, data: object, **headers: str) -> tuple[int, str]:
    """The status and the error of an upload."""
    url = f"/api/blobs/{digest}"
    async with front.client.post(url, data=data, headers=headers) as response:
        text = await response.text()
        return response.status, json.loads(text)["error"] if text else ""


def is_clean(front: Front) -> bool:
    return not list(front.store.root.glob("**/.outrider-*"))


async def test_a_quota_bounds_uploads_creations_and_pulls(tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b"x" * 700

    (tmp_path / "blobs").mkdir(parents=True)
    (tmp_path / "blobs" / "other").write_bytes(b"x" * 9_000)
    async with start_front(tmp_path, max_stored_bytes=11_000) as front:
        told = f"the models folder {tmp_path} may hold 11.0 kB: 9.0 kB are stored, and 2.8 kB are "
        status, error = await send_file(front, ABSENT, b"x" * 2800)
        assert (status, error) == (
            500,
            f"{told}needed for the file; delete models, or raise MAX_STORED",
        )
        status, error = await send_file(front, ABSENT, chunks())
        assert status == 500
        assert "may hold 11.0 kB" in error
        assert is_clean(front)
        content = b"GGUF" * 400
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert await send_file(front, digest, content) == (201, "")
        front.store.blobs.add_bytes(b"y" * 400)
        with pytest.raises(NoSpace, match=r"may hold 11.0 kB: 11.0 kB are stored, and 500 B"):
            front.store.require_quota(500, "the model")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
async def test_a_compressed_file_is_refused(front: Front, encoding: str) -> None:
    """A thousand times as much would be written as was sent."""
    packed = gzip.compress(b"x" * 1_000_000)
    headers = {"Content-Encoding": encoding}
    status, error = await send_file(front, ABSENT, io.BytesIO(packed), **headers)
    assert status == 400
    assert "Content-Encoding" in error or "cannot be read" in error
    assert is_clean(front)


async def test_a_file_that_ends_half_way_leaves_nothing(front: Front) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", front.client.port)
    head = f"POST /api/blobs/{ABSENT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
    writer.write(head.encode() + b"x" * 50_000)
    await writer.drain()
    async with asyncio.timeout(5):
        while is_clean(front):  # noqa: ASYNC110 - nothing tells when it has begun
            await asyncio.sleep(0.005)
        writer.close()
        while not is_clean(front):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert not front.store.blobs.has(ABSENT)
