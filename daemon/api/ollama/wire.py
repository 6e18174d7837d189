"""The fields of Ollama's requests, and how a bad request is refused (CONTRACT 0 and 1)."""

from __future__ import annotations

import json
import re
from typing import Annotated, NoReturn, TypeVar

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ...duration import parse_duration
from ...errors import BadRequest, TooLarge

R = TypeVar("R", bound="WireModel")

LEVELS = ("high", "medium", "low", "max")
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


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
JsonObject = dict[str, object]


class WireModel(BaseModel):
    """A JSON object: keys match in any case, null means "not given", unknown keys are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, data: object) -> object:
        if data is None:
            return {}
        if not isinstance(data, dict):
            return data
        return {str(key).lower(): value for key, value in data.items() if value is not None}


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
    insecure: bool = False  # plain HTTP, which is refused
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


async def read(request: web.Request, kind: type[R]) -> R:
    """The request's body, whatever its Content-Type. Raises BadRequest and TooLarge."""
    try:
        body = (await request.read()).decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    except web.HTTPRequestEntityTooLarge:
        limit = request.client_max_size >> 20
        raise TooLarge(f"the request body is too large: at most {limit} MiB are read") from None
    if not body:
        raise BadRequest("missing request body")
    try:
        return kind.model_validate(_parse(body))
    except RecursionError:
        raise BadRequest("the JSON is nested too deeply") from None
    except ValidationError as error:
        raise BadRequest(_explain(error)) from None
    except ValueError as error:
        raise BadRequest(f"invalid JSON: {error}") from None


def _parse(body: str) -> object:
    """The first JSON value in the body. Raises ValueError.

    A lone surrogate, as sent by clients that cut a string inside an emoji, becomes U+FFFD, because
    UTF-8 cannot encode it.
    """
    value: object = json.JSONDecoder(parse_constant=_refuse).raw_decode(body)[0]
    if not SURROGATE.search(body):
        return value
    halves = json.dumps(value, ensure_ascii=False).encode("utf-16-le", "surrogatepass")
    return json.loads(halves.decode("utf-16-le", "replace"))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    place = ".".join(str(part) for part in first["loc"]) or "the request"
    return f"json: {place}: {first['msg']}"
