"""Do drafters with weights leave answers unchanged, and is one that does not fit refused?"""

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
from outrider.quant.draft_vocab import trim
from tiny import tokenizer, vocabulary, write_llama
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
    """A target, its drafter, and the name of that drafter's kind."""

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
    """A hybrid model, whose state can be rolled back a few tokens."""

    def build(folder: Path) -> Pair:
        target = write_qwen35(folder / "target.gguf", with_head=True, experts=experts)
        return Pair(target, None, "nextn")

    return build


def with_eagle(write: Callable[[Path], Path]) -> Callable[[Path], Pair]:
    def build(folder: Path) -> Pair:
        target = write(folder / "target.gguf")
        return Pair(target, write_eagle3(folder / "eagle.gguf", target), "eagle3")

    return build


def trimmed(path: Path) -> Path:
    """The drafter with a head of the tokens up to "t", without those after it and the others."""
    kept = [token for token in range(264) if token <= ord("t") or token > 260]
    trim(path, path.with_suffix(".trimmed"), kept)
    return path.with_suffix(".trimmed")


def with_trimmed_assistant(folder: Path) -> Pair:
    pair = with_assistant()(folder)
    assert pair.drafter
    return Pair(pair.target, trimmed(pair.drafter), pair.name)


def with_trimmed_eagle(folder: Path) -> Pair:
    target = write_gemma4(folder / "target.gguf")
    head = write_eagle3(folder / "eagle.gguf", target, own_output=True)
    return Pair(target, trimmed(head), "eagle3")


def with_hybrid(folder: Path) -> Pair:
    target = write_qwen35(folder / "target.gguf")
    return Pair(target, write_llama(folder / "small.gguf"), "model")


def with_other_weights(folder: Path) -> Pair:
    """A drafter with other random weights than the target."""
    target = write_llama(folder / "target.gguf")
    return Pair(target, write_llama(folder / "other.gguf", seed=5), "model")


PAIRS: dict[str, Callable[[Path], Pair]] = {
    "assistant": with_assistant(),
    "assistant-shared-kv": with_assistant(shared_kv_layers=2, per_layer_embd=16),
    "assistant-moe": with_assistant(experts=4),
    "assistant-trimmed": with_trimmed_assistant,
    "llama-itself": with_itself(write_llama),
    "gemma3-itself": with_itself(write_gemma3),
    "other-weights": with_other_weights,
    "head": with_head(),
    "head-moe": with_head(experts=4),
    "hybrid": with_hybrid,
    "eagle": with_eagle(write_gemma4),
    "eagle-trimmed": with_trimmed_eagle,
    "eagle-hybrid": with_eagle(partial(write_qwen35, with_head=True)),
}


@pytest.fixture(scope="module", params=PAIRS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return PAIRS[request.param](tmp_path_factory.mktemp(request.param))


def requests() -> list[Submit]:
    """Eight requests with all kinds of sampling and limits."""
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
    """All that a client sees, but for times and the frames of the text."""
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
            report = harness.done[6].speculation_report
            assert report
            assert report.drafter == pair.name
            assert report.drafted > 0
            assert harness.stats[-1].accepted_tokens > 0


def test_drafts_of_the_target_itself_are_always_accepted(tmp_path: Path) -> None:
    """Also with sampling: drafter and target use the same Gumbel noise."""
    pair = with_itself(write_llama)(tmp_path)
    for sampling in (GREEDY, SEEDED, PENALISED, MIROSTAT):
        load = pair.load(speculation=4)
        with open_engine(load) as harness:
            harness.run(text_request(0, PHRASE, 100, sampling=sampling))
            report = harness.done[0].speculation_report
        assert report
        if sampling.mirostat:  # its mu changes with each sampled token, not with drafts
            assert report.accepted > 0.5 * report.drafted
        else:
            assert report.accepted == report.drafted


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED, PENALISED])
def test_teacher_forced_drafts_equal_the_text(tmp_path: Path, sampling: Sampling) -> None:
    """With the target as its own drafter, which has drafted nothing before."""
    pair = with_itself(write_llama)(tmp_path)
    with open_engine(load_spec(pair.target)) as harness:
        drafter = load_drafter(harness.loaded, pair.load())
        sequence = harness.input.prepare(text_request(0, PHRASE, 60, sampling=sampling))
        harness.engine.submit(sequence)
        while len(sequence.output_tokens) < 30:
            harness.turn()
        pending = drafter.pending(sequence)
        sampler = Sampler(sequence.sampling, num_tokens=harness.loaded.model.num_tokens)
        request = DraftRequest(sequence, sampler, 12)
        forwards = drafter.evaluate(request)
        drafter.close()
    assert request.tokens == list(sequence.tokens[-12:])
    assert sum(forward.rows for forward in forwards) == pending - 1
    assert drafter.pending(sequence) == 1


