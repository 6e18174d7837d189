"""Every verb against a scripted daemon: what it prints, what it sends, how it ends."""

import asyncio
import io
import os
import sys
from typing import Any

import pytest
from outrider.daemon.cli import entry
from scripted import Lines, Reply, Scripted

pytestmark = pytest.mark.unit

PULL = Lines(
    [
        {"status": "pulling manifest"},
        {"status": "pulling aaaaaaaaaaaa", "digest": "sha256:a", "total": 10, "completed": 10},
        {"status": "success"},
    ]
)
SHOWN = {"details": {"family": "llama"}, "model_info": {}, "license": "MIT\n", "template": ""}
CHUNKS = [
    {"message": {"role": "assistant", "content": "Hel"}, "done": False},
    {"message": {"role": "assistant", "content": "lo"}, "done": False},
    {"message": {"role": "assistant", "content": ""}, "done": True, "total_duration": 2_000_000},
]
CHAT: dict[str, Reply | Lines] = {"POST /api/show": Reply(SHOWN), "POST /api/chat": Lines(CHUNKS)}


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("OUTRIDER_", "OLLAMA_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "stdin", io.StringIO())


async def outrider(daemon: Scripted, *args: str) -> int:
    return await asyncio.to_thread(entry.exit_code, ["--host", daemon.url, *args])


Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("verb", ["list", "ls"])
async def test_list(verb: str, capsys: Capture) -> None:
    models = [{"name": "a:1", "digest": "f" * 64, "size": 98_000_000}, {"name": "b:1"}]
    async with Scripted({"GET /api/tags": Reply({"models": models})}) as daemon:
        assert await outrider(daemon, verb, "a") == 0
    assert capsys.readouterr().out.splitlines() == [
        "NAME    ID              SIZE     MODIFIED",
        "a:1     ffffffffffff    98 MB    -",
    ]


async def test_ps(capsys: Capture) -> None:
    async with Scripted({"GET /api/ps": Reply({"models": []})}) as daemon:
        assert await outrider(daemon, "ps") == 0
    assert capsys.readouterr().out == "NAME    ID    SIZE    PROCESSOR    CONTEXT    UNTIL\n"


async def test_cp(capsys: Capture) -> None:
    async with Scripted({"POST /api/copy": Reply()}) as daemon:
        assert await outrider(daemon, "cp", "a", "b") == 0
    assert daemon.seen == [("POST /api/copy", {"source": "a", "destination": "b"})]
    assert capsys.readouterr().out == "copied 'a' to 'b'\n"


async def test_rm_stops_first(capsys: Capture) -> None:
    script = {"POST /api/generate": Reply({"done": True}), "DELETE /api/delete": Reply()}
    async with Scripted(script) as daemon:
        assert await outrider(daemon, "rm", "a", "b") == 0
    stop = {"model": "a", "keep_alive": 0, "stream": False}
    assert daemon.seen[:2] == [
        ("POST /api/generate", stop),
        ("DELETE /api/delete", {"model": "a"}),
    ]
    assert capsys.readouterr().out == "deleted 'a'\ndeleted 'b'\n"


async def test_rm_deletes_a_damaged_model_which_cannot_be_stopped(capsys: Capture) -> None:
    script = {
        "POST /api/generate": Reply({"error": "model 'a' is damaged; remove it"}, status=500),
        "DELETE /api/delete": Reply(),
    }
    async with Scripted(script) as daemon:
        assert await outrider(daemon, "rm", "a") == 0
    assert daemon.seen[-1] == ("DELETE /api/delete", {"model": "a"})
    assert capsys.readouterr() == ("deleted 'a'\n", "")


async def test_rm_of_an_unknown_model_fails(capsys: Capture) -> None:
    async with Scripted({}) as daemon:
        assert await outrider(daemon, "rm", "x") == 1
    assert capsys.readouterr() == ("", "Error: model 'x' not found\n")


async def test_stop(capsys: Capture) -> None:
    async with Scripted({"POST /api/generate": Reply({"done": True})}) as daemon:
        assert await outrider(daemon, "stop", "a") == 0
    async with Scripted({}) as daemon:
        assert await outrider(daemon, "stop", "x") == 1
    assert capsys.readouterr() == ("", 'Error: couldn\'t find model "x" to stop\n')


async def test_show(capsys: Capture) -> None:
    async with Scripted(CHAT) as daemon:
        assert await outrider(daemon, "show", "m") == 0
        assert await outrider(daemon, "show", "--license", "m") == 0
        assert await outrider(daemon, "show", "--template", "m") == 0
    assert capsys.readouterr().out == (
        "  Model\n    architecture    llama\n\n  License\n    MIT\nMIT\n\n"
    )


async def test_show_takes_one_part(capsys: Capture) -> None:
    async with Scripted({}) as daemon:
        assert await outrider(daemon, "show", "m", "--system", "--license") == 1
    assert capsys.readouterr().err.startswith(
        "Error: only one of '--license', '--modelfile', '--parameters', '--system', "
        "or '--template' can be specified"
    )


async def test_pull(capsys: Capture) -> None:
    async with Scripted({"POST /api/pull": PULL}) as daemon:
        assert await outrider(daemon, "pull", "m") == 0
    assert daemon.seen == [("POST /api/pull", {"model": "m", "insecure": False})]
    assert capsys.readouterr() == ("", "pulling manifest\npulling aaaaaaaaaaaa\nsuccess\n")


async def test_pull_that_fails(capsys: Capture) -> None:
    error = {"error": "pull model manifest: file does not exist"}
    lines = Lines([{"status": "pulling manifest"}, error])
    async with Scripted({"POST /api/pull": lines}) as daemon:
        assert await outrider(daemon, "pull", "m") == 1
    text = "pulling manifest\nError: pull model manifest: file does not exist\n"
    assert capsys.readouterr() == ("", text)


async def test_run_answers_a_prompt(capsys: Capture) -> None:
    async with Scripted(CHAT) as daemon:
        assert await outrider(daemon, "run", "m", "say", "hello", "--verbose") == 0
    messages = [{"role": "user", "content": "say hello"}]
    assert daemon.bodies("POST /api/chat") == [{"model": "m", "messages": messages}]
    assert capsys.readouterr() == ("Hello\n", "total duration:       2ms\n")


async def test_run_adds_stdin_to_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("a text\n"))
    async with Scripted(CHAT) as daemon:
        assert await outrider(daemon, "run", "m", "sum up:") == 0
    assert daemon.bodies("POST /api/chat")[0]["messages"][0]["content"] == "sum up:\na text"


