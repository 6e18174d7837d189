"""Tool calls, thoughts and structured answers through the three official Python clients.

The models are scripted (scripted_models.py), so that every answer is exact.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import ollama
import openai
import pytest
from daemons import Daemon, start_daemon
from scripted_models import (
    CALL_THOUGHT,
    CALLER,
    CITY,
    GEMMA,
    HELLO,
    PERSON,
    REPORT,
    RESULT_THOUGHT,
    ROLLER,
    ROUTER,
    TALKER,
    THINKER,
    THOUGHT,
    WRITER,
    config_of,
    write_models,
)
from weights import import_gguf

pytestmark = pytest.mark.contract

HI: list[Any] = [{"role": "user", "content": "Hi!"}]
ASK: list[Any] = [{"role": "user", "content": "How is the weather?"}]
ASK_TWO: list[Any] = [{"role": "user", "content": "How is the weather in Rome and Oslo?"}]
NAME, ARGUMENTS = "get_weather", {"city": CITY}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION: dict[str, Any] = {
    "name": NAME,
    "description": "The weather of a city",
    "parameters": SCHEMA,
}
TOOL: Any = {"type": "function", "function": FUNCTION}
OTHER: Any = {
    "type": "function",
    "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}},
}
ROLL: Any = {
    "type": "function",
    "function": {
        "name": "roll",
        "parameters": {
            "type": "object",
            "properties": {"sides": {"type": "integer"}},
            "required": ["sides"],
        },
    },
}
FORCED = [(ROUTER, TOOL, ARGUMENTS), (CALLER, TOOL, ARGUMENTS), (ROLLER, ROLL, {"sides": 6})]
PERSON_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
THINKING: Any = {"type": "enabled", "budget_tokens": 1024}
SILENT: Any = {"type": "disabled"}
CALLERS = (ROUTER, CALLER, GEMMA)
STREAMS = 8
DRAFTED = "-drafted"  # the end of the name of a model with a drafter
callers = pytest.mark.parametrize("model", CALLERS)
streamed = pytest.mark.parametrize("stream", [False, True])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with a slot for each of STREAMS, and each model also with itself as its drafter."""
    root, folder = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("gguf")
    for name, gguf in write_models(folder):
        facts: dict[str, Any] = {"params": {"temperature": 0}, "config": config_of(name)}
        import_gguf(root, name, gguf, **facts)
        import_gguf(root, f"{name}{DRAFTED}", gguf, draft=gguf, **facts)
    env = {"OUTRIDER_NUM_PARALLEL": str(STREAMS), "OUTRIDER_SPECULATION": "4"}
    with start_daemon(root, tmp_path_factory.mktemp("daemon"), env=env) as running:
        yield running


@pytest.fixture
def native(served: Daemon) -> Iterator[ollama.Client]:
    client = ollama.Client(served.url)
    yield client
    client._client.close()


@pytest.fixture
def openai_client(served: Daemon) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic_client(served: Daemon) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=served.url, api_key="unused", max_retries=0) as client:
        yield client


def anthropic_tool(function: dict[str, Any]) -> dict[str, Any]:
    return {"name": function["name"], "input_schema": function["parameters"]}


def chat(client: ollama.Client, model: str, messages: list[Any], **fields: Any) -> ollama.Message:
    """The whole message, also of a stream."""
    if not fields.get("stream"):
        return client.chat(model, messages, **fields).message
    parts = [part.message for part in client.chat(model, messages, **fields)]
    calls = [call for part in parts for call in part.tool_calls or ()]
    return ollama.Message(
        role="assistant",
        content="".join(part.content or "" for part in parts),
        thinking="".join(part.thinking or "" for part in parts),
        tool_calls=calls,
    )