def test_the_second_turn_of_a_chat_is_drafted_like_the_first(pair: Pair) -> None:
    """Its prefix comes from the cache, so the drafter gets only the hidden rows of its end."""
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
def test_two_requests_continue_where_drafts_were_rejected(pair: Pair, length: int) -> None:
    """One takes over the cached sequence, the other a copy of it."""
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
    """Five streams in cells for three: some are preempted, and some drafts find no free cells."""
    texts = []
    for speculation in (0, 4):
        with open_engine(pair.load(cells=512, slots=5, speculation=speculation)) as harness:
            texts.append(harness.run(*(text_request(i, PHRASE[i:], 120) for i in range(5))))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("batch", [64, 1024])  # the prompt in many chunks, or as a whole
@pytest.mark.parametrize(("name", "kind"), [("head", NextnContext), ("eagle", EagleContext)])
def test_a_head_skips_the_oldest_of_many_hidden_rows(
    name: str,
    kind: type[NextnContext | EagleContext],
    batch: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not all rows of a long prompt are copied; the rest is evaluated in several chunks."""
    pair, take, taken = PAIRS[name](tmp_path), kind.take, []

    def spy(context: NextnContext | EagleContext, row: int) -> Hidden:
        taken.append(row)
        return take(context, row)

    monkeypatch.setattr(kind, "take", spy)
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


def test_the_time_of_an_encoder_is_part_of_a_draft_forward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause_s, fuse, draft = 0.02, EagleContext.fuse, HeadDrafter.draft
    forwards: list[DraftForward] = []

    def fuse_slowly(context: EagleContext, taken: Sequence[Hidden]) -> Sequence[Hidden]:
        time.sleep(pause_s)
        return fuse(context, taken)

    def spy(
        drafter: HeadDrafter, requests: Sequence[DraftRequest], select_next: SelectNext
    ) -> list[DraftForward]:
        made = draft(drafter, requests, select_next)
        forwards.extend(made)
        return made

    monkeypatch.setattr(EagleContext, "fuse", fuse_slowly)
    monkeypatch.setattr(HeadDrafter, "draft", spy)
    with open_engine(PAIRS["eagle"](tmp_path).load(speculation=1)) as harness:
        forwards.clear()
        harness.run(text_request(0, PHRASE, 6))
    assert {forward.is_prefill for forward in forwards} == {True, False}
    assert all(forward.took_s > pause_s for forward in forwards)


def test_adaptive_drafting_stops_where_nothing_is_accepted(tmp_path: Path) -> None:
    """A drafter as large as its target saves no time; the cost of probes is bounded."""
    pair = with_other_weights(tmp_path)
    load = msgspec.structs.replace(pair.load(), speculation=None)
    with open_engine(load) as harness:
        harness.run(text_request(0, PHRASE, 300, sampling=SEEDED))
        assert harness.stats[-1].drafted_tokens < 60


def other_tokens() -> dict[str, object]:
    tokens, types = vocabulary()
    tokens[ord("&")] = "&&"
    return tokenizer(tokens, types)


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
    "trimmed for another vocabulary": (
        lambda path: write_gemma4(path, extra=other_tokens()),
        lambda path: trimmed(write_gemma4_assistant(path, write_gemma4(path.with_suffix(".t")))),
        "token 38 is b'&' in its vocabulary, and b'&&' here",
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
    "recurrent target": (write_mamba, write_llama, "cannot be removed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_drafter_that_does_not_fit_is_refused_and_the_model_serves(
    name: str, tmp_path: Path
) -> None:
    write_target, write_drafter, words = REFUSED[name]
    target, drafter = write_target(tmp_path / "t.gguf"), write_drafter(tmp_path / "d.gguf")
    with open_engine(load_spec(target, draft=str(drafter), speculation=4)) as harness:
        assert words in harness.refusal
        assert str(drafter) in harness.refusal
        assert harness.run(text_request(0, PHRASE, 20))[0]


@pytest.mark.parametrize(("target_vocab", "drafter_vocab"), [(512, 384), (384, 512)])
def test_a_drafter_with_other_padding_drafts_and_changes_nothing(
    target_vocab: int, drafter_vocab: int, tmp_path: Path
) -> None:
    """Also with tokens in the text that the drafter lacks."""
    target = write_llama(tmp_path / "t.gguf", vocab=target_vocab)
    drafter = write_llama(tmp_path / "d.gguf", vocab=drafter_vocab, layers=1)
    requests = [text_request(i, PHRASE, 60, sampling=sampling)
                for i, sampling in enumerate((GREEDY, SEEDED))]  # fmt: skip
    with open_engine(load_spec(target, speculation=0)) as plain:
        texts = plain.run(*requests)
    with open_engine(load_spec(target, draft=str(drafter), speculation=4)) as harness:
        assert harness.refusal == ""
        assert harness.run(*requests) == texts
        assert harness.stats[-1].drafted_tokens > 0
