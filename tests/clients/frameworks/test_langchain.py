"""langchain-ollama under LangChain's own standard tests."""

from __future__ import annotations

from typing import Any

import pytest
from daemons import Daemon
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings
from langchain_tests.integration_tests import (
    ChatModelIntegrationTests,
    EmbeddingsIntegrationTests,
)
from scripted_models import (
    CALL_THOUGHT,
    CALLER,
    CITY,
    GEMMA,
    HELLO,
    REPORT,
    ROUTER,
    TALKER,
    THINKER,
    THOUGHT,
)

pytestmark = pytest.mark.clients

BERT = "bert"  # the model for embeddings (conftest.py)


class TestChat(ChatModelIntegrationTests):
    @pytest.fixture(autouse=True)
    def _serve(self, served: Daemon) -> None:
        self.url = served.url

    @pytest.fixture
    def model(self, request: pytest.FixtureRequest, served: Daemon) -> ChatOllama:
        """As the suite has it, after the daemon is there."""
        self.url = served.url
        changes = getattr(request, "param", {})
        return ChatOllama(**self.chat_model_params, **changes)

    @property
    def chat_model_class(self) -> type[ChatOllama]:
        return ChatOllama

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": ROUTER, "base_url": self.url, "temperature": 0, "num_predict": 400}

    @property
    def has_tool_choice(self) -> bool:
        return False  # Ollama's own API has none

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return TALKER


class TestEmbeddings(EmbeddingsIntegrationTests):
    @pytest.fixture(autouse=True)
    def _serve(self, served: Daemon) -> None:
        self.url = served.url

    @pytest.fixture
    def model(self, served: Daemon) -> OllamaEmbeddings:
        return OllamaEmbeddings(model=BERT, base_url=served.url)

    @property
    def embeddings_class(self) -> type[OllamaEmbeddings]:
        return OllamaEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": BERT, "base_url": self.url}


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"21 degrees in {city}"


def test_thoughts(served: Daemon) -> None:
    thinking = ChatOllama(model=THINKER, base_url=served.url, reasoning=True)
    message = thinking.invoke("Hi!")
    assert message.content == HELLO
    assert message.additional_kwargs["reasoning_content"].strip() == THOUGHT
    silent = ChatOllama(model=THINKER, base_url=served.url, reasoning=False)
    assert silent.invoke("Hi!").content == HELLO
    assert "".join(str(part.content) for part in silent.stream("Hi!")) == HELLO


@pytest.mark.parametrize("model", [CALLER, GEMMA])
@pytest.mark.parametrize("reasoning", [True, False])
def test_an_agent_with_thoughts(served: Daemon, model: str, reasoning: bool) -> None:
    llm = ChatOllama(model=model, base_url=served.url, reasoning=reasoning)
    bound = llm.bind_tools([get_weather])
    ask = HumanMessage("How is the weather?")
    called = bound.invoke([ask])
    assert isinstance(called, AIMessage)
    assert [(call["name"], call["args"]) for call in called.tool_calls] == [
        ("get_weather", {"city": CITY})
    ]
    assert called.content == ""
    thought = called.additional_kwargs.get("reasoning_content", "")
    assert thought.strip() == (CALL_THOUGHT if reasoning else "")
    result = get_weather.invoke(called.tool_calls[0])
    assert isinstance(result, ToolMessage)
    assert bound.invoke([ask, called, result]).content == REPORT
