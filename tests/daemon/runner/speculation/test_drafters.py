"""Drafters with weights: they change the speed, never the answer, and a wrong one is refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import pytest
from engines import open_engine
from harness import GREEDY, EngineHarness, load_spec, text_request
from outrider.daemon.protocol import Limits, Load, Sampling, Submit
from outrider.daemon.runner.batch import Hidden
from outrider.daemon.runner.llama.draft_contexts import EagleContext, NextnContext
from outrider.daemon.runner.sampling.sampler import Sampler
from outrider.daemon.runner.speculation.drafter_loading import load_drafter
from outrider.daemon.runner.speculation.drafters.drafter import (
    DraftForward,
    DraftRequest,
    SelectNext,
)
from outrider.daemon.runner.speculation.drafters.head import MAX_HIDDEN_ROWS, HeadDrafter
from tiny import write_llama
from tiny_eagle import write_eagle3
from tiny_gemma import write_gemma3, write_gemma4, write_gemma4_assistant
from tiny_recurrent import write_mamba, write_qwen35

pytestmark = pytest.mark.model

PHRASE = "over the hills and far away, the quick brown fox jumps over the lazy dog, and then "
SEEDED = Sampling(temperature=0.9, top_k=20, seed=8)
PENALISED = Sampling(temperature=0.7, seed=11, repeat_penalty=1.2, presence_penalty=0.3)
MIROSTAT = Sampling(mirostat=2, temperature=0.8, seed=5)


@dataclass(frozen=True, slots=True)
class Pair:
    """A target, who drafts for it, and what that one is called."""

    target: Path
    drafter: Path | None  # None: a head of the target's own
    name: str

    def load(self, **changes: int) -> Load:
        draft = str(self.drafter or "")
        return load_spec(self.target, draft=draft, mtp=not draft, **changes)


def with_assistant(**variant: int) -> Callable[[Path], Pair]:
    def build(folder: Path) -> Pair:
        target = write_gemma4(folder / "target.gguf", **variant)
        return Pair(target, write_gemma4_assistant(folder / "mtp.gguf", target), "assistant")

    return build


def with_itself(write: Callable[[Path], Path]) -> Callable[[Path], Pair]:
    def build(folder: Path) -> Pair:
        target = write(folder / "target.gguf")
        return Pair(target, target, "model")

    return build


def with_head(experts: int = 0) -> Callable[[Path], Pair]:
    """A hybrid, whose state can be taken back a few tokens."""

    def build(folder: Path) -> Pair:
        target = write_qwen35(folder / "target.gguf", with_head=True, experts=experts)
        return Pair(target, None, "nextn")

    return build


def with_eagle(write: Callable[[Path], Path]) -> Callable[[Path], Pair]:
    def build(folder: Path) -> Pair:
        target = write(folder / "target.gguf")
        return Pair(target, write_eagle3(folder / "eagle.gguf", target), "eagle3")

    return build


def with_hybrid(folder: Path) -> Pair:
    target = write_qwen35(folder / "target.gguf")
    return Pair(target, write_llama(folder / "small.gguf"), "model")


def with_stranger(folder: Path) -> Pair:
    """A drafter that has never heard of what its target says."""
    target = write_llama(folder / "target.gguf")
    return Pair(target, write_llama(folder / "other.gguf", seed=5), "model")


PAIRS: dict[str, Callable[[Path], Pair]] = {
    "assistant": with_assistant(),
    "assistant-shared-kv": with_assistant(shared_kv_layers=2, per_layer_embd=16),
    "assistant-moe": with_assistant(experts=4),
    "llama-itself": with_itself(write_llama),
    "gemma3-itself": with_itself(write_gemma3),
    "stranger": with_stranger,
    "head": with_head(),
    "head-moe": with_head(experts=4),
    "hybrid": with_hybrid,
    "eagle": with_eagle(write_gemma4),
    "eagle-hybrid": with_eagle(partial(write_qwen35, with_head=True)),
}


@pytest.fixture(scope="module", params=PAIRS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return PAIRS[request.param](tmp_path_factory.mktemp(request.param))


def requests() -> list[Submit]:
    """Of every kind, for eight slots."""
    kinds: list[tuple[Sampling, Limits | None, int | None]] = [
        (GREEDY, None, None),
        (SEEDED, None, 3),
        (PENALISED, None, None),
        (MIROSTAT, None, None),
        (GREEDY, Limits(num_predict=60, stop=("q", "zz")), 0),
        (GREEDY, Limits(num_predict=1), None),
        (SEEDED, Limits(num_predict=150), None),
        (GREEDY, Limits(num_predict=64), 2),
    ]
    return [
        text_request(i, PHRASE[i:], 48, sampling=sampling, limits=limits, num_logprobs=logprobs)
        for i, (sampling, limits, logprobs) in enumerate(kinds)
    ]


def answers(harness: EngineHarness) -> dict[int, object]:
    """All that a client sees, but for times and the batches that text came in."""
    return {
        i: (
            harness.texts[i],
            done.reason,
            done.eval_tokens,
            done.context,
            [entry.piece for entry in harness.logprobs(i)],
        )
        for i, done in harness.done.items()
    }


def plain(pair: Pair, slots: int) -> dict[int, object]:
    with open_engine(load_spec(pair.target, slots=slots, cells=4096)) as harness:
        harness.run(*requests())
        return answers(harness)


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_the_answers_are_those_of_plain_decoding(pair: Pair, slots: int) -> None:
    expected = plain(pair, slots)
    for length in (1, 4, 8):
        with open_engine(pair.load(speculation=length, slots=slots, cells=4096)) as harness:
            harness.run(*requests())
            assert answers(harness) == expected
            told = harness.done[6].speculation_report
            assert told
            assert told.drafter == pair.name
            assert told.drafted > 0
            assert harness.stats[-1].accepted_tokens > 0


def test_a_drafter_that_knows_the_target_is_always_right(tmp_path: Path) -> None:
    """Also when tokens are drawn: both draw with the same noise."""
    pair = with_itself(write_llama)(tmp_path)
    for sampling in (GREEDY, SEEDED, PENALISED, MIROSTAT):
        load = pair.load(speculation=4)
        with open_engine(load) as harness:
            harness.run(text_request(0, PHRASE, 100, sampling=sampling))
            told = harness.done[0].speculation_report
        assert told
        if sampling.mirostat:  # whose mu only a drawn token moves
            assert told.accepted > 0.5 * told.drafted
        else:
            assert told.accepted == told.drafted


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED, PENALISED])
def test_what_would_have_been_guessed_is_what_was_said(tmp_path: Path, sampling: Sampling) -> None:
    """By a drafter that knows the target and has only watched so far."""
    pair = with_itself(write_llama)(tmp_path)
    with open_engine(load_spec(pair.target)) as harness:
        drafter = load_drafter(harness.loaded, pair.load())
        sequence = harness.input.prepare(text_request(0, PHRASE, 60, sampling=sampling))
        harness.engine.submit(sequence)
        while len(sequence.output_tokens) < 30:
            harness.turn()
        watched = drafter.pending(sequence)
        sampler = Sampler(sequence.sampling, num_tokens=harness.loaded.model.num_tokens)
        asked = DraftRequest(sequence, sampler, 12)
        calls = drafter.evaluate(asked)
        drafter.close()
    assert asked.tokens == list(sequence.tokens[-12:])
    assert sum(call.rows for call in calls) == watched - 1
    assert drafter.pending(sequence) == 1


def test_the_second_turn_of_a_chat_is_drafted_like_the_first(pair: Pair) -> None:
    """Its prefix comes from the cache, so the drafter sees only the end of it."""
    texts = []
    for load in (load_spec(pair.target), pair.load(speculation=4)):
        with open_engine(load) as harness:
            first = harness.run(text_request(0, PHRASE, 40))[0]
            second = harness.run(text_request(1, PHRASE + first + "more", 40))[1]
            assert harness.done[1].cached_tokens > 40
            texts.append((first, second))
            drafted = harness.stats[-1].drafted_tokens
    assert texts[0] == texts[1]
    assert drafted > 0


@pytest.mark.parametrize("length", [34, 35, 36])
def test_two_go_on_from_where_guesses_were_taken_back(pair: Pair, length: int) -> None:
    """One takes the sequence over, the other a copy of it."""
    with open_engine(load_spec(pair.target)) as harness:
        text = harness.run(text_request(0, PHRASE, 48))[0][:length]
    texts = []
    for speculation in (0, 4):
        with open_engine(pair.load(speculation=speculation)) as harness:
            harness.run(text_request(0, PHRASE, limits=Limits(num_predict=48, stop=(text[-3:],))))
            turns = [
                text_request(i, PHRASE + text + end, 24) for i, end in enumerate((" so", " but"), 1)
            ]
            texts.append(harness.run(*turns))
            assert all(harness.done[turn.id].cached_tokens > 80 for turn in turns)
    assert texts[0] == texts[1]


def test_the_context_shifts_in_the_same_places(pair: Pair) -> None:
    texts = []
    for speculation in (0, 4):
        with open_engine(pair.load(num_ctx=128, speculation=speculation)) as harness:
            texts.append(harness.run(text_request(0, PHRASE, 300, sampling=SEEDED)))
    assert texts[0] == texts[1]


def test_a_full_cache_changes_nothing(pair: Pair) -> None:
    """Five streams in cells for three: some start again, and drafting finds no cells at times."""
    texts = []
    for speculation in (0, 4):
        with open_engine(pair.load(cells=512, slots=5, speculation=speculation)) as harness:
            texts.append(harness.run(*(text_request(i, PHRASE[i:], 120) for i in range(5))))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("batch", [64, 1024])  # the prompt in many pieces, or as a whole
@pytest.mark.parametrize(("name", "kind"), [("head", NextnContext), ("eagle", EagleContext)])
def test_a_head_that_has_much_to_read_skips_the_oldest(
    name: str,
    kind: type[NextnContext | EagleContext],
    batch: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More than it keeps, so not all is copied; what is left it reads in several pieces."""
    pair, take, taken = PAIRS[name](tmp_path), kind.take, []

    def note(context: NextnContext | EagleContext, row: int) -> Hidden:
        taken.append(row)
        return take(context, row)

    monkeypatch.setattr(kind, "take", note)
    texts = []
    for speculation in (0, 4):
        load = pair.load(num_ctx=1024, batch=batch, speculation=speculation)
        with open_engine(load) as harness:
            texts.append(harness.run(text_request(0, PHRASE * 9, 40)))
            num_prompt = harness.done[0].prompt_tokens
            accepted = harness.stats[-1].accepted_tokens
    assert texts[0] == texts[1]
    assert accepted > 0
    assert MAX_HIDDEN_ROWS // 2 < len(taken) < num_prompt


