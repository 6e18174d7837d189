"""The `outrider` command as a process: signals, pipes, a real terminal, what it imports."""

import asyncio
import os
import pty
import signal
import sys
from pathlib import Path
from typing import Self

import pytest
from scripted import Lines, Reply, Scripted

pytestmark = pytest.mark.contract

SHOWN = {"details": {"family": "llama"}, "model_info": {}}
CHUNK = {"message": {"role": "assistant", "content": "Hel"}, "done": False}
CHAT: dict[str, Reply | Lines] = {"POST /api/show": Reply(SHOWN)}

PIPE = asyncio.subprocess.PIPE


async def process(daemon: Scripted, *args: str, stdout: int = PIPE) -> asyncio.subprocess.Process:
    code = "from outrider.daemon.cli.entry import main; main()"
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, "--host", daemon.url, *args),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout,
        stderr=PIPE,
    )


async def test_ctrl_c_ends_with_130_and_closes_the_connection() -> None:
    chat = Lines([CHUNK], ending="hang")
    async with Scripted({**CHAT, "POST /api/chat": chat}) as daemon:
        child = await process(daemon, "run", "m", "hi")
        assert child.stdout
        assert await child.stdout.read(3) == b"Hel"
        child.send_signal(signal.SIGINT)
        _, err = await child.communicate()
        await daemon.dropped.wait()
    assert child.returncode == 130
    assert err.strip() == b""


async def test_a_reader_that_went_away_is_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    async with Scripted({"GET /api/tags": Reply({"models": []})}) as daemon:
        child = await process(daemon, "list", stdout=writing)
        os.close(writing)
        _, err = await child.communicate()
    assert (child.returncode, err) == (1, b"")


async def test_characters_that_stdout_cannot_show_are_replaced() -> None:
    lone = {"message": {"role": "assistant", "content": "a\ud83db"}, "done": True}
    async with Scripted({**CHAT, "POST /api/chat": Lines([lone])}) as daemon:
        child = await process(daemon, "run", "m", "hi")
        out, err = await child.communicate()
    assert (child.returncode, out, err) == (0, b"a?b\n", b"")


async def test_it_starts_without_the_engine() -> None:
    code = "import sys, outrider.daemon.cli.entry; print(*sys.modules)"
    child = await asyncio.create_subprocess_exec(*(sys.executable, "-c", code), stdout=PIPE)
    out, _ = await child.communicate()
    assert not {"llama_cpp", "gguf", "numpy", "outrider.daemon.app"} & set(out.decode().split())


class Terminal:
    """`outrider run m` in a pseudo terminal of its own."""

    CODE = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from outrider.daemon.cli.entry import main
main()
"""

    def __init__(self, daemon: Scripted, state_home: Path) -> None:
        self._command = (sys.executable, "-c", self.CODE, "--host", daemon.url, "run", "m")
        self._state_home = state_home

    async def __aenter__(self) -> Self:
        self._keys, screen = pty.openpty()
        self._child = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=screen,
            stdout=screen,
            stderr=screen,
            env={**os.environ, "XDG_STATE_HOME": str(self._state_home), "TERM": "dumb"},
            start_new_session=True,
        )
        os.close(screen)
        return self

    async def __aexit__(self, *_: object) -> None:
        os.close(self._keys)
        if self._child.returncode is None:
            self._child.kill()
        await self._child.wait()

    def press(self, keys: str) -> None:
        os.write(self._keys, keys.encode())

    async def interrupt(self) -> None:
        """Ctrl-C at a prompt; Readline misses one that arrives just before it waits for keys."""
        await asyncio.sleep(0.3)
        self.press("\x03")

    async def until(self, text: str) -> str:
        """The output up to and including this text."""
        shown = ""
        while text not in shown:
            shown += (await asyncio.to_thread(os.read, self._keys, 4096)).decode()
        return shown

    async def exit_code(self) -> int:
        return await self._child.wait()


async def test_ctrl_c_stops_only_the_answer_and_ctrl_d_leaves(tmp_path: Path) -> None:
    first_line = {"message": {"role": "assistant", "content": "Hello frie"}}
    script = {
        **CHAT,
        "POST /api/generate": Reply({"done": True}),
        "POST /api/chat": Lines([first_line], ending="hang"),
    }
    async with Scripted(script) as daemon, Terminal(daemon, tmp_path) as terminal:
        await terminal.until(">>> ")
        terminal.press("hi\r")
        await terminal.until("Hello ")
        terminal.press("\x03")
        await daemon.dropped.wait()
        assert "frie" in await terminal.until(">>> ")
        await terminal.interrupt()
        assert "Use Ctrl-D or /bye to leave." in await terminal.until(">>> ")
        terminal.press("more\r")
        await terminal.until("Hello ")
        terminal.press("\x03")
        await terminal.until(">>> ")
        terminal.press("\x04")
        assert await terminal.exit_code() == 0
    second = daemon.bodies("POST /api/chat")[1]
    texts = [(message["role"], message["content"]) for message in second["messages"]]
    assert texts == [("user", "hi"), ("assistant", "Hello frie"), ("user", "more")]
    assert (tmp_path / "outrider" / "history").read_text() == "hi\nmore\n"


class AskingTerminal(Terminal):
    """Asks whether a tool call is made, as the toolbox does, then reads the next line."""

    CODE = """
import asyncio, fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from outrider.daemon.cli.mcp_servers import McpToolbox
from outrider.daemon.cli.run import ask
async def call():
    toolbox = McpToolbox((), ask)
    toolbox._owners["f"] = object()
    print(await toolbox.call({"function": {"name": "f", "arguments": {}}}))
with asyncio.Runner() as runner:
    try:
        runner.run(call())
    except KeyboardInterrupt:
        print("interrupted")
    print("read:", input("next>"))
"""


@pytest.mark.parametrize(
    ("key", "expected"),
    [("\x03", "interrupted"), ("\x04", "interrupted"), ("n\r", "The user declined this call.")],
)
async def test_ctrl_c_at_the_question_of_a_call_swallows_no_line(
    tmp_path: Path, key: str, expected: str
) -> None:
    async with Scripted({}) as daemon, AskingTerminal(daemon, tmp_path) as terminal:
        await terminal.until("Call f {}? [Y/n]: ")
        await asyncio.sleep(0.3)
        terminal.press(key)
        assert expected in await terminal.until("next>")
        terminal.press("hello\r")
        await terminal.until("read: hello")
        assert await terminal.exit_code() == 0
