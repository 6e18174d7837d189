"""What does the API say when the store is short of space, or cannot be read? (CONTRACT 1.15)"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from front import Front, start_front
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
