"""The prompt of `outrider run`: messages and commands."""

import asyncio
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from outrider.daemon.cli.answer import ViewOptions
from outrider.daemon.cli.client import Client
from outrider.daemon.cli.repl import Repl, UsageError, is_command, parameter, read_message
from outrider.daemon.cli.session import ChatSession
from outrider.daemon.cli.tool_loop import NoTools
from scripted import Lines, Reply, Scripted

pytestmark = pytest.mark.unit

SHOWN = {"details": {"family": "llama"}, "model_info": {}, "system": "Be kind."}
ANSWER = [
    {"message": {"role": "assistant", "content": "Hello"}},
    {"message": {"role": "assistant", "content": ""}, "done": True, "total_duration": 2_000_000},
]
SCRIPT: dict[str, Reply | Lines] = {
    "POST /api/show": Reply(SHOWN),
    "POST /api/chat": Lines(ANSWER),
    "POST /api/generate": Reply({"done": True}),
    "POST /api/create": Lines([{"status": "writing manifest"}, {"status": "success"}]),
}


class Typed:
    """Reads these lines, then the end of the input; an exception stands for a key."""

    def __init__(self, *lines: str | type[BaseException]) -> None:
        self._rest = iter([*lines, EOFError])
        self.recording: list[bool] = []

    def read(self, prompt: str) -> str:
        line = next(self._rest)
        if isinstance(line, str):
            return line
        raise line

    def set_recording(self, on: bool) -> None:
        self.recording.append(on)


def converse(url: str, chat: ChatSession, reader: Typed) -> str:
    out = io.StringIO()
    with asyncio.Runner() as runner:
        client = runner.run(Client(url).__aenter__())
        try:
            Repl(runner, client, chat, ViewOptions(), out, NoTools(), reader).loop()
        finally:
            runner.run(client.close())
    return out.getvalue()


async def converse_with(
    daemon: Scripted, *lines: str | type[BaseException], chat: ChatSession | None = None
) -> str:
    session = chat or ChatSession("m")
    return await asyncio.to_thread(converse, daemon.url, session, Typed(*lines))


def roles(body: dict[str, Any]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in body["messages"]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["hi"], "hi"),
        (['"""one', "", 'two"""'], "one\n\ntwo"),
        (['"""', "one", '"""'], "one"),
        (['"""one"""'], "one"),
        (['/set system """a', 'b"""'], "/set system a\nb"),
        (['say """x"""'], 'say """x"""'),
    ],
)
def test_a_message_may_have_several_lines(lines: Iterable[str], message: str) -> None:
    assert read_message(Typed(*lines).read) == message


def test_the_prompt_shows_that_a_message_goes_on() -> None:
    prompts, lines = [], iter(['"""a', 'b"""'])

    def read(prompt: str) -> str:
        prompts.append(prompt)
        return next(lines)

    read_message(read)
    assert prompts == [">>> ", "... "]


def test_a_path_is_no_command() -> None:
    assert [is_command(word) for word in ("/bye", "/etc/hosts", "bye")] == [True, False, False]


@pytest.mark.parametrize(
    ("name", "values", "value"),
    [
        ("temperature", ["0.5"], 0.5),
        ("top_k", ["40"], 40),
        ("use_mmap", ["false"], False),
        ("stop", ["<end>", "user:"], ["<end>", "user:"]),
    ],
)
def test_parameters_have_their_types(name: str, values: list[str], value: object) -> None:
    assert parameter(name, values) == value


