"""What hostile code inside a runner or a rendering process gets: a refusal from the kernel."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hostile
import msgspec
import pytest
from outrider.daemon.protocol import Load
from outrider.daemon.runner.sandbox.support import find_gaps, read_support

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(bool(find_gaps(read_support())), reason="this kernel cannot refuse it all"),
]

HOST_BYTES = 100 << 20
MAX_START_S = 0.05  # 2 ms on an idle core
REFUSALS = {"EPERM", "EACCES"}
# Bounds, and calls that are answered as by a kernel without them.
OTHER_REFUSALS = {
    "much memory": "ENOMEM",
    "large file": "EFBIG",
    "many files": "EMFILE",
    "other system calls": "ENOSYS",
}


class Report(msgspec.Struct):
    took_s: float
    outcomes: dict[str, str]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """A model in a store with another one, and a folder of profiles."""
    root = tmp_path_factory.mktemp("store")
    for name in ("model", "other"):
        (root / name).write_bytes(b"GGUF")
    profile = root / "cache" / "speculation" / "profile.json"
    return Load(
        str(root / "model"),
        num_ctx=64,
        cells=64,
        slots=1,
        batch=32,
        profile=str(profile),
        host_bytes=HOST_BYTES,
    )


@pytest.fixture(scope="module")
def attack(load: Load, tmp_path_factory: pytest.TempPathFactory) -> Iterator[hostile.Attack]:
    home = tmp_path_factory.mktemp("home")
    key = home / ".ollama" / "id_ed25519"
    key.parent.mkdir()
    key.write_text("secret")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as local,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
        subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
        ) as sibling,
    ):
        local.bind(str(home / "socket"))
        local.listen()
        datagrams.bind(str(home / "datagrams"))
        yield hostile.Attack(
            port=server.getsockname()[1],
            unix_socket=str(home / "socket"),
            datagrams=str(home / "datagrams"),
            home=str(home),
            key=str(key),
            other_model=str(Path(load.model).with_name("other")),
            sibling=sibling.pid,
            victim=os.getpid(),
        )
        assert sibling.poll() is None, "the sibling was killed"


def attempt(load: Load, attack: hostile.Attack) -> Report:
    arguments = [msgspec.json.encode(each).decode() for each in (load, attack)]
    command = [sys.executable, "-m", "hostile", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return msgspec.json.decode(done.stdout, type=Report)


def not_refused(report: Report, names: set[str]) -> dict[str, str]:
    return {
        name: outcome
        for name, outcome in report.outcomes.items()
        if name in names
        if outcome not in REFUSALS and outcome != OTHER_REFUSALS.get(name)
    }


def test_a_runner_does_its_work_and_nothing_else(
    load: Load, attack: hostile.Attack, measurements: list[str]
) -> None:
    report = attempt(load, attack)
    duties = set(hostile.duties(load))
    assert {name: report.outcomes[name] for name in duties} == dict.fromkeys(duties, "done")
    assert not_refused(report, set(report.outcomes) - duties) == {}
    assert len(report.outcomes) - len(duties) > 40
    for path in (load.model, attack.other_model):
        assert Path(path).read_bytes() == b"GGUF"
    measurements.append(f"a runner is confined within {report.took_s * 1e3:.1f} ms")
    assert report.took_s < MAX_START_S


def test_a_rendering_process_may_do_less(load: Load, attack: hostile.Attack) -> None:
    report = attempt(load, msgspec.structs.replace(attack, as_renderer=True))
    assert not_refused(report, set(report.outcomes)) == {}
    assert set(hostile.renderer_attempts(load)) <= set(report.outcomes)


def test_without_a_sandbox_all_of_it_would_work(load: Load, attack: hostile.Attack) -> None:
    """So that the other tests fail where nothing is refused."""
    tries = hostile.attempts(load, attack)
    names = ("connect", "connect unix", "datagram", "read key", "read other model", "list home")
    assert {name: hostile.outcome(tries[name]) for name in (*names, "shell")} == dict.fromkeys(
        (*names, "shell"), "done"
    )