class TestNative:
    @callers
    @streamed
    @pytest.mark.parametrize("think", [None, True, False])
    def test_a_call_and_what_follows_its_result(
        self, native: ollama.Client, model: str, stream: bool, think: bool | None
    ) -> None:
        if model == ROUTER and think:
            pytest.skip("it does not think")
        fields = {"tools": [TOOL], "stream": stream, "think": think}
        called = chat(native, model, ASK, **fields)
        assert called.tool_calls
        assert [(c.function.name, c.function.arguments) for c in called.tool_calls] == [
            (NAME, ARGUMENTS)
        ]
        assert called.content == ""
        thinks = model != ROUTER and think is not False
        assert (called.thinking or "") == (CALL_THOUGHT if thinks else "")
        result = {"role": "tool", "tool_name": NAME, "content": "21 degrees"}
        told = chat(native, model, [*ASK, called, result], **fields)
        assert told.content == REPORT
        assert not told.tool_calls
        assert (told.thinking or "") == (RESULT_THOUGHT if thinks and model == GEMMA else "")

    @streamed
    def test_two_calls_in_one_answer(self, native: ollama.Client, stream: bool) -> None:
        called = chat(native, ROUTER, ASK_TWO, tools=[TOOL], stream=stream)
        assert called.tool_calls
        cities = [call.function.arguments["city"] for call in called.tool_calls]
        assert cities == ["Rome", "Oslo"]

    @streamed
    def test_thoughts(self, native: ollama.Client, stream: bool) -> None:
        for think, thought in ((None, THOUGHT), (True, THOUGHT), (False, "")):
            message = chat(native, THINKER, HI, think=think, stream=stream)
            assert (message.content, message.thinking or "") == (HELLO, thought)

    def test_thoughts_of_generate(self, native: ollama.Client) -> None:
        answer = native.generate(THINKER, "Hi!", think=True)
        assert (answer.response, answer.thinking) == (HELLO, THOUGHT)
        silent = native.generate(THINKER, "Hi!", think=False)
        assert (silent.response, silent.thinking) == (HELLO, None)

    @streamed
    @pytest.mark.parametrize("think", [None, True])
    def test_a_structured_answer_after_a_thought(
        self, native: ollama.Client, stream: bool, think: bool | None
    ) -> None:
        message = chat(native, WRITER, HI, format=PERSON_SCHEMA, think=think, stream=stream)
        assert json.loads(message.content or "") == PERSON
        assert message.thinking == THOUGHT

    def test_a_model_without_tools_refuses_them(self, native: ollama.Client) -> None:
        with pytest.raises(ollama.ResponseError, match="does not support tools") as error:
            native.chat(TALKER, ASK, tools=[TOOL])
        assert error.value.status_code == 400

    def test_a_prefix_is_continued(self, native: ollama.Client) -> None:
        prefix = [*HI, {"role": "assistant", "content": HELLO[0]}]
        assert native.chat(TALKER, prefix).message.content == HELLO[1:]

    def test_dropped_messages_are_counted(self, native: ollama.Client, served: Daemon) -> None:
        options = {"num_ctx": 256}
        fields = {"model": TALKER, "options": options, "stream": False}
        assert native.chat(TALKER, LONG, options=options).message.content == HELLO
        _, answer = served.post("/api/chat", {**fields, "messages": LONG})  # the client hides it
        assert answer["truncated"] > 0
        assert "truncated" not in served.post("/api/chat", {**fields, "messages": HI})[1]
        whole = {**fields, "messages": LONG, "truncate": False}
        status, refused = served.post("/api/chat", whole)
        assert status == 400
        assert "256" in refused["error"]


LONG: list[Any] = [
    *(
        {"role": role, "content": f"{number} " + "many words " * 8}
        for number in range(4)
        for role in ("user", "assistant")
    ),
    *HI,
]


