"""Do files go that nobody needs, and only those?"""

import fcntl
import os
from pathlib import Path

import pytest
from outrider.models.prune import BLOB_AGE_S, PARTIAL_AGE_S, BlobFile, plan_pruning, prune_blobs

pytestmark = pytest.mark.unit

ONE, TWO, THREE = (f"sha256-{digit * 64}" for digit in "123")
OLD, NEW = BLOB_AGE_S + 1, BLOB_AGE_S - 1


def planned(ages: dict[str, float], *used: str) -> set[str]:
    files = [BlobFile(name, age_s) for name, age_s in ages.items()]
    return {file.name for file in plan_pruning(files, set(used))}


def test_old_blobs_go_that_no_manifest_names() -> None:
    assert planned({ONE: OLD, TWO: OLD, THREE: NEW}, ONE) == {TWO}


def test_the_former_spelling_of_a_name_counts() -> None:
    assert planned({ONE.replace("-", ":"): OLD, TWO.replace("-", ":"): OLD}, ONE) == {
        TWO.replace("-", ":")
    }


@pytest.mark.parametrize("name", [".DS_Store", "README", "sha256-12", f"{ONE}.bak", "Thumbs.db"])
def test_other_files_stay(name: str) -> None:
    assert planned({name: 10 * PARTIAL_AGE_S}) == set()


def test_blobs_stay_while_another_program_downloads() -> None:
    """Its finished layers have no manifest before the last one is there."""
    assert planned({ONE: OLD, f"{TWO}-partial": NEW, f"{TWO}-partial-3": NEW}) == set()
    assert planned({ONE: OLD, f"{TWO}-partial": OLD}) == {ONE}


def test_a_download_goes_as_a_whole_once_its_newest_part_is_old() -> None:
    data, part = f"{ONE}-partial", f"{ONE}-partial-0"
    assert planned({data: 2 * PARTIAL_AGE_S, part: PARTIAL_AGE_S - 1}) == set()
    assert planned({data: 2 * PARTIAL_AGE_S, part: PARTIAL_AGE_S}) == {data, part}


def test_files_are_removed_and_counted(tmp_path: Path) -> None:
    for name, size_bytes in ((ONE, 10), (TWO, 20), (f"{THREE}-partial", 5)):
        (tmp_path / name).write_bytes(bytes(size_bytes))
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / "folder").mkdir()
    pruned = prune_blobs(tmp_path, {ONE})
    assert (pruned.num_files, pruned.size_bytes) == (2, 25)
    assert {path.name for path in tmp_path.iterdir()} == {ONE, "folder"}


def test_a_file_that_a_living_process_writes_stays(tmp_path: Path) -> None:
    path = tmp_path / f"{ONE}-partial"
    path.touch()
    os.utime(path, (0, 0))
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert prune_blobs(tmp_path, set()).num_files == 0
    assert prune_blobs(tmp_path, set()).num_files == 1


def test_a_link_is_nobodys_blob(tmp_path: Path) -> None:
    (tmp_path / ONE).symlink_to(tmp_path / "elsewhere")
    assert prune_blobs(tmp_path / "missing", set()).num_files == 0
    assert prune_blobs(tmp_path, set()).num_files == 0
