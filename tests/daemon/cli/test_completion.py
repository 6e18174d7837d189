"""What shells get that ask for completions."""

import asyncio
import time
from collections.abc import Sequence

import pytest
from click.shell_completion import ShellComplete
from outrider.daemon.cli import model_name
from outrider.daemon.cli.command_group import COMMANDS, commands
from outrider.daemon.cli.completion import SHELLS, answer
from scripted import Reply, Scripted

pytestmark = pytest.mark.unit

Capture = pytest.CaptureFixture[str]
TAGS = Reply({"models": [{"name": "gemma:1b"}, {"name": "gemma:4b"}, {"name": "llama:8b"}]})


def shell(name: str) -> ShellComplete:
    return SHELLS[name](commands, {}, "outrider", "_OUTRIDER_COMPLETE")


def values(args: Sequence[str], incomplete: str) -> list[str]:
    return [item.value for item in shell("zsh").get_completions(list(args), incomplete)]


def test_commands_are_completed() -> None:
    assert values([], "p") == ["pull", "push", "ps", "plan"]
    assert values([], "") == list(COMMANDS)


def test_options_and_their_values_are_completed() -> None:
    assert values(["show"], "--l") == ["--license"]
    assert values(["run", "--think"], "h") == ["high"]
    assert values(["completion"], "") == ["bash", "zsh", "fish"]


@pytest.mark.parametrize(
    ("args", "route"),
    [
        (["run"], "GET /api/tags"),
        (["show", "--license"], "GET /api/tags"),
        (["rm", "x"], "GET /api/tags"),
        (["cp"], "GET /api/tags"),
        (["stop"], "GET /api/ps"),
    ],
)
async def test_names_of_models_are_completed(args: list[str], route: str) -> None:
    async with Scripted({route: TAGS}) as daemon:
        found = await asyncio.to_thread(values, ["--host", daemon.url, *args], "gem")
    assert found == ["gemma:1b", "gemma:4b"]


async def test_the_new_names_of_cp_and_create_are_not_completed() -> None:
    async with Scripted({"GET /api/tags": TAGS}) as daemon:
        for args in (["cp", "a"], ["create"]):
            assert await asyncio.to_thread(values, ["--host", daemon.url, *args], "gem") == []


def test_without_a_daemon_nothing_is_completed(unused_tcp_port: int) -> None:
    assert values(["--host", f"127.0.0.1:{unused_tcp_port}", "run"], "") == []


async def test_a_slow_daemon_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_name, "TIMEOUT_S", 0.05)

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(never_answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        start = time.monotonic()
        assert await asyncio.to_thread(values, ["--host", f"127.0.0.1:{port}", "run"], "") == []
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("name", list(SHELLS))
def test_the_code_for_a_shell_names_the_command(name: str, capsys: Capture) -> None:
    assert answer(commands, f"{name}_source") == 0
    assert "_OUTRIDER_COMPLETE=" + name in capsys.readouterr().out


def test_an_unknown_shell() -> None:
    assert (answer(commands, "csh_complete"), answer(commands, "bash_dance")) == (1, 1)


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("outrider ru", "plain,run"),
        ("outrider --host {url} show gem", "plain,gemma:1b\nplain,gemma:4b"),
        ("outrider --host {url} show gemma:", "plain,1b\nplain,4b"),
        ("outrider --host {url} show gemma:4", "plain,4b"),
    ],
)
async def test_bash_gets_what_follows_the_colon(
    line: str, reply: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Scripted({"GET /api/tags": TAGS}) as daemon:
        monkeypatch.setenv("OUTRIDER_LINE", line.format(url=daemon.url))
        assert await asyncio.to_thread(answer, commands, "bash_complete") == 0
    assert capsys.readouterr().out.strip() == reply
