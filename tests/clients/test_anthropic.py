"""Anthropic's official Python client, as a user's program has it (CONTRACT 3).

Scripted answers show what random weights cannot: thoughts and tool calls.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic
from anthropic.types import Message, MessageParam, TextBlockParam, ToolParam
from daemons import Daemon
from fake_runner import DONE
from front import Front, fill_store, start_front
from outrider.daemon.chat.conversation import Conversation, ToolCall
from outrider.daemon.errors import RunnerDied
from outrider.daemon.protocol import Delta, Done, Started
from outrider.daemon.runners.model_info import ModelInfo

pytestmark = pytest.mark.contract

SMOL = "smollm2:135m"
GREEDY = {"temperature": 0}  # the newest clients have no argument for it
ASK: list[MessageParam] = [{"role": "user", "content": "Name a color."}]
WEATHER: ToolParam = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
STARTED = Delta(1, started=Started(prompt_tokens=5))
SCRIPT = [
    STARTED,
    Delta(1, thinking="Cologne?"),
    Delta(1, "Let me "),
    Delta(1, "look.", tool_calls=(ToolCall("weather", {"city": "Köln"}, "toolu_a"),)),
    Delta(1, done=DONE),
]


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Anthropic]:
    with Anthropic(base_url=daemon.url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
async def front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Front]:
    """Scripted answers; every model can think and call tools."""
    monkeypatch.setattr(ModelInfo, "can", lambda info, name: True)
    root = fill_store(tmp_path / "store", tmp_path)
    async with start_front(root) as running:
        yield running


@pytest.fixture
async def scripted(front: Front) -> AsyncIterator[AsyncAnthropic]:
    url = front.url
    async with AsyncAnthropic(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def test_a_message_and_its_stream_agree(client: Anthropic) -> None:
    whole = client.messages.create(model=SMOL, max_tokens=20, messages=ASK, extra_body=GREEDY)
    assert (whole.role, whole.model, whole.type) == ("assistant", SMOL, "message")
    assert whole.stop_reason in ("end_turn", "max_tokens")
    (block,) = whole.content
    assert block.type == "text"
    with client.messages.stream(
        model=SMOL, max_tokens=20, messages=ASK, extra_body=GREEDY
    ) as stream:
        assert "".join(stream.text_stream) == block.text
        final = stream.get_final_message()
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens > 0
    assert final.usage.input_tokens == whole.usage.input_tokens > 0


def test_max_tokens_and_stop_sequences(client: Anthropic) -> None:
    cut = client.messages.create(model=SMOL, max_tokens=2, messages=ASK, extra_body=GREEDY)
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 2)
    ended = client.messages.create(
        model=SMOL, max_tokens=40, messages=ASK, extra_body=GREEDY, stop_sequences=["e", " "]
    )
    (block,) = ended.content
    assert block.type == "text"
    assert block.text
    assert not {"e", " "} & set(block.text)


async def test_the_stop_sequence_is_named(front: Front, scripted: AsyncAnthropic) -> None:
    front.runners.scripts.append([STARTED, Delta(1, "one, ", done=Done("stop", stop="two"))])
    message = await scripted.messages.create(
        model="chat", max_tokens=9, messages=ASK, stop_sequences=["two"]
    )
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "two")


def test_a_structured_answer(client: Anthropic) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"enum": ["red"]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    message = client.messages.create(
        model=SMOL,
        max_tokens=40,
        messages=ASK,
        extra_body=GREEDY,
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    assert message.content[0].type == "text"
    assert json.loads(message.content[0].text) == {"a": "red"}


def test_a_hash_in_front_of_the_system_text_keeps_the_prefix_cache(
    client: Anthropic, daemon: Daemon
) -> None:
    def cached_tokens() -> float:
        text = daemon.get("/metrics")[1]["text"]
        name = "outrider_cached_prompt_tokens_total"
        return sum(map(float, re.findall(rf"^{name}{{.*}} (\S+)$", text, re.MULTILINE)))

    def send(digest: str) -> Message:
        header = f"x-anthropic-billing-header: cc_version=2.1; cc_entrypoint=cli; cch={digest};"
        system = "You speak about colors, and about nothing but colors. " * 9
        blocks: list[TextBlockParam] = [
            {"type": "text", "text": header},
            {"type": "text", "text": system},
        ]
        return client.messages.create(model=SMOL, max_tokens=1, messages=ASK, system=blocks)

    first, before = send("abc12"), cached_tokens()
    second = send("ffe05")
    assert first.usage.input_tokens == second.usage.input_tokens > 100
    assert cached_tokens() - before == second.usage.input_tokens - 1


def test_errors_are_the_client_s_own(client: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="model 'none' not found"):
        client.messages.create(model="none", max_tokens=1, messages=ASK)
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        client.messages.create(model=SMOL, max_tokens=0, messages=ASK)
    with pytest.raises(anthropic.BadRequestError, match="does not support tools"):
        client.messages.create(model="tiny", max_tokens=1, messages=ASK, tools=[WEATHER])


async def test_the_async_client_against_a_model(daemon: Daemon) -> None:
    async with (
        AsyncAnthropic(base_url=daemon.url, api_key="none") as client,
        client.messages.stream(model=SMOL, max_tokens=9, messages=ASK) as stream,
    ):
        text = "".join([part async for part in stream.text_stream])
        final = await stream.get_final_message()
    assert final.content[0].type == "text"
    assert final.content[0].text == text


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_thought_and_a_tool_call(
    front: Front, scripted: AsyncAnthropic, streamed: bool
) -> None:
    front.runners.scripts.append(SCRIPT)
    if streamed:
        async with scripted.messages.stream(
            model="chat", max_tokens=99, messages=ASK, tools=[WEATHER]
        ) as stream:
            message: Message = await stream.get_final_message()
    else:
        message = await scripted.messages.create(
            model="chat", max_tokens=99, messages=ASK, tools=[WEATHER]
        )
    thought, text, call = message.content
    assert (thought.type, thought.type == "thinking" and thought.thinking) == (
        "thinking",
        "Cologne?",
    )
    assert (text.type, text.type == "text" and text.text) == ("text", "Let me look.")
    assert call.type == "tool_use"
    assert (call.id, call.name, call.input) == ("toolu_a", "weather", {"city": "Köln"})
    assert message.stop_reason == "tool_use"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (5, 4)


async def test_an_answer_goes_back_as_it_came(front: Front, scripted: AsyncAnthropic) -> None:
    front.runners.scripts += [SCRIPT, [STARTED, Delta(1, "21 °C", done=DONE)]]
    first = await scripted.messages.create(
        model="chat", max_tokens=99, messages=ASK, tools=[WEATHER]
    )
    history: list[MessageParam] = [
        *ASK,
        {"role": "assistant", "content": first.content},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "toolu_a", "content": "21 °C"}],
        },
    ]
    await scripted.messages.create(model="chat", max_tokens=99, messages=history, tools=[WEATHER])
    prompt = front.runners.submits[-1].prompt
    assert isinstance(prompt, Conversation)
    _, turn, told = prompt.messages
    assert (turn.thinking, turn.content) == ("Cologne?", "Let me look.")
    assert turn.tool_calls == (ToolCall("weather", {"city": "Köln"}, "toolu_a"),)
    assert (told.role, told.content, told.tool_name) == ("tool", "21 °C", "weather")


async def test_count_tokens(front: Front, scripted: AsyncAnthropic) -> None:
    front.runners.scripts.append([Delta(1, "the prompt", done=DONE)])
    count = await scripted.messages.count_tokens(model="chat", messages=ASK, tools=[WEATHER])
    assert count.input_tokens == DONE.prompt_tokens


async def test_an_error_within_a_stream(front: Front, scripted: AsyncAnthropic) -> None:
    front.runners.scripts.append([STARTED, Delta(1, "Hi"), RunnerDied("the runner died")])
    with pytest.raises(anthropic.APIStatusError, match="the runner died"):
        async with scripted.messages.stream(model="chat", max_tokens=9, messages=ASK) as stream:
            await stream.get_final_message()
