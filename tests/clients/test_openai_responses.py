"""OpenAI's official Python client and its Responses API, as a user's program has it (CONTRACT 2.6).

Scripted answers show what random weights cannot: thoughts and tool calls.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal

import openai
import pytest
from daemons import Daemon
from fake_runner import DONE
from front import Front, fill_store, start_front
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import (
    FunctionToolParam,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseReasoningItem,
)
from outrider.daemon.chat.conversation import Conversation, ToolCall
from outrider.daemon.errors import RunnerDied
from outrider.daemon.protocol import Delta, Started
from outrider.daemon.runners.model_info import ModelInfo
from pydantic import BaseModel

pytestmark = pytest.mark.contract

SMOL = "smollm2:135m"
ASK = "Name a color."
WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}
STARTED = Delta(1, started=Started(prompt_tokens=5))
SCRIPT = [
    STARTED,
    Delta(1, thinking="Cologne?"),
    Delta(1, "Let me "),
    Delta(1, "look.", tool_calls=(ToolCall("weather", {"city": "Köln"}, "call_a"),)),
    Delta(1, done=DONE),
]


class Color(BaseModel):
    name: Literal["red"]


@pytest.fixture
def client(daemon: Daemon) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{daemon.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
async def front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Front]:
    """Scripted answers; every model can think and call tools."""
    monkeypatch.setattr(ModelInfo, "can", lambda info, name: True)
    root = fill_store(tmp_path / "store", tmp_path)
    async with start_front(root) as running:
        yield running


@pytest.fixture
async def scripted(front: Front) -> AsyncIterator[AsyncOpenAI]:
    url = f"{front.url}/v1"
    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def test_a_response_and_its_stream_agree(client: OpenAI) -> None:
    whole = client.responses.create(
        model=SMOL, input=ASK, max_output_tokens=20, temperature=0, instructions="Be brief."
    )
    assert (whole.status, whole.model, whole.instructions) == ("completed", SMOL, "Be brief.")
    assert whole.output_text
    with client.responses.stream(
        model=SMOL, input=ASK, max_output_tokens=20, temperature=0, instructions="Be brief."
    ) as stream:
        text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert text == final.output_text == whole.output_text
    assert whole.usage
    assert final.usage
    assert final.usage.output_tokens == whole.usage.output_tokens > 0
    assert final.usage.input_tokens == whole.usage.input_tokens > 0


def test_a_conversation_as_input(client: OpenAI) -> None:
    first = client.responses.create(model=SMOL, input=ASK, max_output_tokens=9)
    history = [{"role": "user", "content": ASK}, *(item.to_dict() for item in first.output)]
    again = client.responses.create(
        model=SMOL,
        input=[*history, {"role": "user", "content": "And another."}],  # type: ignore[list-item]
        max_output_tokens=9,
    )
    assert first.usage
    assert again.usage
    assert again.usage.input_tokens > first.usage.input_tokens


def test_a_structured_answer(client: OpenAI) -> None:
    answer = client.responses.parse(
        model=SMOL, input=ASK, text_format=Color, temperature=0, max_output_tokens=40
    )
    assert answer.output_parsed == Color(name="red")


def test_errors_are_the_client_s_own(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="model 'none' not found"):
        client.responses.create(model="none", input=ASK)
    with pytest.raises(openai.BadRequestError, match="previous_response_id is not supported"):
        client.responses.create(model=SMOL, input=ASK, previous_response_id="resp_1")
    with pytest.raises(openai.BadRequestError, match="web_search"):
        client.responses.create(model=SMOL, input=ASK, tools=[{"type": "web_search"}])
    with pytest.raises(openai.BadRequestError, match="does not support tools"):
        client.responses.create(model="tiny", input=ASK, tools=[WEATHER])


async def test_the_async_client_against_a_model(daemon: Daemon) -> None:
    async with AsyncOpenAI(base_url=f"{daemon.url}/v1", api_key="none") as client:
        stream = await client.responses.create(
            model=SMOL, input=ASK, max_output_tokens=9, stream=True
        )
        types = [event.type async for event in stream]
    assert types[:2] == ["response.created", "response.in_progress"]
    assert types[-1] == "response.completed"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_thought_and_a_tool_call(
    front: Front, scripted: AsyncOpenAI, streamed: bool
) -> None:
    front.runners.scripts.append(SCRIPT)
    if streamed:
        async with scripted.responses.stream(model="chat", input=ASK, tools=[WEATHER]) as stream:
            output = list((await stream.get_final_response()).output)
    else:
        response = await scripted.responses.create(model="chat", input=ASK, tools=[WEATHER])
        output = list(response.output)  # type: ignore[arg-type]
    thought, said, call = output
    assert isinstance(thought, ResponseReasoningItem)
    assert thought.summary[0].text == "Cologne?"
    assert isinstance(said, ResponseOutputMessage)
    assert said.content[0].type == "output_text"
    assert said.content[0].text == "Let me look."
    assert isinstance(call, ResponseFunctionToolCall)
    assert (call.call_id, call.name, call.arguments) == ("call_a", "weather", '{"city":"Köln"}')


async def test_an_answer_goes_back_as_it_came(front: Front, scripted: AsyncOpenAI) -> None:
    front.runners.scripts += [SCRIPT, [STARTED, Delta(1, "21 °C", done=DONE)]]
    first = await scripted.responses.create(model="chat", input=ASK, tools=[WEATHER])
    result = {"type": "function_call_output", "call_id": "call_a", "output": "21 °C"}
    history = [{"role": "user", "content": ASK}, *(item.to_dict() for item in first.output), result]
    await scripted.responses.create(model="chat", input=history)  # type: ignore[arg-type]
    prompt = front.runners.submits[-1].prompt
    assert isinstance(prompt, Conversation)
    _, turn, told = prompt.messages
    assert (turn.thinking, turn.content) == ("Cologne?", "Let me look.")
    assert turn.tool_calls == (ToolCall("weather", {"city": "Köln"}, "call_a"),)
    assert (told.role, told.content, told.tool_name) == ("tool", "21 °C", "weather")


async def test_an_error_within_a_stream(front: Front, scripted: AsyncOpenAI) -> None:
    front.runners.scripts.append([STARTED, Delta(1, "Hi"), RunnerDied("the runner died")])
    stream = await scripted.responses.create(model="chat", input=ASK, stream=True)
    last = [event async for event in stream][-1]
    assert last.type == "response.failed"
    assert last.response.error
    assert last.response.error.message == "the runner died"
