"""What all dialects check and fill in alike before they have a `Completion`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import msgspec

from ..chat.conversation import Conversation, Message, Tool
from ..chat.history import without_old_thoughts
from ..errors import BadRequest, InvalidFormat, Unsupported
from ..runners.model_info import ModelInfo

MESSAGEPACK_INTEGERS = range(-(1 << 63), 1 << 64)
ANY_OBJECT = '{"type":"object"}'


def missing_capability(
    info: ModelInfo, *, think: bool | str | None, suffix: str = "", tools: bool = False
) -> str | None:
    """The first capability that a request needs and the model lacks (CONTRACT 1.2 and 1.3)."""
    needed = {"thinking": think, "completion": True, "insert": suffix, "tools": tools}
    return next(
        (name for name, is_needed in needed.items() if is_needed and not info.can(name)), None
    )


def check_capabilities(
    info: ModelInfo,
    model: str,
    verb: str,
    *,
    think: bool | str | None,
    suffix: str = "",
    tools: bool = False,
) -> None:
    """Raises BadRequest with Ollama's texts (CONTRACT 1.2 and 1.3).

    `model` is the name as the client wrote it, and `verb` what the route does with the model.
    """
    missing = missing_capability(info, think=think, suffix=suffix, tools=tools)
    if missing in ("insert", "tools"):
        raise BadRequest(f"{info.model.name.full} does not support {missing}")
    if missing:
        lacking = verb if missing == "completion" else missing
        raise BadRequest(f'"{model}" does not support {lacking}')


def read_tools(definitions: Sequence[Mapping[str, object]]) -> tuple[Tool, ...]:
    """The tools of a request in the shape of CONTRACT 1.9.

    A definition stays as the client wrote it, but for nulls, which mean "not given": the grammar
    of a forced call needs the whole schema. Raises BadRequest for a tool that no model can call.
    """
    return tuple(Tool(_tool_definition(i, given)) for i, given in enumerate(definitions))


def _tool_definition(index: int, given: Mapping[str, object]) -> dict[str, object]:
    function = given.get("function")
    if not isinstance(function, Mapping):
        raise BadRequest(f"tools.{index}: a tool needs a `function` object")
    stated = {key: value for key, value in function.items() if value is not None}
    name = stated.get("name")
    if not isinstance(name, str) or not name:
        raise BadRequest(f"tools.{index}: a tool needs `function.name`")
    if not isinstance(stated.get("description", ""), str):
        raise BadRequest(f"tools.{index}: the description of {name} must be a string")
    if not isinstance(stated.get("parameters", {}), Mapping):
        raise BadRequest(f"tools.{index}: the parameters of {name} must be a JSON schema object")
    definition = {key: value for key, value in given.items() if value is not None}
    return definition | {"function": stated}


def refuse_images(has_images: bool) -> None:
    """Raises Unsupported rather than answer without having seen the images."""
    if has_images:
        raise Unsupported("images are not supported yet; leave them out")


def answer_schema(answer_format: str | Mapping[str, object]) -> str:
    """The JSON schema behind "json" or a schema object; "" if the format is empty.

    Raises InvalidFormat for any other text (CONTRACT 1.4).
    """
    if not isinstance(answer_format, str):
        return json.dumps(answer_format)
    if answer_format == "json":
        return ANY_OBJECT
    if answer_format:
        given = json.dumps(json.dumps(answer_format))
        raise InvalidFormat(
            f'invalid format: {given}; expected "json" or a valid JSON Schema object'
        )
    return ""


def build_conversation(
    info: ModelInfo,
    messages: tuple[Message, ...],
    *,
    think: bool | str | None,
    system: str = "",
    tools: tuple[Tool, ...] = (),
    tool_choice: str = "",
    with_stored: bool = True,
) -> Conversation:
    """The model's stored messages, then those of the request (CONTRACT 1.2 and 1.3).

    A system text (`system`, else the model's own) goes first unless the request's messages begin
    with one. A model that can think does so unless the request says otherwise (CONTRACT 1.7).
    Raises BadRequest for tools and calls that cannot be sent to a runner.
    """
    system = system or info.model.system
    brings_system = bool(messages) and messages[0].role == "system"
    if with_stored:
        stored = info.model.messages
        facts = ((str(m.get("role", "")), str(m.get("content", ""))) for m in stored)
        messages = (*(Message(role, content) for role, content in facts), *messages)
    try:
        messages, tools = tuple(map(_portable_calls, messages)), tuple(map(_portable_tool, tools))
    except RecursionError:
        raise BadRequest("a tool or a tool call is nested too deeply") from None
    if system and not brings_system:
        messages = (Message("system", system), *messages)
    if _repeats_thoughts(info):
        messages = without_old_thoughts(messages)
    if think is None and info.can("thinking"):
        think = True
    return Conversation(messages, tools, think, tool_choice)


def _portable_calls(message: Message) -> Message:
    if not message.tool_calls:
        return message
    calls = (
        msgspec.structs.replace(call, arguments=_portable_object(call.arguments))
        for call in message.tool_calls
    )
    return msgspec.structs.replace(message, tool_calls=tuple(calls))


def _portable_tool(tool: Tool) -> Tool:
    return Tool(_portable_object(tool.definition))


def _portable_object(given: Mapping[str, object]) -> dict[str, object]:
    return {key: _portable(value) for key, value in given.items()}


def _portable(value: object) -> object:
    """The value as MessagePack can carry it to the runner: with floats for wide integers.

    Ollama reads every number as a float. Raises BadRequest for a number that no float holds.
    """
    if isinstance(value, dict):
        return _portable_object(value)
    if isinstance(value, list):
        return [_portable(item) for item in value]
    if not isinstance(value, int) or value in MESSAGEPACK_INTEGERS:
        return value
    try:
        return float(value)
    except OverflowError:
        raise BadRequest("a number in a tool or in a tool call is too large") from None


def _repeats_thoughts(info: ModelInfo) -> bool:
    """Whether clients of this model are known to send thoughts back as content (CONTRACT 1.3)."""
    family = info.model.config.model_family or info.header.architecture
    return family.startswith("qwen3") or "deepseek-r1" in info.model.name.short
