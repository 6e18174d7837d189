"""The stderr of a runner, whatever it writes there."""

from __future__ import annotations

import asyncio

import pytest
from outrider.daemon.runners.process import runner_environment
from outrider.daemon.runners.stderr_lines import LEFT_OUT, stderr_lines

pytestmark = pytest.mark.unit


async def test_a_line_beyond_the_buffer_does_not_end_the_reading() -> None:
    stream = asyncio.StreamReader(limit=8192)
    stream.feed_data(b"first\n" + b"x" * 9000 + b"\nsecond \xff\r\n" + b"y" * 5000 + b"\nlast")
    stream.feed_eof()
    lines = [line async for line in stderr_lines(stream)]
    assert lines[0] == "first"
    assert lines[1] == LEFT_OUT
    assert lines[2] == "second \ufffd"
    assert lines[3] == "y" * 2000 + "... (5000 characters)"
    assert lines[4] == "last"


def test_a_runner_is_not_told_the_keys_of_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OUTRIDER_API_KEY", "OLLAMA_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "secret-12345")
    monkeypatch.setenv("OUTRIDER_DEBUG", "1")
    environment = runner_environment({"OMP_PLACES": "cores"})
    assert "secret-12345" not in environment.values()
    assert (environment["OUTRIDER_DEBUG"], environment["OMP_PLACES"]) == ("1", "cores")
