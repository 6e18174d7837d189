"""The fields of Ollama's requests (CONTRACT 1)."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from ...duration import parse_duration
from ..body import JsonObject, WireModel

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


Seconds = BeforeValidator(lambda value: None if value is None else parse_duration(value))
KeepAlive = Annotated[float | None, Seconds]
Think = Annotated[bool | str | None, BeforeValidator(_think)]
Texts = Annotated[list[str], BeforeValidator(_texts)]


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
    images: list[str] = []
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
    context: list[int] = []
    raw: bool = False
    images: list[str] = []


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
