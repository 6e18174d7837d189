"""How does what an answer follows become a grammar, without holding up anyone else?"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from ...errors import BadRequest
from ..llama.interface import LanguageModel
from .grammar import Grammar, error_of, problem_of
from .grammar_source import GrammarSource, causes

# Schemas that compile at the same time: a large one leaves a thread to the small ones. llguidance
# releases the GIL, and its own limits end any compilation: 4,000 optional properties take 2 s.
COMPILE_THREADS: Final = 2
# Compiled grammars that are kept; 4,000 optional properties take 22 MB (measured), and an answer
# after a thought needs up to four grammars.
MAX_CACHED: Final = 16
# Compilations of one schema, each without more of the keywords that llguidance has refused.
MAX_ROUNDS: Final = 8

# 4,000 optional properties put 16,000 items into one row of the parser (measured).
MAX_ITEMS_IN_ROW: Final = 20_000
# Items of one step; llguidance makes 20,000 in a millisecond, and all streams wait for a step.
STEP_MAX_ITEMS: Final = 500_000
# Steps of the lexer in one mask; 14,000 take a millisecond.
STEP_LEXER_FUEL: Final = 1_000_000
# Steps in which the lexer is built; 50,000 take a millisecond.
INITIAL_LEXER_FUEL: Final = 20_000_000
MAX_GRAMMAR_SIZE: Final = 5_000_000  # symbols

log = logging.getLogger("outrider.runner.grammar")


def parser_limits() -> LLParserLimits:
    """Limits that large schemas of everyday use stay below."""
    return LLParserLimits(
        max_items_in_row=MAX_ITEMS_IN_ROW,
        step_max_items=STEP_MAX_ITEMS,
        step_lexer_fuel=STEP_LEXER_FUEL,
        initial_lexer_fuel=INITIAL_LEXER_FUEL,
        max_grammar_size=MAX_GRAMMAR_SIZE,
        verbose_errors=False,
    )


class GrammarCompiler:
    """Compiles grammars in threads of its own, each one once as long as it is remembered."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._tokenizer: LLTokenizer | None = None  # the vocabulary; built when first used
        self._building = threading.Lock()
        self._threads = ThreadPoolExecutor(COMPILE_THREADS, "grammar")
        self._compiled: OrderedDict[bytes, Future[Grammar]] = OrderedDict()  # by digest

    def start(self, source: GrammarSource) -> Future[Grammar]:
        """Compile a grammar, of which each answer needs a copy.

        To be called from one thread. The result raises InvalidFormat with the reason, BadRequest
        if the model's vocabulary cannot follow any grammar.
        """
        digest = source.digest
        known = self._compiled.get(digest)
        if known is None or (known.done() and known.exception()):
            known = self._compiled[digest] = self._threads.submit(self._compile, source)
        self._compiled.move_to_end(digest)
        if len(self._compiled) > MAX_CACHED:
            self._compiled.popitem(last=False)
        return known

    def tokens_of(self, text: str) -> list[int]:
        """The tokens of a text, with special tokens recognised."""
        return self._model.tokenize(text, add_bos=False)

    def special_of(self, markers: Iterable[str]) -> frozenset[str]:
        """The markers that are special tokens, which a grammar must name as such.

        Builds the vocabulary when first used. Raises BadRequest if it cannot follow any grammar.
        """
        vocabulary = TokenizerVocabulary(self._model, self._vocabulary())
        tokens = ((marker, vocabulary.tokens(marker)) for marker in markers)
        return frozenset(
            marker for marker, ids in tokens if len(ids) == 1 and vocabulary.is_special(ids[0])
        )

    def _compile(self, source: GrammarSource) -> Grammar:
        """Without the keywords that llguidance refuses, one more in each round."""
        tokenizer, leave_out = self._vocabulary(), list[str]()
        vocabulary = TokenizerVocabulary(self._model, tokenizer)
        for _ in range(MAX_ROUNDS):
            wording = source.word(vocabulary, leave_out)
            limits = parser_limits()
            matcher = LLMatcher(tokenizer, wording.grammar, log_level=0, limits=limits)
            if not matcher.is_error():
                _log_passed_over(wording.passed_over)
                return Grammar(matcher, self._model.num_tokens)
            further = [word for word in causes(problem_of(matcher)) if word not in leave_out]
            if not further:
                break
            leave_out.append(further[0])
        raise error_of(matcher)

    def _vocabulary(self) -> LLTokenizer:
        with self._building:
            try:
                self._tokenizer = self._tokenizer or self._model.grammar_tokenizer()
            except ValueError as error:
                raise BadRequest(f"this model cannot follow a format: {error}") from error
            return self._tokenizer


class TokenizerVocabulary:
    """A grammar_source.Vocabulary of a model."""

    def __init__(self, model: LanguageModel, tokenizer: LLTokenizer) -> None:
        self._model = model
        self._tokenizer = tokenizer

    def tokens(self, text: str) -> list[int]:
        return self._model.tokenize(text, add_bos=False)

    def is_special(self, token: int) -> bool:
        return bool(self._tokenizer.is_special_token(token))

    def piece(self, token: int) -> str:
        return self._model.piece(token, special=True).decode("utf-8", "replace")


def _log_passed_over(keywords: Iterable[str]) -> None:
    if listed := ", ".join(keywords):
        log.warning("the answer does not follow all of its schema; passed over: %s", listed)
