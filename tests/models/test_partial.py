"""Is a file whole or absent, whatever happens to its writer?"""

import subprocess
import sys
from pathlib import Path

import pytest
from outrider.models.partial import Partial, sweep

pytestmark = pytest.mark.unit

WRITER = """
import sys
from pathlib import Path
from outrider.models.partial import Partial
partial = Partial(Path(sys.argv[1]))
partial.write(b"half")
partial.flush()
print("ready", flush=True)
sys.stdin.read()
"""


def test_commit_replaces_the_old_file(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "file"
    for text in (b"old", b"new"):
        with Partial(tmp_path) as partial:
            partial.write(text)
            partial.commit(final)
    assert final.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [tmp_path / "deep"]


def test_mode_is_readable_by_all(tmp_path: Path) -> None:
    with Partial(tmp_path / "made") as partial:
        partial.commit(tmp_path / "file")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o755


def test_digest_and_size_follow_the_writes(tmp_path: Path) -> None:
    with Partial(tmp_path) as partial:
        partial.write(b"hello ")
        partial.write(b"world")
        assert partial.size_bytes == 11
        assert partial.digest.startswith("sha256:b94d27b9934d3e08")


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError), Partial(tmp_path) as partial:
        partial.write("no bytes")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_sweep_spares_the_living_and_takes_the_dead(tmp_path: Path) -> None:
    foreign = tmp_path / ("sha256-" + "0" * 64 + "-partial")
    foreign.write_bytes(b"another program's download")
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with (
        Partial(tmp_path) as own,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other,
    ):
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        sweep(tmp_path)
        assert len(list(tmp_path.iterdir())) == 3
        other.kill()
        other.wait()
        sweep(tmp_path)
        assert set(tmp_path.iterdir()) == {own.path, foreign}