@pytest.mark.parametrize(
    ("args", "sent"),
    [
        (["--think"], {"think": True}),
        (["--think=false"], {"think": False}),
        (["--think=high"], {"think": "high"}),
        (["--format", "json"], {"format": "json"}),
        (["--format", '{"type": "object"}'], {"format": {"type": "object"}}),
        (["--keepalive", "10m"], {"keep_alive": "10m"}),
        (["--keepalive", "-1"], {"keep_alive": -1}),
        (["--nowordwrap", "--hidethinking"], {}),
    ],
)
async def test_run_sends_its_options(args: list[str], sent: dict[str, Any]) -> None:
    async with Scripted(CHAT) as daemon:
        assert await outrider(daemon, "run", *args, "m", "hi") == 0
    messages = [{"role": "user", "content": "hi"}]
    assert daemon.bodies("POST /api/chat") == [{"model": "m", "messages": messages, **sent}]


async def test_after_two_dashes_everything_is_prompt() -> None:
    async with Scripted(CHAT) as daemon:
        assert await outrider(daemon, "run", "m", "--", "--think") == 0
    assert daemon.bodies("POST /api/chat")[0]["messages"][0]["content"] == "--think"


async def test_run_without_a_prompt_loads(capsys: Capture) -> None:
    script = {**CHAT, "POST /api/generate": Reply({"done": True})}
    async with Scripted(script) as daemon:
        assert await outrider(daemon, "run", "m", "--keepalive", "1h") == 0
    load = {"model": "m", "options": {}, "stream": False, "keep_alive": "1h"}
    assert daemon.bodies("POST /api/generate") == [load]
    assert capsys.readouterr() == ("", "")


