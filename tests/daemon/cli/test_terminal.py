"""The `outrider` command as a process: signals, pipes, a real terminal, what it imports."""

import asyncio
import os
import pty
import select
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

PATIENCE_S = 20.0  # until something is shown, also on a busy machine
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

    def __init__(self, daemon: Scripted, state_home: Path, **variables: str) -> None:
        self._command = (sys.executable, "-c", self.CODE, "--host", daemon.url, "run", "m")
        own = {"XDG_STATE_HOME": str(state_home), "TERM": "dumb", "PROMPT_TOOLKIT_NO_CPR": "1"}
        self._environment = {**os.environ, **own, **variables}
        self._shown = ""

    async def __aenter__(self) -> Self:
        self._keys, screen = pty.openpty()
        self._child = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=screen,
            stdout=screen,
            stderr=screen,
            env=self._environment,
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
        """The further output up to and including this text."""
        while text not in self._shown:
            ready, _, _ = await asyncio.to_thread(select.select, [self._keys], [], [], PATIENCE_S)
            assert ready, f"waited for {text!r} after {self._shown!r}"
            self._shown += os.read(self._keys, 4096).decode(errors="replace")
        before, _, self._shown = self._shown.partition(text)
        return before + text

    async def exit_code(self) -> int:
        return await self._child.wait()


HELLO = {"message": {"role": "assistant", "content": "Hello"}, "done": True}
EDITED: dict[str, Reply | Lines] = {
    **CHAT,
    "POST /api/generate": Reply({"done": True}),
    "POST /api/chat": Lines([HELLO]),
}


def editing(daemon: Scripted, state_home: Path, **variables: str) -> Terminal:
    """A terminal that can move the cursor, so that lines are edited in it."""
    return Terminal(daemon, state_home, TERM="xterm", **variables)


def contents(daemon: Scripted) -> list[str]:
    """The last message of each request."""
    return [body["messages"][-1]["content"] for body in daemon.bodies("POST /api/chat")]


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


async def test_ctrl_c_and_ctrl_d_in_the_line_editor(tmp_path: Path) -> None:
    words = {"message": {"role": "assistant", "content": "Hello frie"}}
    script = {**EDITED, "POST /api/chat": Lines([words], ending="hang")}
    async with Scripted(script) as daemon, editing(daemon, tmp_path) as terminal:
        await terminal.until("Send a message (/? for help)")
        terminal.press("hi\r")
        await terminal.until("Hello")
        terminal.press("\x03")
        await daemon.dropped.wait()
        await terminal.until("Send a message")
        terminal.press("half\x03")
        assert "Use Ctrl-D or /bye to leave." in await terminal.until("Send a message")
        terminal.press("\x04")
        assert await terminal.exit_code() == 0
    assert [body["messages"][0]["content"] for body in daemon.bodies("POST /api/chat")] == ["hi"]
    assert (tmp_path / "outrider" / "history").read_text() == "hi\n"


async def test_a_message_of_several_lines_is_edited_as_one(tmp_path: Path) -> None:
    async with Scripted(EDITED) as daemon, editing(daemon, tmp_path) as terminal:
        await terminal.until("Send a message")
        terminal.press('"""one\r')
        await terminal.until("...")
        terminal.press('two"""\r')
        await terminal.until("Send a message")
        terminal.press("\x1b[200~three\nfour\x1b[201~\r")
        await terminal.until("Send a message")
        terminal.press("/bye\r")
        assert await terminal.exit_code() == 0
    assert contents(daemon) == ["one\ntwo", "three\nfour"]
    history = (tmp_path / "outrider" / "history").read_text()
    assert history == '"""one\ntwo"""\n"""three\nfour"""\n/bye\n'


