"""How a JSON body becomes the fields of a request, and how a bad body is refused (CONTRACT 0)."""

from __future__ import annotations

import json
import re
from typing import NoReturn, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ..errors import BadRequest, TooLarge

R = TypeVar("R", bound="WireModel")

SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
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


async def read(
    request: web.Request,
    kind: type[R],
    *,
    if_empty: str = "missing request body",
    max_bytes: int | None = None,
) -> R:
    """The request's body, whatever its Content-Type; `max_bytes` None: as large as any body may be.

    Raises BadRequest and TooLarge.
    """
    body = (await _read_bytes(request, max_bytes)).decode("utf-8", "replace")
    body = body.lstrip("\ufeff \t\r\n")
    if not body:
        raise BadRequest(if_empty)
    try:
        return kind.model_validate(_parse(body))
    except RecursionError:
        raise BadRequest("the JSON is nested too deeply") from None
    except ValidationError as error:
        raise BadRequest(_explain(error)) from None
    except ValueError as error:
        raise BadRequest(f"invalid JSON: {error}") from None


async def _read_bytes(request: web.Request, max_bytes: int | None) -> bytes:
    limit = request.client_max_size if max_bytes is None else max_bytes
    try:
        data = await request.read()
    except web.HTTPRequestEntityTooLarge:
        data = None
    except web.RequestPayloadError as error:
        raise unreadable(error) from error
    if data is None or len(data) > limit:
        size = f"{limit >> 20} MiB" if limit >> 20 else f"{limit >> 10} KiB"
        raise TooLarge(f"the request body is too large: at most {size} are read")
    return data


def unreadable(error: web.RequestPayloadError) -> BadRequest:
    """What a client is told whose body is cut off, badly encoded, or too slow."""
    reason = str(error).partition("message:")[2].strip() or str(error)
    return BadRequest(f"the request body cannot be read: {reason}")


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