async def test_run_fetches_a_missing_model(capsys: Capture) -> None:
    missing = Reply({"error": "model 'm' not found"}, 404)
    script = {**CHAT, "POST /api/show": [missing, Reply(SHOWN)], "POST /api/pull": PULL}
    async with Scripted(script) as daemon:
        assert await outrider(daemon, "run", "m", "hi") == 0
    calls = ["POST /api/show", "POST /api/pull", "POST /api/show", "POST /api/chat"]
    assert [call for call, _ in daemon.seen] == calls
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[-1]) == ("Hello\n", "success")


async def test_run_that_fails_midway_keeps_what_came(capsys: Capture) -> None:
    lines = Lines([CHUNKS[0], {"error": "model runner has unexpectedly stopped"}])
    async with Scripted({**CHAT, "POST /api/chat": lines}) as daemon:
        assert await outrider(daemon, "run", "m", "hi") == 1
    text = "Error: model runner has unexpectedly stopped\n"
    assert capsys.readouterr() == ("Hel\n", text)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["frobnicate"], "No such command 'frobnicate'; see 'outrider --help'"),
        (["show"], "Missing argument 'MODEL'; see 'outrider show --help'"),
        (["run", "m", "--format", "{"], '--format takes "json" or a JSON schema'),
        (["run", "m", "--think=deep"], "'deep' is not one of"),
        (["serve", "--port", "many"], "'many' is not a valid integer"),
    ],
)
async def test_wrong_use_is_one_line_and_ends_with_1(
    args: list[str], text: str, capsys: Capture
) -> None:
    assert await asyncio.to_thread(entry.exit_code, args) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Error: ")
    assert text in err
    assert err.count("\n") == 1


async def test_no_daemon(capsys: Capture, unused_tcp_port: int) -> None:
    args = ["--host", f"127.0.0.1:{unused_tcp_port}", "list"]
    assert await asyncio.to_thread(entry.exit_code, args) == 1
    assert "start it with 'outrider serve'" in capsys.readouterr().err


async def test_the_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Scripted({"GET /api/ps": Reply({"models": []})}) as daemon:
        monkeypatch.setenv("OUTRIDER_HOST", daemon.url)
        assert await asyncio.to_thread(entry.exit_code, ["ps"]) == 0


async def test_a_setting_that_cannot_be_used(capsys: Capture) -> None:
    assert await asyncio.to_thread(entry.exit_code, ["serve", "--num-parallel", "65"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Error: NUM_PARALLEL=65: ")
    assert err.count("\n") == 1


async def test_version(capsys: Capture) -> None:
    script = {"GET /api/version": Reply({"version": "0.33.0"}, headers={"Outrider-Version": "9"})}
    async with Scripted(script) as daemon:
        assert await outrider(daemon, "--version") == 0
    out, err = capsys.readouterr()
    assert out == "outrider version is 9\n"
    assert err.startswith("Warning: client version is ")


async def test_version_needs_no_daemon(capsys: Capture, unused_tcp_port: int) -> None:
    args = ["--host", f"127.0.0.1:{unused_tcp_port}", "--version"]
    assert await asyncio.to_thread(entry.exit_code, args) == 0
    out, err = capsys.readouterr()
    assert out.startswith("outrider version is ")
    assert err == "Warning: could not connect to a running Outrider daemon\n"


async def test_what_nobody_expected_is_one_line_too(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    nameless = Reply({"models": [{"digest": "f"}]})
    async with Scripted({"GET /api/tags": nameless}) as daemon:
        assert await outrider(daemon, "list") == 1
        err = capsys.readouterr().err
        assert err == (
            "Error: unexpected KeyError: 'name': please report this; "
            "run with OUTRIDER_DEBUG=1 for the traceback\n"
        )
        monkeypatch.setenv("OUTRIDER_DEBUG", "1")
        assert await outrider(daemon, "list") == 1
    assert "Traceback" in capsys.readouterr().err
