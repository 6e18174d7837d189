"""The fields of OpenAI's requests (CONTRACT 2).

Fields that Ollama ignores and real clients send are read as OpenAI means them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from ..wire_model import JsonObject, WireModel

MAX_CHOICES = 8  # of one prompt
MAX_PROMPTS = 64  # of one request
MAX_TOP_LOGPROBS = 20  # CONTRACT 2.2
MAX_TOKEN_DIGITS = 9  # of a token id; llama.cpp has 32-bit ids
MAX_BIAS = 100  # added to a logit: OpenAI's range
EMBEDDING_ENCODINGS = ("float", "base64")
JSON_TYPES = {bool: "bool", int: "number", float: "number", str: "string", list: "array"}


def json_type(value: object) -> str:
    """How an error message calls the type of a JSON value; null as in CONTRACT 2.2."""
    return "<nil>" if value is None else JSON_TYPES.get(type(value), "object")


def _stops(value: object) -> object:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list):
        raise ValueError(f"invalid type for 'stop' field: {json_type(value)}")
    return [text for text in texts if isinstance(text, str) and text]


def _strict_stops(value: object) -> object:
    for item in value if isinstance(value, list) else ():
        if not isinstance(item, str):
            raise ValueError(f"invalid type for 'stop' field: {json_type(item)}")
    return _stops(value)


def _choice_count(value: int) -> int:
    if not 1 <= value <= MAX_CHOICES:
        raise ValueError(f"n must be between 1 and {MAX_CHOICES}")
    return value


def _top_logprobs(value: int) -> int:
    if not 0 <= value <= MAX_TOP_LOGPROBS:
        raise ValueError(f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}")
    return value


def _prompts(value: object) -> object:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("prompt must be a string or an array of strings")
    if not 1 <= len(texts) <= MAX_PROMPTS:
        raise ValueError(f"a request may have 1 to {MAX_PROMPTS} prompts")
    return texts


def _inputs(value: object) -> object:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("invalid input type")
    return texts


def _biases(value: Mapping[str, float]) -> Mapping[str, float]:
    for key, bias in value.items():
        if not (key.isdecimal() and len(key) <= MAX_TOKEN_DIGITS):
            raise ValueError(f'logit_bias: "{key[:MAX_TOKEN_DIGITS]}" is not a token id')
        if not abs(bias) <= MAX_BIAS:
            raise ValueError(f"logit_bias: a bias must be between -{MAX_BIAS} and {MAX_BIAS}")
    return value


def _encoding(value: object) -> object:
    if value not in EMBEDDING_ENCODINGS:
        raise ValueError(
            f"Invalid value for 'encoding_format' = {value}. "
            f"Supported values: {list(EMBEDDING_ENCODINGS)}."
        )
    return value


ChoiceCount = Annotated[int, AfterValidator(_choice_count)]
TopLogprobs = Annotated[int, AfterValidator(_top_logprobs)]
Biases = Annotated[dict[str, float], AfterValidator(_biases)]


class StreamOptions(WireModel):
    include_usage: bool = False


class CalledFunction(WireModel):
    name: str = ""
    arguments: str | JsonObject = ""  # JSON text; some clients send the object itself


class ChatToolCall(WireModel):
    id: str = ""
    function: CalledFunction = CalledFunction()


class ChatMessage(WireModel):
    role: str = ""
    content: object = None  # a string or an array of parts
    name: str = ""
    reasoning: str = ""
    reasoning_content: str = ""  # another spelling of `reasoning`
    tool_calls: list[ChatToolCall] = []
    tool_call_id: str = ""


class Reasoning(WireModel):
    effort: str = ""


class SchemaOfAnswer(WireModel):
    definition: JsonObject | None = Field(None, alias="schema")


class ResponseFormat(WireModel):
    type: str = ""
    json_schema: SchemaOfAnswer | None = None


class TemplateArguments(WireModel):
    enable_thinking: bool | None = None


class SamplingFields(WireModel):
    """The fields that chat completions and completions share."""

    model: str = ""
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    n: ChoiceCount = 1
    max_tokens: int | None = None
    temperature: float = 1.0  # sent always: it overrides what the model sets (CONTRACT 2.2)
    top_p: float = 1.0  # likewise
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Biases = {}
    render_only: bool = Field(False, alias="_debug_render_only")


class ChatCompletionRequest(SamplingFields):
    messages: list[ChatMessage] = []
    max_completion_tokens: int | None = None
    stop: Annotated[list[str], BeforeValidator(_stops)] = []
    tools: list[JsonObject] = []
    tool_choice: str | JsonObject = "auto"
    parallel_tool_calls: bool = True
    response_format: ResponseFormat | None = None
    reasoning: Reasoning | None = None
    reasoning_effort: str = ""
    chat_template_kwargs: TemplateArguments = TemplateArguments()
    logprobs: bool = False
    top_logprobs: TopLogprobs = 0


class TextCompletionRequest(SamplingFields):
    prompt: Annotated[list[str], BeforeValidator(_prompts)] = [""]
    suffix: str = ""
    echo: bool = False
    stop: Annotated[list[str], BeforeValidator(_strict_stops)] = []
    frequency_penalty: float | None = 0.0
    presence_penalty: float | None = 0.0
    logprobs: TopLogprobs | None = None


class EmbeddingCreateRequest(WireModel):
    model: str = ""
    input: Annotated[list[str], BeforeValidator(_inputs)] = []
    dimensions: int = 0  # 0: all that the model has
    encoding_format: Annotated[str, BeforeValidator(_encoding)] = "float"