@pytest.mark.parametrize(
    ("name", "values", "text"),
    [
        ("temprature", ["1"], "there is no parameter temprature; there are "),
        ("temperature", ["warm"], "temperature takes one number"),
        ("top_k", ["1", "2"], "top_k takes one whole number"),
        ("use_mmap", ["maybe"], "use_mmap takes true or false"),
        ("seed", [], "seed takes one whole number"),
    ],
)
def test_parameters_that_the_daemon_would_refuse(name: str, values: list[str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        parameter(name, values)


async def test_the_conversation_is_kept_and_can_be_cleared() -> None:
    async with Scripted(SCRIPT) as daemon:
        out = await converse_with(daemon, "hi", "and?", "/clear", "new")
    bodies = daemon.bodies("POST /api/chat")
    assert roles(bodies[1]) == [("user", "hi"), ("assistant", "Hello"), ("user", "and?")]
    assert roles(bodies[2]) == [("user", "new")]
    assert out.startswith("Hello\n\n")


async def test_what_is_set_is_sent() -> None:
    async with Scripted(SCRIPT) as daemon:
        await converse_with(
            daemon,
            "/set system Be brief.",
            "/set parameter temperature 0.5",
            '/set parameter stop "a b" c',
            "/set format json",
            "/set think high",
            "hi",
            "/set nothink",
            "/set noformat",
            "again",
        )
    first, second = daemon.bodies("POST /api/chat")
    assert roles(first) == [("system", "Be brief."), ("user", "hi")]
    assert first["options"] == {"temperature": 0.5, "stop": ["a b", "c"]}
    assert (first["format"], first["think"]) == ("json", "high")
    assert second["think"] is False
    assert "format" not in second


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("/dance", "there is no command /dance; /? lists them"),
        ("/set mood good", "there is no /set mood; /? set lists them"),
        ("/set parameter", "write it as /set parameter NAME VALUE"),
        ("/set parameter stop 'x", "write it as /set parameter NAME VALUE"),
        ("/set format xml", "write it as /set format json"),
        ("/set think deeply", "/set think takes nothing or one of low"),
        ("/show all", "/show takes one of info, license"),
        ("/load", "/load takes the name of a model"),
        ("/? dance", "/? takes nothing or one of set, show, shortcuts"),
    ],
)
async def test_a_wrong_command_is_an_error_line_and_the_prompt_stays(
    line: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Scripted(SCRIPT) as daemon:
        out = await converse_with(daemon, line, "hi")
    err = capsys.readouterr().err
    assert err.startswith(f"Error: {text}")
    assert err.count("\n") == 1
    assert out.startswith("Hello\n")


async def test_show() -> None:
    async with Scripted(SCRIPT) as daemon:
        out = await converse_with(daemon, "/show info", "/show system", "/show license")
        own = await converse_with(
            daemon, "/set system Mine.", "/show system", "/set parameter seed 7", "/show parameters"
        )
    assert "  Model\n    architecture    llama\n" in out
    assert out.endswith("\nBe kind.\nThe model has no license.\n\n")
    assert own.startswith("Mine.\nSet here:\nseed ")


async def test_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    async with Scripted(SCRIPT) as daemon:
        await converse_with(daemon, "/set verbose", "hi", "/set quiet", "hi")
    assert capsys.readouterr().err == "total duration:       2ms\n"


async def test_another_model_begins_anew() -> None:
    async with Scripted(SCRIPT) as daemon:
        await converse_with(daemon, "hi", "/load other", "hi")
    body = daemon.bodies("POST /api/chat")[1]
    assert (body["model"], roles(body)) == ("other", [("user", "hi")])
    assert daemon.bodies("POST /api/generate")[0]["model"] == "other"


async def test_a_model_that_cannot_be_loaded_changes_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with Scripted({"POST /api/chat": Lines(ANSWER)}) as daemon:
        await converse_with(daemon, "hi", "/load x", "still?")
    assert capsys.readouterr().err == "Error: model 'x' not found\n"
    assert daemon.bodies("POST /api/chat")[1]["model"] == "m"
    assert len(daemon.bodies("POST /api/chat")[1]["messages"]) == 3


async def test_an_answer_that_fails_is_an_error_line_and_not_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with Scripted({"POST /api/chat": Reply({"error": "too busy"}, 503)}) as daemon:
        await converse_with(daemon, "hi", "again")
    assert capsys.readouterr().err == "Error: too busy\n" * 2
    assert roles(daemon.bodies("POST /api/chat")[1]) == [("user", "again")]


async def test_help_names_every_command() -> None:
    async with Scripted({}) as daemon:
        out = await converse_with(daemon, "/?", "/? set", "/help show", "/? shortcuts")
    for word in ("/load", "/clear", "/bye", "/set nothink", "/show template", "Ctrl-D"):
        assert word.removeprefix("/set ") in out


async def test_the_ways_to_leave() -> None:
    async with Scripted(SCRIPT) as daemon:
        for line in ("/bye", "/exit"):
            await converse_with(daemon, line, "not sent")
        out = await converse_with(daemon, KeyboardInterrupt, EOFError, "not sent")
    assert out == "\nUse Ctrl-D or /bye to leave.\n\n"
    assert daemon.seen == []


async def test_a_session_is_saved_as_a_model() -> None:
    chat = ChatSession("m").with_result({"function": {"name": "add"}}, "3")
    async with Scripted(SCRIPT) as daemon:
        out = await converse_with(
            daemon,
            "/set system Be brief.",
            "/set parameter seed 7",
            "hi",
            "/save mine",
            "/save",
            chat=chat,
        )
    assert daemon.bodies("POST /api/create") == [
        {
            "model": "mine",
            "from": "m",
            "system": "Be brief.",
            "parameters": {"seed": 7},
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": "Hello"},
            ],
        }
    ]
    assert "Created new model 'mine'\n" in out


async def test_the_models_are_listed() -> None:
    script = {**SCRIPT, "GET /api/tags": Reply({"models": [{"name": "a:1"}, {"name": "b:1"}]})}
    async with Scripted(script) as daemon:
        out = await converse_with(daemon, "/list a")
    assert [line.split()[0] for line in out.splitlines() if line] == ["NAME", "a:1"]


async def test_set_and_show_alone_are_explained() -> None:
    async with Scripted(SCRIPT) as daemon:
        out = await converse_with(daemon, "/set", "/show")
    assert "/set nothink" in out
    assert "/show template" in out


def test_recording_can_be_turned_off() -> None:
    reader = Typed("/set nohistory", "/set history")
    converse("http://127.0.0.1:9", ChatSession("m"), reader)
    assert reader.recording == [False, True]


async def test_an_image_for_a_model_that_cannot_see(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "cat.png"
    image.write_bytes(b"cat")
    async with Scripted(SCRIPT) as daemon:
        blind = ChatSession("m", capabilities=("completion",))
        await converse_with(daemon, f"see {image}", "hi", chat=blind)
    assert capsys.readouterr().err.startswith("Error: m cannot see images")
    assert roles(daemon.bodies("POST /api/chat")[0]) == [("user", "hi")]
