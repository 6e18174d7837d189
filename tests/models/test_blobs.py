"""Does a blob lie where its content says, complete and once?"""

import hashlib
import io
from pathlib import Path

import pytest
from outrider.models.blobs import Blob, Blobs, copy
from outrider.models.errors import DigestMismatch, InvalidDigest

pytestmark = pytest.mark.unit

DATA = b"weights" * 400_000  # several chunks
DIGEST = "sha256:" + hashlib.sha256(DATA).hexdigest()
OTHER = "sha256:" + "0" * 64


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def test_path_takes_both_digest_forms(blobs: Blobs) -> None:
    path = blobs.root / DIGEST.replace(":", "-")
    assert blobs.path(DIGEST) == blobs.path(DIGEST.replace(":", "-")) == path
    assert blobs.path("sha256:" + "AB" * 32) == blobs.root / ("sha256-" + "ab" * 32)


@pytest.mark.parametrize("digest", ["", "../x", "sha256:../../x", "sha256:" + "a" * 63])
def test_path_never_leaves_the_folder(blobs: Blobs, digest: str) -> None:
    with pytest.raises(InvalidDigest):
        blobs.path(digest)


def test_nothing_is_made_by_asking(blobs: Blobs) -> None:
    assert not blobs.has(DIGEST)
    assert not blobs.root.exists()


def test_add_bytes(blobs: Blobs) -> None:
    blob = blobs.add_bytes(DATA)
    assert blob == Blob(DIGEST, len(DATA))
    assert blobs.path(DIGEST).read_bytes() == DATA
    assert blobs.has(DIGEST)
    assert blobs.has(DIGEST, len(DATA))
    assert not blobs.has(DIGEST, len(DATA) - 1)
    assert list(blobs.root.iterdir()) == [blobs.path(DIGEST)]


def test_copy_tells_its_progress(blobs: Blobs) -> None:
    chunks: list[int] = []
    with blobs.partial() as partial:
        copy(io.BytesIO(DATA), partial, chunks.append)
        assert blobs.commit(partial, expect=DIGEST) == Blob(DIGEST, len(DATA))
    assert sum(chunks) == len(DATA)
    assert len(chunks) > 1


def test_mismatch_keeps_nothing(blobs: Blobs) -> None:
    with blobs.partial() as partial:
        partial.write(DATA)
        with pytest.raises(DigestMismatch) as caught:
            blobs.commit(partial, expect=OTHER)
    assert str(caught.value) == f'digest mismatch, expected "{OTHER}", got "{DIGEST}"'
    assert list(blobs.root.iterdir()) == []


def test_an_upper_case_expectation_is_met(blobs: Blobs) -> None:
    with blobs.partial() as partial:
        partial.write(DATA)
        blobs.commit(partial, expect="sha256-" + DIGEST[7:].upper())
    assert blobs.has(DIGEST)


def test_a_present_blob_is_left_alone_and_a_truncated_one_repaired(blobs: Blobs) -> None:
    blobs.add_bytes(DATA)
    inode = blobs.path(DIGEST).stat().st_ino
    blobs.add_bytes(DATA)
    assert blobs.path(DIGEST).stat().st_ino == inode
    blobs.path(DIGEST).write_bytes(DATA[:10])
    blobs.add_bytes(DATA)
    assert blobs.path(DIGEST).read_bytes() == DATA
