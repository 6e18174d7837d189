"""The facts of CONTRACT 10, one by one, against a scripted daemon."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from outrider.daemon.cli import entry, environment
from outrider.daemon.cli.command_group import ALIASES, COMMANDS, LazyGroup, commands
from scripted import Lines, Reply, Scripted

pytestmark = pytest.mark.unit

Capture = pytest.CaptureFixture[str]
Script = dict[str, Reply | Lines | Sequence[Reply | Lines]]

CHAT = Lines([{"message": {"role": "assistant", "content": "Hi."}, "done": True}])
SHOWN = {"details": {}, "model_info": {}, "capabilities": ["completion"]}
EMBEDDER = {**SHOWN, "capabilities": ["embedding"]}
VECTOR = Reply({"embeddings": [[0.5, -0.25]]})
SUCCESS = Lines([{"status": "success"}])
FLAGS = {
    "serve": (),
    "create": ("-f", "--file"),
    "show": ("--license", "--modelfile", "--parameters", "--template", "--system", "-v"),
    "run": (
        *("--keepalive", "--verbose", "--insecure", "--nowordwrap", "--format", "--think"),
        *("--hidethinking", "--truncate", "--dimensions"),
    ),
    "pull": ("--insecure",),
    "push": ("--insecure",),
    **dict.fromkeys(("stop", "list", "ps", "cp", "rm", "signin", "signout", "help"), ()),
}


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("OUTRIDER_", "OLLAMA_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "stdin", io.StringIO())


async def outrider(daemon: Scripted, *args: str) -> int:
    return await asyncio.to_thread(entry.exit_code, ["--host", daemon.url, *args])


def help_of(command: str, capsys: Capture) -> str:
    assert entry.exit_code(["help", command]) == 0
    text = capsys.readouterr().out
    assert entry.exit_code([command, "-h"]) == 0
    assert capsys.readouterr().out == text
    return text


@pytest.mark.parametrize("command", FLAGS)
def test_10_1_every_command_has_its_flags(command: str, capsys: Capture) -> None:
    text = help_of(command, capsys)
    assert [flag for flag in FLAGS[command] if flag not in text] == []


def test_10_1_the_list_of_commands_repeats_what_the_commands_say() -> None:
    assert isinstance(commands, LazyGroup)
    with commands.make_context("outrider", [], resilient_parsing=True) as ctx:
        for name in COMMANDS:
            found = commands.get_command(ctx, name)
            assert found is not None
            assert found.name == name
            assert found.help
            assert not found.hidden


@pytest.mark.parametrize(
    ("alias", "name"),
    [("start", "serve"), ("ls", "list"), ("login", "signin"), ("logout", "signout")],
)
def test_10_1_aliases(alias: str, name: str, capsys: Capture) -> None:
    assert ALIASES[alias] == name
    assert entry.exit_code([alias, "--help"]) == 0
    assert "Usage: outrider" in capsys.readouterr().out


def test_10_1_without_a_command_the_help_is_shown(capsys: Capture) -> None:
    assert entry.exit_code([]) == 0
    alone = capsys.readouterr().out
    assert entry.exit_code(["help"]) == 0
    assert capsys.readouterr().out == alone
    assert "list, ls" in alone


def test_10_1_help_of_what_does_not_exist(capsys: Capture) -> None:
    assert entry.exit_code(["help", "dance"]) == 1
    assert capsys.readouterr().err == "Error: No such command 'dance'; see 'outrider --help'\n"


@pytest.mark.parametrize(
    ("command", "variables"),
    [
        ("list", ["HOST"]),
        ("run", ["HOST", "NOHISTORY", "EDITOR"]),
        ("serve", ["HOST", "MODELS", "KEEP_ALIVE", "NUM_PARALLEL", "ORIGINS", "DEBUG"]),
    ],
)
def test_10_1_help_lists_the_environment(
    command: str, variables: list[str], capsys: Capture
) -> None:
    text = help_of(command, capsys)
    section = text.partition("Environment variables:")[2]
    assert [name for name in variables if environment.PREFIX + name not in section] == []


@pytest.mark.parametrize("prefix", ["OUTRIDER_", "OLLAMA_"])
async def test_10_1_both_prefixes_name_the_daemon(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Scripted({"GET /api/ps": Reply({"models": []})}) as daemon:
        monkeypatch.setenv(f"{prefix}HOST", daemon.url)
        assert await asyncio.to_thread(entry.exit_code, ["ps"]) == 0


async def test_10_1_push(capsys: Capture) -> None:
    lines = [{"status": "retrieving manifest"}, {"status": "pushing manifest"}]
    script: Script = {"POST /api/push": Lines([*lines, {"status": "success"}])}
    async with Scripted(script) as daemon:
        assert await outrider(daemon, "push", "--insecure", "host/me/m") == 0
    assert daemon.seen == [("POST /api/push", {"model": "host/me/m", "insecure": True})]
    err = "retrieving manifest\npushing manifest\nsuccess\n"
    assert capsys.readouterr() == ("", err)


async def test_10_1_push_without_a_right_to_it(capsys: Capture) -> None:
    refused = Lines([{"error": "unauthorized: access denied"}])
    async with Scripted({"POST /api/push": refused}) as daemon:
        assert await outrider(daemon, "push", "m") == 1
    assert capsys.readouterr().err.startswith("Error: unauthorized: access denied\nYou need to")


async def test_10_1_signin_and_signout_without_a_cloud(capsys: Capture) -> None:
    script: Script = {
        "GET /api/version": Reply({"version": "0.33.0"}),
        "POST /api/me": Reply({"error": "account unavailable"}, 503),
        "POST /api/signout": Reply({"error": "you are not currently signed in"}, 401),
    }
    async with Scripted(script) as daemon:
        assert await outrider(daemon, "signin") == 1
        assert await outrider(daemon, "logout") == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("Error: account unavailable: models on this machine need no account")
    assert second == "Error: you are not currently signed in"


async def test_10_1_signin_and_signout_with_an_account(capsys: Capture) -> None:
    script: Script = {
        "GET /api/version": Reply({"version": "0.33.0"}),
        "POST /api/me": Reply({"name": "ada"}),
        "POST /api/signout": Reply(b"null"),
    }
    async with Scripted(script) as daemon:
        assert await outrider(daemon, "login") == 0
        assert await outrider(daemon, "signout") == 0
    out = capsys.readouterr().out
    assert out == "You are already signed in as user 'ada'\nYou have signed out.\n"


@pytest.mark.parametrize(
    ("args", "sent"),
    [
        ([], {}),
        (["--dimensions", "8"], {"dimensions": 8}),
        (["--truncate=false"], {"truncate": False}),
        (["--truncate"], {"truncate": True}),
        (["--keepalive", "0"], {"keep_alive": 0}),
    ],
)
async def test_10_1_run_of_an_embedding_model_prints_the_vector(
    args: list[str], sent: dict[str, Any], capsys: Capture
) -> None:
    script: Script = {"POST /api/show": Reply(EMBEDDER), "POST /api/embed": VECTOR}
    async with Scripted(script) as daemon:
        assert await outrider(daemon, "run", *args, "m", "two words") == 0
    assert daemon.bodies("POST /api/embed") == [{"model": "m", "input": "two words", **sent}]
    assert capsys.readouterr().out == "[0.5,-0.25]\n"


async def test_10_1_an_embedding_model_needs_a_text(capsys: Capture) -> None:
    async with Scripted({"POST /api/show": Reply(EMBEDDER)}) as daemon:
        assert await outrider(daemon, "run", "m") == 1
    assert capsys.readouterr().err.startswith("Error: embedding models need a text: ")


async def test_10_1_flags_of_embedding_models_are_for_them_alone(capsys: Capture) -> None:
    async with Scripted({"POST /api/show": Reply(SHOWN)}) as daemon:
        assert await outrider(daemon, "run", "--dimensions", "8", "m", "x") == 1
    assert capsys.readouterr().err.startswith("Error: --dimensions is for embedding models")


@pytest.mark.parametrize(
    ("part", "text"),
    [
        *(("license", "MIT"), ("modelfile", "FROM x"), ("parameters", "seed 1")),
        *(("system", "Be kind."), ("template", "{{ .Prompt }}")),
    ],
)
async def test_10_1_show_of_one_part(part: str, text: str, capsys: Capture) -> None:
    async with Scripted({"POST /api/show": Reply({**SHOWN, part: text})}) as daemon:
        assert await outrider(daemon, "show", "m", f"--{part}") == 0
    assert capsys.readouterr().out == f"{text}\n"


@pytest.mark.parametrize(
    "args", [("show",), ("run",), ("list", "a", "b"), ("pull", "--dance", "m"), ("cp", "a")]
)
def test_10_1_wrong_use_ends_with_1(args: tuple[str, ...], capsys: Capture) -> None:
    assert entry.exit_code(args) == 1
    out, err = capsys.readouterr()
    assert (out, err[:7], err.count("\n")) == ("", "Error: ", 1)


async def test_10_2_list(capsys: Capture) -> None:
    days_ago = (datetime.now(UTC) - timedelta(days=2, hours=1)).isoformat()
    models = [
        {"name": "a:1b", "digest": "0123456789abcdef", "size": 1_300_000_000},
        {"name": "big:70b", "digest": "f" * 64, "size": 13_100_000_000},
        {"name": "far:cloud", "digest": "e" * 64, "size": 300, "remote_model": "far"},
    ]
    tags = {"models": [{**model, "modified_at": days_ago} for model in models]}
    async with Scripted({"GET /api/tags": Reply(tags)}) as daemon:
        assert await outrider(daemon, "list") == 0
    assert capsys.readouterr().out.splitlines() == [
        "NAME         ID              SIZE      MODIFIED",
        "a:1b         0123456789ab    1.3 GB    2 days ago",
        "big:70b      ffffffffffff    13 GB     2 days ago",
        "far:cloud    eeeeeeeeeeee    -         2 days ago",
    ]


async def test_10_2_ps(capsys: Capture) -> None:
    now = datetime.now(UTC)
    expiries = (now + timedelta(minutes=4, seconds=30), now + timedelta(days=90000), now)
    shares = (100, 69, 0)
    models = [
        {
            "name": f"m{i}",
            "digest": "f" * 64,
            "size": 100,
            "size_vram": share,
            "context_length": 4096,
            "expires_at": expiry.isoformat(),
        }
        for i, (share, expiry) in enumerate(zip(shares, expiries, strict=True))
    ]
    async with Scripted({"GET /api/ps": Reply({"models": models})}) as daemon:
        assert await outrider(daemon, "ps") == 0
    assert capsys.readouterr().out.splitlines() == [
        "NAME    ID              SIZE     PROCESSOR          CONTEXT    UNTIL",
        "m0      ffffffffffff    100 B    100% GPU           4096       4 minutes from now",
        "m1      ffffffffffff    100 B    31%/69% CPU/GPU    4096       Forever",
        "m2      ffffffffffff    100 B    100% CPU           4096       Stopping...",
    ]


async def test_10_2_thinking_comes_before_the_answer(capsys: Capture) -> None:
    lines = Lines(
        [
            {"message": {"role": "assistant", "content": "", "thinking": "Hm."}},
            {"message": {"role": "assistant", "content": "Yes."}, "done": True},
        ]
    )
    script: Script = {"POST /api/show": Reply(SHOWN), "POST /api/chat": lines}
    async with Scripted(script) as daemon:
        assert await outrider(daemon, "run", "m", "?") == 0
        assert await outrider(daemon, "run", "--hidethinking", "m", "?") == 0
    shown = "Thinking...\nHm.\n...done thinking.\n\nYes.\n"
    assert capsys.readouterr().out == f"{shown}Yes.\n"


async def test_10_3_an_image_is_sent_to_a_model_that_can_see(tmp_path: Path) -> None:
    image = tmp_path / "cat.png"
    image.write_bytes(b"cat")
    seeing = {**SHOWN, "capabilities": ["completion", "vision"]}
    async with Scripted({"POST /api/show": Reply(seeing), "POST /api/chat": CHAT}) as daemon:
        assert await outrider(daemon, "run", "m", f"what is {image} here") == 0
    (body,) = daemon.bodies("POST /api/chat")
    message = {"role": "user", "content": "what is  here", "images": ["Y2F0"]}
    assert body["messages"] == [message]


async def test_10_3_an_image_is_refused_for_a_model_that_cannot_see(
    tmp_path: Path, capsys: Capture
) -> None:
    image = tmp_path / "cat.png"
    image.write_bytes(b"cat")
    async with Scripted({"POST /api/show": Reply(SHOWN)}) as daemon:
        assert await outrider(daemon, "run", "m", f"what is {image}") == 1
    assert capsys.readouterr().err.startswith(f"Error: m cannot see images: leave out {image}")
    assert daemon.bodies("POST /api/chat") == []