def test_what_an_encoder_takes_is_part_of_what_a_draft_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause_s, fuse, draft = 0.02, EagleContext.fuse, HeadDrafter.draft
    calls: list[DraftForward] = []

    def fuse_slowly(context: EagleContext, taken: Sequence[Hidden]) -> Sequence[Hidden]:
        time.sleep(pause_s)
        return fuse(context, taken)

    def note(
        drafter: HeadDrafter, asks: Sequence[DraftRequest], select_next: SelectNext
    ) -> list[DraftForward]:
        made = draft(drafter, asks, select_next)
        calls.extend(made)
        return made

    monkeypatch.setattr(EagleContext, "fuse", fuse_slowly)
    monkeypatch.setattr(HeadDrafter, "draft", note)
    with open_engine(PAIRS["eagle"](tmp_path).load(speculation=1)) as harness:
        calls.clear()
        harness.run(text_request(0, PHRASE, 6))
    assert {call.is_prefill for call in calls} == {True, False}
    assert all(call.took_s > pause_s for call in calls)


def test_adaptive_drafting_also_decides_against_it(tmp_path: Path) -> None:
    """A stranger as large as its target never pays; what trying costs is bounded."""
    pair = with_stranger(tmp_path)
    load = msgspec.structs.replace(pair.load(), speculation=None)
    with open_engine(load) as harness:
        harness.run(text_request(0, PHRASE, 300, sampling=SEEDED))
        assert harness.stats[-1].drafted_tokens < 60