async def test_the_history_is_that_of_earlier_sessions(tmp_path: Path) -> None:
    file = tmp_path / "outrider" / "history"
    file.parent.mkdir()
    file.write_text('first\n"""a\nb"""\n')
    async with Scripted(EDITED) as daemon, editing(daemon, tmp_path) as terminal:
        await terminal.until("Send a message")
        terminal.press("\x1b[A\r")
        await terminal.until("Send a message")
        terminal.press("/set nohistory\r")
        await terminal.until("Send a message")
        terminal.press("secret\r")
        await terminal.until("Send a message")
        terminal.press("\x04")
        assert await terminal.exit_code() == 0
    assert contents(daemon) == ["a\nb", "secret"]
    assert "secret" not in file.read_text()


async def test_the_tabulator_completes_commands_and_names(tmp_path: Path) -> None:
    script = {**EDITED, "GET /api/tags": Reply({"models": [{"name": "gemma:1b"}]})}
    async with Scripted(script) as daemon, editing(daemon, tmp_path) as terminal:
        await terminal.until("Send a message")
        terminal.press("/set parameter temp\t")
        await terminal.until("erature")
        terminal.press(" 0.5\r")
        await terminal.until("Send a message")
        terminal.press("/load ge\t")
        await terminal.until("mma:1b")
        terminal.press("\r")
        await terminal.until("Send a message")
        terminal.press("hi\r")
        await terminal.until("Send a message")
        terminal.press("\x04")
        assert await terminal.exit_code() == 0
    (body,) = daemon.bodies("POST /api/chat")
    assert (body["model"], body["options"]) == ("gemma:1b", {"temperature": 0.5})


async def test_ctrl_g_opens_an_editor(tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nprintf "edited %s" "$(cat "$1")" > "$1"\n')
    editor.chmod(0o755)
    async with (
        Scripted(EDITED) as daemon,
        editing(daemon, tmp_path, OLLAMA_EDITOR=str(editor)) as terminal,
    ):
        await terminal.until("Send a message")
        terminal.press("text\x07")
        await terminal.until("ed text")  # the editor draws what has changed
        terminal.press("\r")
        await terminal.until("Send a message")
        terminal.press("\x04")
        assert await terminal.exit_code() == 0
    assert contents(daemon) == ["edited text"]


async def test_bash_completes_the_names_of_models(tmp_path: Path) -> None:
    command = tmp_path / "outrider"
    main = "from outrider.daemon.cli.entry import main; main()"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{main}" "$@"\n')
    command.chmod(0o755)
    script = """
eval "$(outrider completion bash)"
COMP_LINE="outrider show gemma:4" COMP_POINT=21 COMP_WORDS=(outrider show gemma : 4) COMP_CWORD=4
_outrider_completion outrider 4 :
echo "${COMPREPLY[*]}"
"""
    models = {"models": [{"name": "gemma:4b"}, {"name": "gemma:4b-q8"}, {"name": "llama:8b"}]}
    async with Scripted({"GET /api/tags": Reply(models)}) as daemon:
        path = f"{tmp_path}:{os.environ['PATH']}"
        child = await asyncio.create_subprocess_exec(
            *("bash", "-c", script),
            env={**os.environ, "PATH": path, "OUTRIDER_HOST": daemon.url},
            stdout=PIPE,
        )
        out, _ = await child.communicate()
    assert out == b"4b 4b-q8\n"


async def test_the_list_of_commands_needs_neither_client_nor_settings() -> None:
    code = "import sys; from outrider.daemon.cli.entry import exit_code; exit_code(['--help'])"
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", f"{code}; print(*sys.modules, file=sys.stderr)"),
        stdout=PIPE,
        stderr=PIPE,
    )
    _, modules = await child.communicate()
    slow = {"aiohttp", "asyncio", "pydantic", "prompt_toolkit", "mcp", "outrider.models"}
    assert not slow & set(modules.decode().split())


async def test_a_list_needs_no_line_editor() -> None:
    code = "import sys; import outrider.daemon.cli.list_commands; print(*sys.modules)"
    child = await asyncio.create_subprocess_exec(*(sys.executable, "-c", code), stdout=PIPE)
    out, _ = await child.communicate()
    slow = {"aiohttp.web", "prompt_toolkit", "mcp", "outrider.models", "llama_cpp"}
    assert not slow & set(out.decode().split())


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
