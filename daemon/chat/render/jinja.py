"""How a Jinja chat template turns messages into a prompt (GUIDE 8.2)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ...errors import BadRequest

# The exceptions that an expression in a template can raise. A bad template must not end the runner.
FAULTS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


class ChatTemplate:
    """A compiled chat template. It is sandboxed, because it comes from a downloaded file."""

    def __init__(self, source: str, *, bos: str, eos: str) -> None:
        """`bos` and `eos` are the texts of these tokens. Raises jinja2.TemplateSyntaxError."""
        env = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        env.filters["tojson"] = _to_json
        env.filters["from_json"] = json.loads
        env.globals["raise_exception"] = _refuse
        env.globals["strftime_now"] = lambda layout: datetime.now().strftime(layout)
        self._template = env.from_string(source)
        self._tokens = {"bos_token": bos, "eos_token": eos}
        self.thinks = "<think>" in source and "</think>" in source  # CONTRACT 8.3

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] = (),
        think: bool | str | None,
    ) -> str:
        """The prompt, up to where the assistant begins. Raises BadRequest if the template fails."""
        facts: dict[str, object] = {"tools": tools} if tools else {}
        if think is not None:
            facts["enable_thinking"] = bool(think)
        if isinstance(think, str):
            facts["reasoning_effort"] = think
        try:
            return self._template.render(
                messages=messages, add_generation_prompt=True, **self._tokens, **facts
            )
        except FAULTS as error:
            raise BadRequest(f"the model's chat template refused the messages: {error}") from error


class PlainTemplate:
    """Joins the contents with blank lines, for a model without a chat template."""

    thinks = False

    def render(self, messages: Sequence[Mapping[str, object]], **_: object) -> str:
        """The prompt of a base model, which knows neither tools nor thinking."""
        return "\n\n".join(str(message["content"]) for message in messages)


def _refuse(text: str) -> NoReturn:
    raise jinja2.TemplateError(text)


def _to_json(value: object, indent: int | None = None, **_options: object) -> str:
    """Plain JSON; the filter of jinja2 would escape it for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)
