"""The fields of Ollama's requests (CONTRACT 1)."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from ...duration import parse_duration
from ..wire_model import JsonObject, WireModel

BASE64 = re.compile(r"[A-Za-z0-9+/]*")
LEVELS = ("high", "medium", "low", "max")


def _think(value: object) -> object:
    choices = '"high", "medium", "low", "max", true, or false'
    if isinstance(value, str) and value not in LEVELS:
        raise ValueError(f'invalid think value: "{value}" (must be {choices})')
    if not isinstance(value, str | bool | None):
        raise ValueError(f"think must be a boolean or string ({choices})")
    return value


def _texts(value: object) -> object:
    """A string or a list of strings; a single empty string counts as no text (CONTRACT 1.10)."""
    if isinstance(value, str):
        return [value] if value else []
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise ValueError("invalid input type")


def _images(values: list[str]) -> list[str]:
    """Bare Base64 only, as in CONTRACT 0; a `data:` URL is none."""
    for text in values:
        bad = _first_bad(text.replace("\r", "").replace("\n", ""))
        if bad is not None:
            raise ValueError(f"illegal base64 data at input byte {bad}")
    return values


def _first_bad(text: str) -> int | None:
    """Where Go's decoder gives up."""
    start = BASE64.match(text)
    end = start.end() if start else 0
    padding = text[end:]
    if padding.strip("=") or len(padding) > (-end) % 4 or end % 4 == 1:
        return end if padding else end - end % 4
    if len(text) % 4 == 0:
        return None
    return len(text) if padding else end - end % 4


Seconds = BeforeValidator(
    lambda value: None if value is None else parse_duration(value),
    json_schema_input_type=float | str | None,
)
KeepAlive = Annotated[float | None, Seconds]
Think = Annotated[
    bool | str | None,
    BeforeValidator(
        _think, json_schema_input_type=bool | Literal["high", "medium", "low", "max"] | None
    ),
]
Images = Annotated[list[str], AfterValidator(_images)]
TokenId = Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)]  # llama.cpp has 32 bits
Texts = Annotated[list[str], BeforeValidator(_texts, json_schema_input_type=str | list[str])]


class FunctionCall(WireModel):
    name: str = ""
    arguments: JsonObject = {}


class WireToolCall(WireModel):
    id: str = ""
    function: FunctionCall = FunctionCall()


class WireMessage(WireModel):
    role: str = ""
    content: str = ""
    thinking: str = ""
    images: Images = []
    tool_calls: list[WireToolCall] = []
    tool_name: str = ""
    tool_call_id: str = ""


class RunFields(WireModel):
    """The fields of every request that needs a loaded model."""

    model: str = ""
    keep_alive: KeepAlive = None
    options: JsonObject = {}


class CompletionFields(RunFields):
    """The fields that generate and chat share."""

    stream: bool = True
    format: str | JsonObject = ""
    think: Think = None
    truncate: bool = True
    shift: bool = True
    logprobs: bool = False
    top_logprobs: int = 0
    render_only: bool = Field(False, alias="_debug_render_only")


class GenerateRequest(CompletionFields):
    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    context: list[TokenId] = []
    raw: bool = False
    images: Images = []


class ChatRequest(CompletionFields):
    messages: list[WireMessage] = []
    tools: list[JsonObject] = []


class EmbedRequest(RunFields):
    input: Texts = []
    truncate: bool = True
    dimensions: int = 0  # 0: all that the model has


class EmbeddingsRequest(RunFields):
    """The older route, for one vector."""

    prompt: str = ""


class NameRequest(WireModel):
    """`name` is the old spelling of `model`."""

    model: str = ""
    name: str = ""

    @property
    def target(self) -> str:
        """The name of the model."""
        return self.model or self.name


class ShowRequest(NameRequest):
    verbose: bool = False
    system: str = ""
    template: str = ""
    options: JsonObject = {}


class CopyRequest(WireModel):
    source: str = ""
    destination: str = ""


class PullRequest(NameRequest):
    """Also the request of a push, which has the same fields."""

    insecure: bool = False  # plain HTTP is allowed
    stream: bool = True


class CreateRequest(NameRequest):
    """`quantization` is the old spelling of `quantize`; files map names to digests."""

    base: str = Field("", alias="from")
    files: dict[str, str] = {}
    draft_files: dict[str, str] = {}
    draft: str = ""  # a model whose weights are the drafter; Outrider's own field
    adapters: dict[str, str] = {}
    quantize: str = ""
    quantization: str = ""
    draft_quantize: str = ""
    template: str = ""
    system: str = ""
    license: Texts = []
    parameters: JsonObject = {}
    messages: list[WireMessage] = []
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    info: JsonObject = {}
    remote_host: str = ""
    stream: bool = True
