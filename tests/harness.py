"""How do tests drive an engine in their own process, on real or on fake llama.cpp?"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec
from outrider.daemon.chat.conversation import Conversation, Message, RawPrompt
from outrider.daemon.chat.parse.json_call import JsonCallParser
from outrider.daemon.protocol import (
    Cancel,
    Delta,
    Done,
    Failed,
    Hold,
    Limits,
    Load,
    Logprob,
    Sampling,
    Stats,
    Step,
    Submit,
    ToFront,
    Working,
)
from outrider.daemon.runner.constraint_plan import plan_constraint
from outrider.daemon.runner.engine import Engine
from outrider.daemon.runner.grammar_queue import CompilingConstraint
from outrider.daemon.runner.input_processor import InputProcessor
from outrider.daemon.runner.llama.interface import LanguageModel, TargetDecoder
from outrider.daemon.runner.rendering.local import LocalRenderer
from outrider.daemon.runner.sampling.grammar import Grammar
from outrider.daemon.runner.sampling.grammar_compiler import GrammarCompiler
from outrider.daemon.runner.sampling.grammar_source import SchemaSource
from outrider.daemon.runner.speculation.controller import SpeculationController

GREEDY = Sampling(temperature=0.0)
MAX_TURNS = 5000  # after so many, an engine is taken to hang


def load_spec(gguf: Path, **changes: int | str | bool) -> Load:
    """Four slots of 512 tokens that share 2,048 cells, but for `changes`."""
    plain = Load(str(gguf), 512, cells=2048, slots=4, batch=128, threads=1)
    changes = {"kv_type": "f32", "host_cache_bytes": 1 << 26, "speculation": 0, **changes}
    return msgspec.structs.replace(plain, **changes)


def text_request(
    request_id: int,
    prompt: str,
    num_predict: int = 24,
    *,
    sampling: Sampling = GREEDY,
    limits: Limits | None = None,
    schema: str = "",
    num_logprobs: int | None = None,
) -> Submit:
    """A request for a plain continuation."""
    return Submit(
        id=request_id,
        prompt=RawPrompt(prompt),
        sampling=sampling,
        limits=limits or Limits(num_predict=num_predict),
        schema=schema,
        num_logprobs=num_logprobs,
    )


def chat_request(request_id: int, *texts: str, limits: Limits) -> Submit:
    """A chat whose turns alternate between user and assistant."""
    roles = ("user", "assistant")
    turns = tuple(Message(roles[i % 2], text) for i, text in enumerate(texts))
    return Submit(id=request_id, prompt=Conversation(turns), sampling=GREEDY, limits=limits)


def make_grammar(compiler: GrammarCompiler, schema: str) -> Grammar:
    """The grammar of one answer. Raises what is wrong with the schema."""
    return compiler.start(SchemaSource(schema)).result().copy()


class LoadedPair(Protocol):
    """A model and its context, real or fake."""

    model: LanguageModel
    context: TargetDecoder


@dataclass
class EngineHarness:
    """An engine, its input processor, and every message that it sent."""

    loaded: LoadedPair
    input: InputProcessor
    engine: Engine
    grammars: GrammarCompiler
    deltas: list[Delta] = field(default_factory=list)
    stats: list[Stats] = field(default_factory=list)  # as they were after each message
    failed: dict[int | None, Failed] = field(default_factory=dict)
    num_turns: int = 0
    refusal: str = ""  # why the requested drafter is not used

    def submit(self, *requests: Submit) -> None:
        for request in requests:
            sequence = self.input.prepare(request)
            if source := plan_constraint(request, self.grammars):
                if source.is_json_call:
                    sequence.parser = JsonCallParser(sequence.parser)
                sequence.constraint = CompilingConstraint(source, self.grammars).make()
            self.engine.submit(sequence)

    def turn(self) -> None:
        self.engine.turn()
        self.num_turns += 1
        assert self.num_turns < MAX_TURNS, "the engine does not come to an end"

    def finish(self, count: int) -> dict[int, str]:
        """Turn until `count` requests are done; their texts by id."""
        while len(self.done) + len(self.failed) < count:
            self.turn()
        return self.texts

    def run(self, *requests: Submit) -> dict[int, str]:
        """The texts of these requests, decoded together."""
        self.submit(*requests)
        return self.finish(len(self.done) + len(self.failed) + len(requests))

    def cancel(self, request_id: int) -> None:
        self.engine.cancel(Cancel(request_id))

    def hold(self, request_id: int, *, is_held: bool) -> None:
        self.engine.hold(Hold(request_id, is_held))

    @property
    def done(self) -> dict[int, Done]:
        return {delta.id: delta.done for delta in self.deltas if delta.done}

    @property
    def texts(self) -> dict[int, str]:
        ids = {delta.id for delta in self.deltas}
        return {i: "".join(d.text for d in self.deltas if d.id == i) for i in ids}

    def logprobs(self, request_id: int) -> list[Logprob]:
        """One for each token of a request, as far as it asked for them."""
        return [lp for delta in self.deltas if delta.id == request_id for lp in delta.logprobs]


@contextmanager
def drive(
    loaded: LoadedPair, load: Load, speculation: SpeculationController
) -> Iterator[EngineHarness]:
    """An engine on this model and context, which are closed at the end."""
    deltas: list[Delta] = []
    stats: list[Stats] = []
    failed: dict[int | None, Failed] = {}

    def collect(message: ToFront) -> None:
        if isinstance(message, Failed):
            failed[message.id] = message
            return
        if isinstance(message, Working):
            return
        assert isinstance(message, Step), message
        deltas.extend(message.deltas)
        stats.append(copy.copy(message.stats or Stats()))

    engine = Engine(loaded.model, loaded.context, load, collect, speculation)
    processor = InputProcessor(loaded.model, load.num_ctx, LocalRenderer())
    try:
        grammars, refusal = GrammarCompiler(loaded.model), speculation.refusal
        yield EngineHarness(
            loaded, processor, engine, grammars, deltas, stats, failed, refusal=refusal
        )
    finally:
        speculation.close()
        loaded.context.close()
        loaded.model.close()
