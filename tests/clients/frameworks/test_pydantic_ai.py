"""pydantic-ai: agents over the OpenAI dialect, its Ollama provider, and the Anthropic dialect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
from anthropic import AsyncAnthropic
from daemons import Daemon
from pydantic import BaseModel, Field
from pydantic_ai import (
    Agent,
    ModelHTTPError,
    NativeOutput,
    PromptedOutput,
    RunContext,
    ToolDefinition,
    ToolOutput,
)
from pydantic_ai.messages import ThinkingPart
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.ollama import OllamaModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.models.system_one import SystemOneModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.system_one import SystemOneProvider
from scripted_models import (
    CALLER,
    CITY,
    HELLO,
    PERSON,
    REPORT,
    ROUTER,
    TALKER,
    THINKER,
    THOUGHT,
    WEATHER,
)

pytestmark = pytest.mark.clients

SECOND = "second"  # the model of decisions (conftest.py)


class Person(BaseModel):
    name: str
    age: int


class Weather(BaseModel):
    place: str
    degrees: int


def open_openai(url: str, name: str) -> Model:
    return OpenAIChatModel(name, provider=OpenAIProvider(base_url=f"{url}/v1", api_key="unused"))


def open_responses(url: str, name: str) -> Model:
    provider = OpenAIProvider(base_url=f"{url}/v1", api_key="unused")
    return OpenAIResponsesModel(name, provider=provider)


def open_ollama(url: str, name: str) -> Model:
    return OllamaModel(name, provider=OllamaProvider(base_url=f"{url}/v1"))


def open_anthropic(url: str, name: str) -> Model:
    client = AsyncAnthropic(base_url=url, api_key="unused")
    return AnthropicModel(name, provider=AnthropicProvider(anthropic_client=client))


Open = Callable[[str, str], Model]
OPENINGS = [open_openai, open_responses, open_ollama, open_anthropic]
dialects = pytest.mark.parametrize("open_model", OPENINGS)


@dialects
async def test_an_agent_and_its_stream_agree(served: Daemon, open_model: Open) -> None:
    agent = Agent(open_model(served.url, TALKER))
    whole = await agent.run("Hi!")
    assert whole.output == HELLO
    async with agent.run_stream("Hi!") as stream:
        text = "".join([part async for part in stream.stream_text(delta=True)])
    assert text == HELLO
    usage = whole.usage if not callable(whole.usage) else whole.usage()
    assert usage.output_tokens > 0
    assert usage.input_tokens > 0


@dialects
@pytest.mark.parametrize("model", [ROUTER, CALLER])
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_tools(served: Daemon, open_model: Open, model: str, is_streamed: bool) -> None:
    agent = Agent(open_model(served.url, model))
    asked: list[str] = []

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """The weather of a city."""
        asked.append(city)
        return "21 degrees"

    if is_streamed:
        async with agent.run_stream("How is the weather?") as stream:
            output = await stream.get_output()
    else:
        output = (await agent.run("How is the weather?")).output
    assert (asked, output.strip()) == ([CITY], REPORT)


@dialects
async def test_several_calls_at_once(served: Daemon, open_model: Open) -> None:
    agent = Agent(open_model(served.url, ROUTER))
    asked: list[str] = []

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """The weather of a city."""
        asked.append(city)
        return "21 degrees"

    result = await agent.run("How is the weather in Rome and in Oslo?")
    assert (sorted(asked), result.output) == (["Oslo", "Rome"], REPORT)


@dialects
async def test_thoughts(served: Daemon, open_model: Open) -> None:
    result = await Agent(open_model(served.url, THINKER)).run("Hi!")
    assert result.output == HELLO
    parts = [part for message in result.all_messages() for part in message.parts]
    thoughts = [part.content.strip() for part in parts if isinstance(part, ThinkingPart)]
    assert thoughts in ([THOUGHT], [])  # Anthropic's dialect thinks only if asked


@pytest.mark.parametrize("kind", [NativeOutput, PromptedOutput])
@dialects
async def test_structured_answers(
    served: Daemon, open_model: Open, kind: Callable[[type[Person]], object]
) -> None:
    if open_model is open_anthropic and kind is NativeOutput:
        pytest.skip("pydantic-ai sends it for Claude alone")
    agent: Agent[None, Person] = Agent(open_model(served.url, ROUTER), output_type=kind(Person))
    assert (await agent.run("Tell me of a person.")).output == Person(**PERSON)


@dialects
async def test_an_answer_by_a_forced_call(served: Daemon, open_model: Open) -> None:
    model = open_model(served.url, ROUTER)
    agent: Agent[None, Weather] = Agent(model, output_type=ToolOutput(Weather))
    assert (await agent.run("How is the weather?")).output == Weather(**WEATHER)


@dialects
async def test_a_tool_then_a_structured_answer(served: Daemon, open_model: Open) -> None:
    agent: Agent[None, Weather] = Agent(open_model(served.url, ROUTER), output_type=Weather)
    asked: list[str] = []

    async def once(_: RunContext[None], definition: ToolDefinition) -> ToolDefinition | None:
        return None if asked else definition

    @agent.tool_plain(prepare=once)
    def get_weather(city: str) -> str:
        """The weather of a city."""
        asked.append(city)
        return "21 degrees"

    result = await agent.run("How is the weather?")
    assert (asked, result.output) == ([CITY], Weather(**WEATHER))


@dialects
async def test_a_model_that_is_missing(served: Daemon, open_model: Open) -> None:
    with pytest.raises(ModelHTTPError, match="not found") as caught:
        await Agent(open_model(served.url, "missing")).run("Hi!")
    assert caught.value.status_code == 404


class Handling(BaseModel):
    is_urgent: bool = Field(description="Is it urgent?")
    team: Literal["billing", "technical"] = Field(description="Who handles it?")


async def test_decisions(served: Daemon) -> None:
    """The model always takes the second option."""
    model = SystemOneModel(SECOND, provider=SystemOneProvider(base_url=served.url))
    agent: Agent[None, Handling] = Agent(model, output_type=Handling)
    result = await agent.run("Our checkout has returned 500 errors since 9am.")
    assert result.output.team == "technical"