REFUSED: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Path], str]] = {
    "no such file": (write_llama, lambda path: path, "unable to load model"),
    "other target": (
        write_llama,
        lambda path: write_gemma4_assistant(path, write_gemma4(path.with_suffix(".t"))),
        "drafts for gemma4, and this is llama",
    ),
    "other width": (
        lambda path: write_llama(path, embd=128),
        lambda path: write_eagle3(path, write_gemma4(path.with_suffix(".t"))),
        "layers of width 64, and this model's are of width 128",
    ),
    "missing layer": (
        write_llama,
        lambda path: write_eagle3(path, write_gemma4(path.with_suffix(".t"))),
        "it reads layer 4, and this model has 2",
    ),
    "other vocabulary": (
        lambda path: write_llama(path, vocab=700),
        write_llama,
        "its vocabulary has",
    ),
    "recurrent drafter": (write_llama, write_mamba, "a recurrent one cannot"),
    "recurrent target": (write_mamba, write_llama, "cannot be taken back"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_drafter_is_refused_and_the_model_serves(name: str, tmp_path: Path) -> None:
    write_target, write_drafter, words = REFUSED[name]
    target, drafter = write_target(tmp_path / "t.gguf"), write_drafter(tmp_path / "d.gguf")
    with open_engine(load_spec(target, draft=str(drafter), speculation=4)) as harness:
        assert words in harness.refusal
        assert str(drafter) in harness.refusal
        assert harness.run(text_request(0, PHRASE, 20))[0]