def openai_fields(answer: Any) -> tuple[str, str, list[tuple[str, Any]], str]:
    """Content, thought, calls and finish reason, also of a stream."""
    if not isinstance(answer, openai.Stream):
        message, reason = answer.choices[0].message, answer.choices[0].finish_reason
        calls = [
            (c.function.name, json.loads(c.function.arguments)) for c in message.tool_calls or ()
        ]
        thought = (message.model_extra or {}).get("reasoning") or ""
        return message.content or "", thought, calls, reason
    content, thought, reason, named = "", "", "", dict[int, list[str]]()
    for chunk in answer:
        for choice in chunk.choices:
            content += choice.delta.content or ""
            thought += (choice.delta.model_extra or {}).get("reasoning") or ""
            reason = choice.finish_reason or reason
            for call in choice.delta.tool_calls or ():
                entry = named.setdefault(call.index, ["", ""])
                entry[0] += call.function.name or ""
                entry[1] += call.function.arguments or ""
    calls = [(name, json.loads(arguments)) for name, arguments in named.values()]
    return content, thought, calls, reason


class TestOpenAI:
    @callers
    @streamed
    def test_a_call(self, openai_client: openai.OpenAI, model: str, stream: bool) -> None:
        answer = openai_client.chat.completions.create(
            model=model, messages=ASK, tools=[TOOL], stream=stream
        )
        thought = "" if model == ROUTER else CALL_THOUGHT
        assert openai_fields(answer) == ("", thought, [(NAME, ARGUMENTS)], "tool_calls")

    @streamed
    def test_two_calls_in_one_answer(self, openai_client: openai.OpenAI, stream: bool) -> None:
        answer = openai_client.chat.completions.create(
            model=ROUTER, messages=ASK_TWO, tools=[TOOL], stream=stream
        )
        calls = [(NAME, {"city": "Rome"}), (NAME, {"city": "Oslo"})]
        assert openai_fields(answer) == ("", "", calls, "tool_calls")

    @callers
    def test_the_result_of_a_call(self, openai_client: openai.OpenAI, model: str) -> None:
        called = openai_client.chat.completions.create(model=model, messages=ASK, tools=[TOOL])
        message = called.choices[0].message
        assert message.tool_calls
        result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "21"}
        answer = openai_client.chat.completions.create(
            model=model, messages=[*ASK, message, result], tools=[TOOL]
        )
        content, _, calls, reason = openai_fields(answer)
        assert (content, calls, reason) == (REPORT, [], "stop")

    @streamed
    @pytest.mark.parametrize(("model", "tool", "arguments"), FORCED)
    @pytest.mark.parametrize("is_named", [False, True])
    def test_a_forced_call(
        self,
        openai_client: openai.OpenAI,
        model: str,
        tool: Any,
        arguments: dict[str, object],
        is_named: bool,
        stream: bool,
    ) -> None:
        name = tool["function"]["name"]
        choice: Any = {"type": "function", "function": {"name": name}} if is_named else "required"
        answer = openai_client.chat.completions.create(
            model=model, messages=ASK, tools=[OTHER, tool], tool_choice=choice, stream=stream
        )
        content, _, calls, reason = openai_fields(answer)
        assert (content, calls, reason) == ("", [(name, arguments)], "tool_calls")

    @callers
    def test_a_call_is_forced_against_the_will_of_the_model(
        self, openai_client: openai.OpenAI, model: str
    ) -> None:
        answer = openai_client.chat.completions.create(
            model=model,
            messages=ASK,
            tools=[TOOL, OTHER],
            tool_choice={"type": "function", "function": {"name": "clock"}},
        )
        content, _, calls, reason = openai_fields(answer)
        assert (content, calls, reason) == ("", [("clock", {})], "tool_calls")

    def test_no_call(self, openai_client: openai.OpenAI) -> None:
        answer = openai_client.chat.completions.create(
            model=ROUTER, messages=ASK, tools=[TOOL], tool_choice="none"
        )
        assert openai_fields(answer) == (HELLO, "", [], "stop")

    @streamed
    def test_thoughts(self, openai_client: openai.OpenAI, stream: bool) -> None:
        for effort, thought in (("low", THOUGHT), ("none", "")):
            answer = openai_client.chat.completions.create(
                model=THINKER, messages=HI, reasoning_effort=effort, stream=stream
            )
            assert openai_fields(answer) == (HELLO, thought, [], "stop")

    @streamed
    def test_a_structured_answer_after_a_thought(
        self, openai_client: openai.OpenAI, stream: bool
    ) -> None:
        answer = openai_client.chat.completions.create(
            model=WRITER,
            messages=HI,
            stream=stream,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "person", "schema": PERSON_SCHEMA, "strict": True},
            },
        )
        content, thought, _, reason = openai_fields(answer)
        assert (json.loads(content), thought, reason) == (PERSON, THOUGHT, "stop")

    def test_responses(self, openai_client: openai.OpenAI) -> None:
        tool: Any = {"type": "function", "strict": False, **FUNCTION}
        called = openai_client.responses.create(model=CALLER, input=ASK, tools=[tool])
        (call,) = [item for item in called.output if item.type == "function_call"]
        assert (call.name, json.loads(call.arguments)) == (NAME, ARGUMENTS)
        result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "21"}
        items: list[Any] = [*ASK, call.model_dump(exclude_none=True), result]
        told = openai_client.responses.create(model=CALLER, input=items, tools=[tool])
        assert told.output_text == REPORT

    def test_a_prefix_is_continued(self, openai_client: openai.OpenAI) -> None:
        prefix: list[Any] = [*HI, {"role": "assistant", "content": HELLO[0]}]
        answer = openai_client.chat.completions.create(model=TALKER, messages=prefix)
        assert answer.choices[0].message.content == HELLO[1:]

    @streamed
    def test_dropped_messages_are_counted(self, openai_client: openai.OpenAI, stream: bool) -> None:
        create = openai_client.chat.completions.with_raw_response.create
        # 4096 tokens are the context of the model.
        long = [{**message, "content": message["content"] * 8} for message in LONG]
        raw = create(model=TALKER, messages=long, stream=stream)  # type: ignore[arg-type]
        assert int(raw.headers["outrider-truncated"]) > 0
        assert openai_fields(raw.parse())[0] == HELLO
        short = create(model=TALKER, messages=HI, stream=stream)
        assert "outrider-truncated" not in short.headers
        assert openai_fields(short.parse())[0] == HELLO


