"""The fields of OpenAI's requests to /v1/responses (CONTRACT 2.6)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag

from ..wire_model import JsonObject, WireModel

MESSAGE, UNKNOWN = "message", "unknown"  # tags of items


class ResponsePart(WireModel):
    """A part of a content; which fields it has depends on its type."""

    type: str = ""
    text: str = ""
    refusal: str = ""


def _as_parts(content: object) -> object:
    return [{"type": "input_text", "text": content}] if isinstance(content, str) else content


ResponseParts = Annotated[list[ResponsePart], BeforeValidator(_as_parts)]


class MessageItem(WireModel):
    role: Literal["user", "system", "developer", "assistant"]
    content: ResponseParts = []


class FunctionCallItem(WireModel):
    call_id: str = ""
    name: str = ""
    namespace: str = ""
    arguments: str = ""  # a JSON object as text


class FunctionOutputItem(WireModel):
    call_id: str = ""
    output: ResponseParts = []


class ReasoningItem(WireModel):
    summary: list[ResponsePart] = []
    encrypted_content: str = ""  # the plain thought, as this daemon sent it


class SearchItem(WireModel):
    """A search on a server, which left only its answer."""


class UnknownItem(WireModel):
    type: str = ""


ITEM_TYPES = (MESSAGE, "function_call", "function_call_output", "reasoning", "web_search_call")


def _item_type(item: object) -> str:
    """A type may be left out where there is a role."""
    if not isinstance(item, dict):
        return MESSAGE
    kind = item.get("type") or (MESSAGE if item.get("role") else UNKNOWN)
    return kind if isinstance(kind, str) and kind in ITEM_TYPES else UNKNOWN


Item = Annotated[
    Annotated[MessageItem, Tag(MESSAGE)]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionOutputItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[SearchItem, Tag("web_search_call")]
    | Annotated[UnknownItem, Tag(UNKNOWN)],
    Discriminator(_item_type),
]


def _as_items(value: object) -> object:
    """A text is one message of the user."""
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


class EchoedFields(WireModel):
    """Fields that an answer repeats, also those that mean nothing here."""

    model_config = ConfigDict(extra="allow")

    def echo(self) -> JsonObject:
        """What the client wrote, without nulls."""
        return self.model_dump(by_alias=True, exclude_unset=True)


class ResponseReasoning(EchoedFields):
    effort: str = ""


class TextFormat(EchoedFields):
    type: str = "text"
    schema_: JsonObject | None = Field(None, alias="schema")


class TextConfig(EchoedFields):
    format: TextFormat | None = None


class ResponsesRequest(WireModel):
    model: str = ""
    input: Annotated[list[Item] | None, BeforeValidator(_as_items)] = None
    instructions: str | None = None
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    reasoning: ResponseReasoning | None = None
    text: TextConfig | None = None
    tools: list[JsonObject] = []
    tool_choice: str | JsonObject = "auto"
    parallel_tool_calls: bool = True
    max_tool_calls: int | None = None
    truncation: str = "disabled"
    metadata: JsonObject = {}
    background: bool = False
    previous_response_id: str = ""
    conversation: str | JsonObject = ""
    prompt: JsonObject = {}
