"""How a request becomes a sequence: render, tokenize, truncate.

Runs in the thread that reads the socket, beside the engine: a long prompt delays no running stream.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect_left
from collections.abc import Sequence as Seq
from functools import lru_cache

import jinja2
import msgspec

from ..chat.conversation import Conversation, Infill, Message
from ..chat.format import ChatFormat
from ..chat.parse.parser import OutputParser, OutputStart
from ..chat.parse.registry import CONTENT, THINKING, make_parser
from ..chat.render.jinja import ChatTemplate, PlainTemplate
from ..errors import BadRequest, LoadFailed
from ..protocol import Submit
from .llama.interface import LanguageModel
from .sampling.sampler import check
from .sequence import Sequence, cut_middle

# Texts whose tokens are kept: a text is measured before it is used, and often comes again.
TEXTS_KEPT = 8
# Compiled templates that are kept: the model's own and those of requests.
TEMPLATES_KEPT = 8
TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the "
    "prompt, adjust the context length in settings, or use a model with a longer context length"
)


class InputProcessor:
    """Makes sequences with the template and the vocabulary of one model."""

    def __init__(self, model: LanguageModel, num_ctx: int) -> None:
        self._model = model
        self._num_ctx = num_ctx
        self._bos, self._eos = self._text_of(model.bos), self._text_of(model.eos)
        self._compile = lru_cache(TEMPLATES_KEPT)(self._compile_anew)
        self._template("")  # raises LoadFailed now, not for a request
        self._tokenize = lru_cache(TEXTS_KEPT)(self._tokenize_anew)

    def _text_of(self, token: int) -> str:
        return self._model.piece(token, special=True).decode() if token >= 0 else ""

    def _template(self, source: str) -> ChatTemplate | PlainTemplate:
        """The template of a request, or with "" the model's. Raises BadRequest or LoadFailed."""
        try:
            return self._compile(source or self._model.chat_template)
        except jinja2.TemplateSyntaxError as error:
            if source:
                raise BadRequest(f"the template of the request cannot be read: {error}") from error
            raise LoadFailed(f"the model's chat template cannot be read: {error}") from error

    def _compile_anew(self, source: str | None) -> ChatTemplate | PlainTemplate:
        if source is None:
            return PlainTemplate()
        return ChatTemplate(source, bos=self._bos, eos=self._eos)

    def render(self, submit: Submit) -> str:
        """The prompt as text. Raises BadRequest."""
        return self._earlier(submit.context) + self._fitting(submit)

    def prepare(self, submit: Submit) -> Sequence:
        """A sequence that fits the context, without its grammar. Raises BadRequest."""
        text = self.render(submit)
        tokens = array("i", self._tokenize(text))
        if not tokens:
            raise BadRequest("the prompt is empty: there is nothing to continue")
        limits = submit.limits
        num_keep = limits.num_keep + self._model.adds_bos
        if len(tokens) > self._num_ctx - 1:
            if not (limits.truncate and limits.shift):
                raise BadRequest(TOO_LONG)
            tokens = cut_middle(tokens, num_keep, self._num_ctx)
        sampling = submit.sampling
        check(sampling)
        if sampling.seed < 0:
            sampling = msgspec.structs.replace(sampling, seed=random.getrandbits(32))
        return Sequence(
            id=submit.id,
            tokens=tokens,
            sampling=sampling,
            limits=msgspec.structs.replace(limits, num_keep=num_keep),
            num_ctx=self._num_ctx,
            num_logprobs=submit.num_logprobs,
            draft_limit=submit.draft_limit,
            draft_fixed=submit.draft_fixed,
            parser=self._parser(submit, text),
        )

    def format_of(self, submit: Submit) -> ChatFormat:
        """The request's format with the parser that it really gets."""
        chat, name = submit.prompt, submit.format.parser
        if not isinstance(chat, Conversation):
            name = CONTENT
        elif not name and chat.think and self._template(submit.format.template).thinks:
            name = THINKING
        return msgspec.structs.replace(submit.format, parser=name)

    def _parser(self, submit: Submit, prompt: str) -> OutputParser:
        chat, chat_format = submit.prompt, self.format_of(submit)
        start = OutputStart(prompt, format=chat_format)
        if isinstance(chat, Conversation):
            start = OutputStart(prompt, chat.tools, chat.think, chat_format)
        return make_parser(chat_format.parser, start, chat)

    def _fitting(self, submit: Submit) -> str:
        """The rendered prompt, without the oldest messages if they do not fit (CONTRACT 1.4)."""
        if isinstance(submit.prompt, Infill):
            raise BadRequest("this model cannot fill a gap: leave out the suffix")
        if not isinstance(submit.prompt, Conversation):
            return submit.prompt.text
        messages, think = submit.prompt.messages, submit.prompt.think
        template = self._template(submit.format.template)
        tools = [tool.definition for tool in submit.prompt.tools]
        droppable = [i for i, m in enumerate(messages[:-1]) if m.role != "system"]

        def without(count: int) -> str:
            dropped = set(droppable[:count])
            kept = [_as_dict(m) for i, m in enumerate(messages) if i not in dropped]
            return template.render(kept, tools=tools, think=think)

        def fits(text: str) -> bool:
            return len(self._tokenize(text)) <= self._num_ctx

        text = without(0)
        if not submit.limits.truncate or fits(text):
            return text
        counts = range(len(droppable))
        return without(bisect_left(counts, True, key=lambda count: fits(without(count))))

    def _tokenize_anew(self, text: str) -> list[int]:
        """Tokenize; the BOS is not added to one that the template wrote (GUIDE 8.2)."""
        has_bos = bool(self._bos) and text.startswith(self._bos)
        return self._model.tokenize(text, add_bos=self._model.adds_bos and not has_bos)

    def _earlier(self, tokens: Seq[int]) -> str:
        """The text of `context` tokens from an earlier answer."""
        if not all(0 <= token < self._model.num_tokens for token in tokens):
            raise BadRequest("context holds tokens that this model does not have")
        pieces = (self._model.piece(token, special=True) for token in tokens)
        return b"".join(pieces).decode("utf-8", "replace")


def _as_dict(message: Message) -> dict[str, object]:
    """A message as Hugging Face templates expect it; empty parts are left out."""
    plain: dict[str, object] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        plain["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_name:
        plain["name"] = message.tool_name
    if message.tool_call_id:
        plain["tool_call_id"] = message.tool_call_id
    return plain
