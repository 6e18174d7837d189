"""A runner process as the front drives it: what one request does wrong is its own affair."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from harness import GREEDY, load_spec, text_request
from outrider.daemon.chat.conversation import Conversation, Message, RawPrompt, Tool
from outrider.daemon.chat.format import ChatFormat
from outrider.daemon.errors import (
    BadRequest,
    InvalidFormat,
    OutriderError,
    RunnerDied,
    TemplateFailed,
)
from outrider.daemon.protocol import Delta, Embed, Limits, Submit
from outrider.daemon.runner.llama.model import MAX_CHARACTERS
from outrider.daemon.runners.process import RunnerProcess
from tiny import write_llama
from tiny_bert import write_bert

pytestmark = pytest.mark.model

T = TypeVar("T")

ACCENTS = "é" * 60  # byte 100 of the JSON lies inside a letter
OPTIONAL = {f"p{i}": {"type": "string"} for i in range(6000)}
ALTERNATIVES = [
    {"type": "object", "properties": {f"o{i}_{j}": {"type": "string"} for j in range(350)}}
    for i in range(20)
]
PAIR = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}
LARGE = {  # takes 0.3 s to compile
    "type": "object",
    "properties": {f"p{i}": PAIR for i in range(2500)},
    "required": [f"p{i}" for i in range(2500)],
}
SMALL = {"enum": ["yes", "no"]}
FAULTS: dict[str, tuple[Submit, str]] = {
    **{
        f"type-{'-'.join(schema)}": (text_request(0, "x", schema=json.dumps(schema)), "must be an?")
        for schema in (
            {"type": "string", "pattern": ["a" + ACCENTS]},
            {"type": "string", "format": ["a" + ACCENTS]},
            {"type": "object", "required": ACCENTS},
            {"$ref": ["a" + ACCENTS]},
        )
    },
    "optional": (
        text_request(0, "x", schema=json.dumps({"type": "object", "properties": OPTIONAL})),
        "too complex.*simplify",
    ),
    "alternatives": (
        text_request(0, "x", schema=json.dumps({"anyOf": ALTERNATIVES})),
        "too complex",
    ),
    "nowhere": (text_request(0, "x", schema='{"$ref": "#"}'), "without an end"),
    "template": (
        Submit(0, Conversation((Message("user", "x"),)), format=ChatFormat(template="{% for %}")),
        "chat template cannot be read",
    ),
    "context": (
        msgspec.structs.replace(text_request(0, "x"), context=(-1,)),
        "context holds tokens",
    ),
    "length": (text_request(0, "x" * (MAX_CHARACTERS + 1)), "shorten it"),
}


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("gguf") / "tiny.gguf", seed=1, context=4096)


@asynccontextmanager
async def running(gguf: Path, **changes: int | str | bool) -> AsyncIterator[RunnerProcess]:
    process = await RunnerProcess.start(load_spec(gguf, **changes))
    try:
        yield process
    finally:
        await process.stop()


def use(gguf: Path, test: Callable[[RunnerProcess], Awaitable[T]], **changes: int | bool) -> T:
    """What a test finds out on a runner process of its own."""

    async def run() -> T:
        async with running(gguf, **changes) as process:
            return await asyncio.wait_for(test(process), 60)

    return asyncio.run(run())


async def answer(process: RunnerProcess, request: Submit) -> tuple[str, Delta]:
    """The whole text of a request and its last delta."""
    deltas = [delta async for delta in process.submit(request)]
    return "".join(delta.text for delta in deltas), deltas[-1]


async def fault_of(process: RunnerProcess, request: Submit | Embed) -> OutriderError:
    asked = process.embed(request) if isinstance(request, Embed) else answer(process, request)
    with pytest.raises(OutriderError) as caught:
        await asked
    return caught.value


def test_the_fault_of_a_request_leaves_its_neighbours_as_they_are(gguf: Path) -> None:
    """Each fault beside a stream whose text is what it is alone; one runner survives them all."""

    async def test(process: RunnerProcess) -> None:
        neighbour = text_request(0, "tell a story", 400)
        alone, _ = await answer(process, neighbour)
        for name, (request, words) in FAULTS.items():
            beside = asyncio.create_task(answer(process, neighbour))
            fault = await fault_of(process, request)
            assert isinstance(fault, BadRequest | InvalidFormat | TemplateFailed), name
            assert re.search(words, str(fault)), f"{name}: {fault}"
            text, last = await beside
            assert text == alone, name
            assert last.done
            assert last.done.eval_tokens == 400, name
        assert process.is_alive
        assert process.stats.slots_busy == 0

    use(gguf, test, num_ctx=1024)


def test_a_large_schema_delays_nobody_and_is_compiled_once(gguf: Path) -> None:
    async def test(process: RunnerProcess) -> list[str]:
        ended: list[str] = []

        async def note(name: str, request: Submit) -> None:
            await answer(process, request)
            ended.append(name)

        large = text_request(0, "x", 2, schema=json.dumps(LARGE))
        first = asyncio.create_task(note("large", large))
        await asyncio.sleep(0)  # it is written first
        others = [
            note("plain", text_request(0, "y", 20)),
            note("small", text_request(0, "z", schema=json.dumps(SMALL))),
        ]
        await asyncio.gather(first, *others)
        slow = asyncio.create_task(note("again", large))
        await asyncio.sleep(0)
        await asyncio.gather(slow, note("long", text_request(0, "y", 400)))
        return ended

    ended = use(gguf, test, num_ctx=1024)
    assert ended[2] == "large", ended
    assert ended[3:] == ["again", "long"], "the second time nothing is compiled"


def test_a_cancel_ends_a_request_whose_grammar_still_compiles(gguf: Path) -> None:
    async def test(process: RunnerProcess) -> None:
        slow = text_request(0, "x", 2, schema=json.dumps(LARGE))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(answer(process, slow), 0.05)
        text, _ = await answer(process, text_request(0, "y", 20))
        assert text
        assert process.stats.slots_busy == process.stats.waiting == 0
        assert process.stats.steps <= 21, "the cancelled request was decoded"

    use(gguf, test)


@pytest.mark.parametrize("pre", ["gpt-4o", "tekken", "deepseek-v3", "llama4", "minimax-m2"])
def test_a_long_run_of_one_letter_is_tokenized(
    tmp_path: Path, pre: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    gguf = write_llama(tmp_path / "m.gguf", context=64, extra={"tokenizer.ggml.pre": pre})

    async def test(process: RunnerProcess) -> list[int]:
        found = []
        for letter in ("a", " ", "é"):
            _, last = await answer(process, text_request(0, letter * 30_000, 3))
            assert last.done
            found.append(last.done.prompt_tokens)
        return found

    assert all(count > 30 for count in use(gguf, test, num_ctx=64))
    assert "request 1: tokenizing 30000 characters" in caplog.text


def test_a_long_run_of_one_letter_is_embedded(tmp_path: Path) -> None:
    gguf = write_llama(tmp_path / "m.gguf", extra={"tokenizer.ggml.pre": "gpt-4o"})

    async def test(process: RunnerProcess) -> int:
        fault = await fault_of(process, Embed(0, ("x" * (MAX_CHARACTERS + 1),), 64))
        assert "shorten it" in str(fault)
        return (await process.embed(Embed(0, ("a" * 30_000, "b"), 64))).prompt_tokens

    assert use(gguf, test, embedding=True) == 65


def test_a_vocabulary_without_an_end_refuses_a_format(tmp_path: Path) -> None:
    gguf = write_bert(tmp_path / "bert.gguf")

    async def test(process: RunnerProcess) -> OutriderError:
        fault = await fault_of(process, text_request(0, "a", schema=json.dumps(SMALL)))
        assert process.is_alive
        return fault

    fault = use(gguf, test, num_ctx=64, cells=256)
    assert isinstance(fault, BadRequest)
    assert "cannot follow a format" in str(fault)


def test_a_request_brings_its_own_template_and_tools(gguf: Path) -> None:
    conversation = Conversation(
        (Message("user", "hi"),), tools=(Tool({"type": "function", "function": {"name": "f"}}),)
    )
    shown = "{% for m in messages %}[{{ m.content }}]{% endfor %}{{ tools | tojson }}"
    none = "{{ tools is none }}"
    asked = (
        Submit(0, conversation, GREEDY, format=ChatFormat(template=shown), render_only=True),
        Submit(
            0,
            Conversation(conversation.messages),
            format=ChatFormat(template=none),
            render_only=True,
        ),
        Submit(0, conversation, render_only=True),
        Submit(0, RawPrompt("raw"), format=ChatFormat(template="{{"), render_only=True),
    )

    async def test(process: RunnerProcess) -> list[str]:
        return [(await answer(process, request))[0] for request in asked]

    own, without, models, raw = use(gguf, test)
    assert own == '[hi][{"type": "function", "function": {"name": "f"}}]'
    assert without == "True"
    assert models.startswith("<|im_start|>user")
    assert raw == "raw"


def test_the_last_words_of_a_runner_name_the_text_that_it_tokenized(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    gguf = write_llama(tmp_path / "m.gguf", extra={"tokenizer.ggml.pre": "gpt-4o"})

    async def test(process: RunnerProcess) -> OutriderError:
        asked = asyncio.create_task(fault_of(process, text_request(0, "a" * MAX_CHARACTERS)))
        for _ in range(3000):
            if "tokenizing" in caplog.text:
                break
            await asyncio.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        return await asked

    fault = use(gguf, test)
    assert isinstance(fault, RunnerDied)
    assert f"request 1: tokenizing {MAX_CHARACTERS} characters" in str(fault)


def test_a_template_without_end_fails_its_own_request(
    gguf: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    greedy = Submit(0, Conversation((Message("user", "x"),)), format=ChatFormat(template=loops))

    async def test(process: RunnerProcess) -> OutriderError:
        looping = asyncio.create_task(fault_of(process, greedy))
        chat = Submit(0, Conversation((Message("user", "y"),)), GREEDY, Limits(num_predict=4))
        for _ in range(3):
            await answer(process, chat)
        assert not looping.done()
        return await looping

    fault = use(gguf, test)
    assert isinstance(fault, BadRequest)
    assert "does not come to an end" in str(fault)
    assert "a chat template was stopped after 2" in caplog.text
