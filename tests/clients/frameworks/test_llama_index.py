"""llama-index-llms-ollama: chats, streams, tools and structured answers."""

from __future__ import annotations

import pytest
from daemons import Daemon
from llama_index.core.base.llms.types import ThinkingBlock
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.ollama import Ollama
from pydantic import BaseModel
from scripted_models import (
    CALL_THOUGHT,
    CALLER,
    CITY,
    GEMMA,
    HELLO,
    PERSON,
    REPORT,
    ROUTER,
    TALKER,
    THINKER,
    THOUGHT,
)

pytestmark = pytest.mark.clients

HI = [ChatMessage(role="user", content="Hi!")]


class Person(BaseModel):
    name: str
    age: int


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"21 degrees in {city}"


def open_llm(served: Daemon, model: str, **changes: object) -> Ollama:
    return Ollama(model=model, base_url=served.url, **changes)


def test_completions_and_chats(served: Daemon) -> None:
    llm = open_llm(served, TALKER)
    assert llm.complete("Hi!").text == HELLO
    assert list(llm.stream_complete("Hi!"))[-1].text == HELLO
    whole = llm.chat(HI)
    assert whole.message.content == HELLO
    assert whole.raw
    assert whole.raw["usage"]["completion_tokens"] > 0
    parts = list(llm.stream_chat(HI))
    assert "".join(part.delta or "" for part in parts) == HELLO
    assert parts[-1].message.content == HELLO


async def test_async_chats(served: Daemon) -> None:
    llm = open_llm(served, TALKER)
    assert (await llm.achat(HI)).message.content == HELLO
    stream = await llm.astream_chat(HI)
    assert "".join([part.delta or "" async for part in stream]) == HELLO


def test_the_context_is_that_of_the_model(served: Daemon) -> None:
    assert open_llm(served, TALKER).metadata.context_window == 4096


def test_thoughts(served: Daemon) -> None:
    message = open_llm(served, THINKER, thinking=True).chat(HI).message
    thoughts = [block.content for block in message.blocks if isinstance(block, ThinkingBlock)]
    assert [(thought or "").strip() for thought in thoughts] == [THOUGHT]
    assert message.content == HELLO
    assert open_llm(served, THINKER, thinking=False).chat(HI).message.content == HELLO


@pytest.mark.parametrize("model", [ROUTER, CALLER, GEMMA])
@pytest.mark.parametrize("stream", [False, True])
def test_tools(served: Daemon, model: str, stream: bool) -> None:
    llm = open_llm(served, model, thinking=None if model == ROUTER else False)
    weather = FunctionTool.from_defaults(get_weather)
    ask = ChatMessage(role="user", content="How is the weather?")
    if stream:
        called = list(llm.stream_chat_with_tools([weather], chat_history=[ask]))[-1]
    else:
        called = llm.chat_with_tools([weather], chat_history=[ask])
    (call,) = llm.get_tool_calls_from_response(called)
    assert (call.tool_name, call.tool_kwargs) == ("get_weather", {"city": CITY})
    result = ChatMessage(
        role="tool",
        content=str(weather(**call.tool_kwargs)),
        additional_kwargs={"tool_call_id": call.tool_id, "name": call.tool_name},
    )
    told = llm.chat_with_tools([weather], chat_history=[ask, called.message, result])
    assert told.message.content == REPORT


def test_a_thought_before_a_call(served: Daemon) -> None:
    llm = open_llm(served, CALLER, thinking=True)
    weather = FunctionTool.from_defaults(get_weather)
    called = llm.chat_with_tools([weather], user_msg="How is the weather?")
    blocks = [block for block in called.message.blocks if isinstance(block, ThinkingBlock)]
    assert [(block.content or "").strip() for block in blocks] == [CALL_THOUGHT]


def test_structured_answers(served: Daemon) -> None:
    llm = open_llm(served, ROUTER)
    prompt = PromptTemplate("Tell me of a person.")
    assert llm.structured_predict(Person, prompt) == Person(**PERSON)
    answer = llm.as_structured_llm(Person).chat([ChatMessage("Tell me of a person.")])
    assert answer.raw == Person(**PERSON)