def anthropic_message(client: anthropic.Anthropic, *, stream: bool, **fields: Any) -> Any:
    """The message, also of a stream."""
    fields = {"max_tokens": 2048, **fields}
    if not stream:
        return client.messages.create(**fields)
    with client.messages.stream(**fields) as events:
        return events.get_final_message()


class TestAnthropic:
    @callers
    @streamed
    @pytest.mark.parametrize("thinking", [None, THINKING, SILENT])
    def test_a_call_and_what_follows_its_result(
        self, anthropic_client: anthropic.Anthropic, model: str, stream: bool, thinking: Any
    ) -> None:
        fields: dict[str, Any] = {
            "model": model,
            "tools": [anthropic_tool(FUNCTION)],
            "stream": stream,
        }
        if thinking:
            fields["thinking"] = thinking
        called = anthropic_message(anthropic_client, messages=ASK, **fields)
        *thoughts, call = called.content
        expected = [] if model == ROUTER or thinking is SILENT else [CALL_THOUGHT]
        assert [block.thinking for block in thoughts] == expected
        assert (call.type, call.name, call.input) == ("tool_use", NAME, ARGUMENTS)
        assert called.stop_reason == "tool_use"
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "21"}
        messages = [
            *ASK,
            {"role": "assistant", "content": called.content},
            {"role": "user", "content": [result]},
        ]
        told = anthropic_message(anthropic_client, messages=messages, **fields)
        assert told.content[-1].text == REPORT
        assert told.stop_reason == "end_turn"

    @streamed
    @pytest.mark.parametrize(("model", "tool", "arguments"), FORCED)
    @pytest.mark.parametrize("is_named", [False, True])
    def test_a_forced_call(
        self,
        anthropic_client: anthropic.Anthropic,
        model: str,
        tool: Any,
        arguments: dict[str, object],
        is_named: bool,
        stream: bool,
    ) -> None:
        tools = [anthropic_tool(each["function"]) for each in (OTHER, tool)]
        name = tool["function"]["name"]
        called = anthropic_message(
            anthropic_client,
            model=model,
            messages=ASK,
            tools=tools,
            tool_choice={"type": "tool", "name": name} if is_named else {"type": "any"},
            stream=stream,
        )
        *thoughts, call = called.content
        assert [block.type for block in thoughts] == ([] if model == ROUTER else ["thinking"])
        assert (call.name, call.input) == (name, arguments)

    @streamed
    def test_a_structured_answer_after_a_thought(
        self, anthropic_client: anthropic.Anthropic, stream: bool
    ) -> None:
        message = anthropic_message(
            anthropic_client,
            model=WRITER,
            messages=HI,
            thinking=THINKING,
            output_config={"format": {"type": "json_schema", "schema": PERSON_SCHEMA}},
            stream=stream,
        )
        thought, answer = message.content
        assert (thought.thinking, json.loads(answer.text)) == (THOUGHT, PERSON)

    def test_a_prefix_is_continued(self, anthropic_client: anthropic.Anthropic) -> None:
        prefix: list[Any] = [*HI, {"role": "assistant", "content": HELLO[0]}]
        message = anthropic_message(anthropic_client, model=TALKER, messages=prefix, stream=False)
        assert message.content[0].text == HELLO[1:]

    def test_dropped_messages_are_counted(self, anthropic_client: anthropic.Anthropic) -> None:
        long: list[Any] = [{**message, "content": message["content"] * 8} for message in LONG]
        raw = anthropic_client.messages.with_raw_response.create(
            model=TALKER, max_tokens=256, messages=long
        )
        assert int(raw.headers["outrider-truncated"]) > 0


