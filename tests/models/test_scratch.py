"""Do scratch folders go, also those of processes that were killed?"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from outrider.models.lock import locked
from outrider.models.scratch import scratch, sweep

pytestmark = pytest.mark.unit

WRITER = """
import sys
from pathlib import Path
from outrider.models.scratch import scratch
with scratch(Path(sys.argv[1])) as folder:
    (folder.path / "wheel").write_bytes(b"half")
    print("ready", flush=True)
    sys.stdin.read()
"""

PARENT = """
import subprocess, sys
from pathlib import Path
from outrider.models.scratch import scratch
with scratch(Path(sys.argv[1])) as folder:
    print(subprocess.Popen(["sleep", "60"], pass_fds=[folder.lock]).pid, flush=True)
    sys.stdin.read()
"""


def swept(root: Path) -> list[Path]:
    with locked(root):
        sweep(root)
    return list(root.iterdir())


def test_gone_after_the_block(tmp_path: Path) -> None:
    with scratch(tmp_path / "new") as folder:
        (folder.path / "file").write_bytes(b"x")
        assert folder.path.parent == tmp_path / "new"
    assert list((tmp_path / "new").iterdir()) == []


def test_gone_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), scratch(tmp_path):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_sweep_spares_the_living_and_takes_the_dead(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with (
        scratch(tmp_path) as own,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other,
    ):
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        assert len(swept(tmp_path)) == 2
        other.kill()
        other.wait()
        assert swept(tmp_path) == [own.path]


def test_a_child_that_still_writes_keeps_the_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    assert len(swept(tmp_path)) == 1
    os.kill(child, signal.SIGKILL)
    while swept(tmp_path):  # the kernel takes a moment; the suite's time limit ends a failure
        time.sleep(0.01)
