"""Does an unfinished download know after a restart what it has?"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from outrider.models.sources.resumable import (
    ResumableFile,
    download_path,
    kept_bytes,
    sweep_downloads,
)

pytestmark = pytest.mark.unit

DATA = bytes(range(250))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return download_path(tmp_path / "blobs", "ab")


def opened(path: Path, size_bytes: int = len(DATA)) -> ResumableFile:
    file = ResumableFile.lock(path)
    assert file
    file.plan(size_bytes, 100)
    return file


def fill(file: ResumableFile, *parts: int) -> None:
    for part in (file.parts[index] for index in parts):
        content = DATA[part.position : part.start + part.size_bytes]
        file.write(part, [content[:30], b"", content[30:]])


def test_it_goes_on_where_it_was(path: Path) -> None:
    file = opened(path)
    assert not file.was_resumed
    fill(file, 2)
    file.write(file.parts[0], [DATA[:7]])
    file.close()

    file = opened(path)
    assert file.was_resumed
    assert [part.done_bytes for part in file.parts] == [7, 0, 50]
    assert file.hash_on(1000) == 7
    fill(file, 0, 1)
    assert file.hash_on(1000) == 243
    assert file.digest == f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    file.finish()
    final = path.with_name("final")
    file.commit(final)
    file.close()
    assert final.read_bytes() == DATA
    assert not path.exists()


def test_one_that_was_finished_but_not_renamed(path: Path) -> None:
    file = opened(path)
    fill(file, 0, 1, 2)
    file.finish()
    file.close()
    file = opened(path)
    assert file.done_bytes == len(DATA)
    file.hash_on(1000)
    assert file.digest == f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    file.close()


@pytest.mark.parametrize("damage", [b"", b"x" * 500, DATA + b"outrider" + bytes(60)])
def test_what_cannot_be_understood_is_begun_anew(path: Path, damage: bytes) -> None:
    opened(path).close()
    path.write_bytes(damage)
    file = opened(path)
    assert (file.done_bytes, file.was_resumed) == (0, False)
    file.close()


def test_another_size_is_another_content(path: Path) -> None:
    file = opened(path)
    fill(file, 0)
    file.close()
    file = opened(path, len(DATA) + 1)
    assert file.done_bytes == 0
    file.close()


def test_nothing_at_all_has_a_digest_too(path: Path) -> None:
    file = opened(path, 0)
    file.hash_on(1)
    assert file.digest == f"sha256:{hashlib.sha256().hexdigest()}"
    file.finish()
    file.close()
    assert path.read_bytes() == b""


def test_a_part_that_is_dropped_is_hashed_anew(path: Path) -> None:
    file = opened(path)
    file.write(file.parts[0], [b"?" * 40])
    file.hash_on(1000)
    file.forget(file.parts[0])
    fill(file, 0, 1, 2)
    file.hash_on(1000)
    assert file.digest == f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    file.close()


def test_only_one_holds_it(path: Path) -> None:
    file = opened(path)
    assert ResumableFile.lock(path) is None
    file.close()
    again = ResumableFile.lock(path)
    assert again
    again.close()


def test_abandoned_downloads_are_removed(path: Path, tmp_path: Path) -> None:
    blobs = path.parent
    held = opened(path)
    for name in ("old", "kept", "new"):
        opened(download_path(blobs, name)).close()
    for name in ("ab", "old", "kept"):
        os.utime(download_path(blobs, name), (0, 0))
    sweep_downloads(blobs, keep={download_path(blobs, "kept")})
    left = {file.name for file in blobs.iterdir()}
    assert left == {download_path(blobs, name).name for name in ("ab", "kept", "new")}
    held.close()
    sweep_downloads(blobs, older_than_s=0.0)
    assert list(blobs.iterdir()) == []


def test_what_it_takes_on_the_disk(path: Path) -> None:
    assert kept_bytes(path) == 0
    file = opened(path, 1 << 20)
    file.write(file.parts[0], [b"x" * 100])
    assert 0 < kept_bytes(path) < 200_000  # sparse, but for the trailer of ten thousand parts
    file.close()
