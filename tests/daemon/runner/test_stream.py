"""One request's stream: what becomes of its tokens, whenever its text is asked for."""

from __future__ import annotations

import json
from array import array

import numpy as np
import pytest
from harness import GREEDY, make_grammar
from outrider.daemon.chat.parse.parser import ContentParser
from outrider.daemon.chat.parse.thinking import ThinkingParser
from outrider.daemon.protocol import Limits
from outrider.daemon.runner.llama.model import LlamaModel
from outrider.daemon.runner.sampling.constraint import Constraint
from outrider.daemon.runner.sampling.grammar_compiler import GrammarCompiler
from outrider.daemon.runner.sequence import Sequence
from outrider.daemon.runner.stream import Stream

pytestmark = [
    pytest.mark.model,
    pytest.mark.filterwarnings("ignore:llama_token_get_attr"),
]  # llguidance calls it
SCHEMA = '{"enum": [{"a": 1}]}'
EVERY = (1, 3, 1000)  # tokens, after which the text so far is asked for


def sequence(*, thinks: bool = False, stop: tuple[str, ...] = ()) -> Sequence:
    parser = ThinkingParser(opened=True) if thinks else ContentParser()
    limits = Limits(num_predict=500, stop=stop)
    return Sequence(1, array("i", [0]), GREEDY, limits, num_ctx=1000, parser=parser)


def tell(stream: Stream, model: LlamaModel, text: str, *, every: int) -> tuple[str, str, str]:
    """The model would like to say this; why it ended, what it thought, and what it said."""
    deltas, reason = [], ""
    for number, token in enumerate(model.tokenize(text, add_bos=False), 1):
        row = np.zeros(model.num_tokens, np.float32)
        row[token] = 1
        if reason := stream.sample(row):
            break
        if number % every == 0:
            deltas.append(stream.delta())
    parts = [delta for delta in (*deltas, stream.finish(reason, None)) if delta]
    return reason, "".join(p.thinking for p in parts), "".join(p.text for p in parts)


@pytest.mark.parametrize("every", EVERY)
def test_a_grammar_binds_from_the_token_after_the_thinking_on(
    model: LlamaModel, every: int
) -> None:
    seq = sequence(thinks=True)
    seq.constraint = Constraint(make_grammar(GrammarCompiler(model), SCHEMA))
    liked = "[1] is {free}</think>" + "[" * 300
    reason, thought, said = tell(Stream(seq, model), model, liked, every=every)
    assert (reason, thought) == ("stop", "[1] is {free}")
    assert json.loads(said) == {"a": 1}


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize(
    ("stop", "reason", "said"),
    [
        ((), "", "Zwölf € 🙂 and on"),
        (("and",), "stop", "Zwölf € 🙂 "),
        (("🙂", "€"), "stop", "Zwölf "),
    ],
)
def test_a_text_does_not_depend_on_when_it_is_asked_for(
    model: LlamaModel, stop: tuple[str, ...], reason: str, said: str, every: int
) -> None:
    stream = Stream(sequence(thinks=True, stop=stop), model)
    found = tell(stream, model, "hm</think>\n\nZwölf € 🙂 and on", every=every)
    assert found == (reason, "hm", said)


def test_a_thought_that_ends_the_output_does_not_end_an_answer_with_a_schema(
    model: LlamaModel,
) -> None:
    """Without a grammar the end counts anywhere."""
    end = next(token for token in range(model.num_tokens) if model.is_end(token))
    row = np.zeros(model.num_tokens, np.float32)
    row[end], row[model.tokenize("a", add_bos=False)[0]] = 2, 1
    seq = sequence(thinks=True)
    assert Stream(seq, model).sample(row) == "stop"
    seq = sequence(thinks=True)
    seq.constraint = Constraint(make_grammar(GrammarCompiler(model), SCHEMA))
    stream = Stream(seq, model)
    assert [stream.sample(row) for _ in range(3)] == [""] * 3
    delta = stream.finish("stop", None)
    assert (delta.thinking, delta.text) == ("aaa", "")
