"""How do OpenAI's parameters become options, and its response format a JSON schema?"""

from __future__ import annotations

import msgspec

from ...errors import BadRequest
from ...options import Options
from ...runners.model_info import ModelInfo
from ..request import ANY_OBJECT, answer_schema
from .messages import think_of
from .wire import ChatCompletionRequest, ResponseFormat, TextCompletionRequest

COPIED = (  # parameters that have the name of the option
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "frequency_penalty",
    "presence_penalty",
)


def read_options(info: ModelInfo, body: ChatCompletionRequest | TextCompletionRequest) -> Options:
    """The options of a request over those of the model; the context is the model's or the daemon's.

    Raises OptionError if the model states an option of a wrong type.
    """
    given: dict[str, object] = {name: getattr(body, name) for name in COPIED}
    given |= {"num_predict": max_tokens(body), "stop": body.stop or None}
    bias = tuple((int(token), value) for token, value in body.logit_bias.items())
    return msgspec.structs.replace(Options.merge(info.model.params, given), logit_bias=bias)


def max_tokens(body: ChatCompletionRequest | TextCompletionRequest) -> int | None:
    """The limit of generated tokens; `max_completion_tokens` is the newer name of `max_tokens`."""
    if body.max_tokens is None and isinstance(body, ChatCompletionRequest):
        return body.max_completion_tokens
    return body.max_tokens


def read_think(body: ChatCompletionRequest) -> bool | str | None:
    """The wish for thinking: `reasoning` goes before `reasoning_effort`.

    Both go before the template's `enable_thinking`, by which clients of other servers say it.
    Raises BadRequest.
    """
    effort = body.reasoning.effort if body.reasoning else body.reasoning_effort
    return think_of(effort) if effort else body.chat_template_kwargs.enable_thinking


def response_schema(response_format: ResponseFormat | None) -> str:
    """The JSON schema that the answer follows; "" for free text. Raises BadRequest."""
    match response_format.type if response_format else "text":
        case "text":
            return ""
        case "json_object":
            return ANY_OBJECT
        case "json_schema" if response_format:
            named = response_format.json_schema
            if named is None or named.definition is None:
                raise BadRequest("response_format needs `json_schema.schema`, a JSON schema")
            return answer_schema(named.definition)
        case other:
            raise BadRequest(
                f'invalid response_format type: "{other}" '
                '(must be "text", "json_object" or "json_schema")'
            )