@pytest.mark.parametrize("model", [CALLER, GEMMA, f"{CALLER}{DRAFTED}", f"{GEMMA}{DRAFTED}"])
async def test_streams_at_once_do_not_disturb_each_other(served: Daemon, model: str) -> None:
    client = ollama.AsyncClient(served.url)

    async def ask(number: int) -> tuple[str, str, list[object]]:
        think = number % 2 == 0
        messages = [{"role": "user", "content": f"How is the weather, {number}?"}]
        content, thought, calls = "", "", []
        async for part in await client.chat(
            model, messages, tools=[TOOL], think=think, stream=True
        ):
            content += part.message.content or ""
            thought += part.message.thinking or ""
            calls += [call.function.arguments for call in part.message.tool_calls or ()]
        return content, thought, calls

    try:
        answers = await asyncio.gather(*map(ask, range(STREAMS)))
    finally:
        await client._client.aclose()
    expected = [("", CALL_THOUGHT, [ARGUMENTS]), ("", "", [ARGUMENTS])] * (STREAMS // 2)
    assert answers == expected


@pytest.mark.parametrize("model", [THINKER, WRITER, CALLER, GEMMA, ROUTER])
@pytest.mark.parametrize("seed", [None, 7])
def test_drafts_change_nothing(served: Daemon, model: str, seed: int | None) -> None:
    options: dict[str, object] = {"num_predict": 200}
    if seed is not None:
        options |= {"temperature": 0.7, "seed": seed}
    fields: dict[str, Any] = {"messages": ASK, "stream": False, "options": options}
    if model == WRITER:
        fields["format"] = PERSON_SCHEMA
    elif model != THINKER:
        fields["tools"] = [TOOL]
    answers = []
    for name in (model, f"{model}{DRAFTED}"):
        status, answer = served.post("/api/chat", {"model": name, **fields})
        assert status == 200, answer
        for call in answer["message"].get("tool_calls", ()):
            call.pop("id")
        answers.append(answer)
    plain, drafted = answers
    assert drafted["message"] == plain["message"]
    assert drafted["eval_count"] == plain["eval_count"]
    assert drafted["speculation"]["accepted"] > 0
