"""How a request becomes a sequence: render, tokenize, truncate.

Runs in threads beside the engine: a long prompt delays no running stream.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence as Seq
from functools import lru_cache

import msgspec

from ..chat.conversation import Conversation, Infill, RawPrompt
from ..chat.format import ChatFormat
from ..chat.parse.parser import OutputStart, ParserFamily
from ..chat.parse.registry import family_of
from ..errors import BadRequest
from ..protocol import Submit
from .llama.interface import LanguageModel
from .rendering.messages import Render, RenderRequest
from .sampling.sampler import check
from .sequence import Sequence, cut_middle
from .truncation import shorten

# Texts whose tokens are kept: a text is measured before it is used, and often comes again.
TEXTS_KEPT = 8
MARKERS_KEPT = 64  # sets of marker tokens
WORDS_KEPT = 64  # words with the tokens that spell them
BEFORE_WORD = ("", " ", "\n")  # texts before a word that may change its token
TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the "
    "prompt, adjust the context length in settings, or use a model with a longer context length "
    "(the prompt has {} tokens, the context {})"
)


class InputProcessor:
    """Makes sequences with the vocabulary of one model; any thread may use it."""

    def __init__(self, model: LanguageModel, num_ctx: int, render: Render) -> None:
        self._model = model
        self._num_ctx = num_ctx
        self._render = render
        self._bos, self._eos = self._text_of(model.bos), self._text_of(model.eos)
        self._tokenize = lru_cache(TEXTS_KEPT)(self._tokenize_anew)
        self._marker_tokens = lru_cache(MARKERS_KEPT)(self._find_marker_tokens)
        self._spellings = lru_cache(WORDS_KEPT)(self._find_spellings)

    def render(self, submit: Submit) -> tuple[str, int]:
        """The prompt as text, and its number of tokens. Raises BadRequest and TemplateFailed."""
        text, _ = self._fitting(submit)
        return text, len(self._tokenize(text))

    def prepare(self, submit: Submit) -> Sequence:
        """A sequence that fits the context, without its grammar.

        Raises BadRequest and TemplateFailed.
        """
        text, num_dropped = self._fitting(submit)
        whole = tokens = array("i", self._tokenize(text))
        if not tokens:
            raise BadRequest("the prompt is empty: there is nothing to continue")
        limits = submit.limits
        num_keep = len(tokens) if limits.num_keep < 0 else limits.num_keep + self._model.adds_bos
        if len(tokens) > self._num_ctx - 1:
            if not (limits.truncate and limits.shift):
                raise BadRequest(TOO_LONG.format(len(tokens), self._num_ctx))
            tokens = cut_middle(tokens, num_keep, self._num_ctx)
        num_cut = len(whole) - len(tokens)
        sampling = submit.sampling
        check(sampling)
        if sampling.seed < 0:
            sampling = msgspec.structs.replace(sampling, seed=random.getrandbits(32))
        start = _output_start(submit, text)
        family = family_of(start.format.parser)
        return Sequence(
            id=submit.id,
            tokens=tokens,
            sampling=sampling,
            limits=msgspec.structs.replace(limits, num_keep=num_keep),
            num_ctx=self._num_ctx,
            num_logprobs=submit.num_logprobs,
            scored=tuple(map(self._spellings, submit.scored)),
            draft_limit=submit.draft_limit,
            draft_fixed=submit.draft_fixed,
            parser=family.make(start),
            marker_tokens=self._marker_tokens(family, start.format),
            num_dropped=num_dropped,
            num_cut=num_cut,
            stops_loops=not isinstance(submit.prompt, RawPrompt),
        )

    def _fitting(self, submit: Submit) -> tuple[str, int]:
        """The prompt that fits the context if it can be made to (CONTRACT 1.4), and the number of
        messages that were dropped for that."""
        earlier, prompt = self._earlier(submit.context), submit.prompt
        if isinstance(prompt, RawPrompt):
            return earlier + prompt.text, 0
        chat_format = submit.format
        if not chat_format.template:
            own = self._model.chat_template or ""
            chat_format = msgspec.structs.replace(chat_format, template=own)

        def text_of(prompt: Conversation | Infill) -> str:
            return self._render(RenderRequest(chat_format, prompt, self._bos, self._eos))

        def fits(conversation: Conversation) -> bool:
            return len(self._tokenize(earlier + text_of(conversation))) < self._num_ctx

        num_dropped = 0
        if isinstance(prompt, Conversation) and submit.limits.truncate:
            prompt, num_dropped = shorten(prompt, fits)
        return earlier + text_of(prompt), num_dropped

    def _text_of(self, token: int) -> str:
        return self._model.piece(token, special=True).decode() if token >= 0 else ""

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

    def _find_marker_tokens(self, family: ParserFamily, chat_format: ChatFormat) -> frozenset[int]:
        """The special tokens that the parser has to see as text (CONTRACT 8.5)."""
        tags = (chat_format.think_open, chat_format.think_close, chat_format.call_tag)
        found = (self._tokenize_anew(text) for text in {*family.markers, *tags} if text)
        return frozenset(
            tokens[-1]
            for tokens in found
            if len(tokens) == 1 + self._model.adds_bos and not self._model.piece(tokens[-1])
        )

    def _find_spellings(self, word: str) -> tuple[int, ...]:
        """The single tokens that are this word, with or without a blank in front.

        Raises BadRequest if there is none.
        """
        last = (self._model.tokenize(before + word, add_bos=False)[-1:] for before in BEFORE_WORD)
        tokens = {token for tokens in last for token in tokens}
        found = {
            t for t in tokens if self._model.piece(t).decode("utf-8", "replace").strip() == word
        }
        if not found:
            raise BadRequest(f'no single token of this model is "{word}"')
        return tuple(sorted(found))


def _output_start(submit: Submit, prompt: str) -> OutputStart:
    """What the parser knows; the output of a raw prompt is all content (CONTRACT 1.2)."""
    chat = submit.prompt
    if not isinstance(chat, Conversation):
        return OutputStart(prompt)
    return OutputStart(prompt, chat.tools, chat.think, submit.format)
