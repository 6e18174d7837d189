"""Is an answer with reading ahead the very answer of plain decoding, request by request?"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from engines import open_engine
from harness import load_spec, text_request
from lab import known
from outrider.daemon.protocol import Sampling, Submit
from outrider.daemon.runner.batch import Batch
from outrider.daemon.runner.llama.interface import DECODED
from outrider.daemon.runner.sampling.gumbel import gumbel
from outrider.daemon.runner.speculation.profile import SpeculationProfile
from outrider.daemon.runner.speculation.profile_store import save_profile
from outrider.daemon.runner.speculation.step_cost import StepCost
from tiny_bigram import WORDS, write_bigram_pair

pytestmark = pytest.mark.model

VARIANTS: dict[str, dict[str, int]] = {
    "dense": {},
    "moe": {"experts": 4},
    "shared-kv-per-layer": {"shared_kv_layers": 2, "per_layer_embd": 16},
}
WAYS = {"fixed": 3, "adaptive": None}
TEMPERATURES = (0.0, 0.5, 0.8, 1.0)
REQUESTS = 500
SLOTS = 8
AGREEMENT = 0.7  # so that guesses are right, and wrong, at any depth
TIE = 1e-4  # a batch of another size adds up in another order; what that does to a logit is less
NOISE = 1e-4  # of a logprob, likewise
MACHINE = SpeculationProfile(  # on which several guesses pay; adaptive decoding takes as many
    verify=known({1: 1.0, 64: 2.0}),
    draft=known({1: 0.1, 8: 0.2}),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """All that a client gets of one request, times apart."""

    text: str
    reason: str
    tokens: tuple[int, ...]  # with those of the prompt
    pieces: tuple[bytes, ...]  # whose logprobs were told
    logprobs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """All answers of one way, by id, and how much was read ahead for them."""

    answers: dict[int, Answer]
    drafted: int
    accepted: int


def requests() -> list[Submit]:
    """Of different prompts, lengths and seeds; each temperature with and without logprobs."""
    words = [word.replace("Ġ", " ") for word in WORDS]
    return [
        text_request(
            i,
            "".join(words[(i * step) % len(words)] for step in range(1, 4 + i % 5)),
            8 + i % 7,
            sampling=Sampling(temperature=TEMPERATURES[i % len(TEMPERATURES)], seed=i),
            num_logprobs=2 if i % 3 == 0 else None,
        )
        for i in range(REQUESTS)
    ]


def answer_all(pair: tuple[Path, Path], speculation: int | None, profile: Path) -> Told:
    target, drafter = pair
    load = load_spec(target, draft=str(drafter), slots=SLOTS, cells=4096, profile=str(profile))
    with open_engine(msgspec.structs.replace(load, speculation=speculation)) as harness:
        assert not harness.refusal
        texts = harness.run(*requests())
        answers = {}
        for i, done in harness.done.items():
            told = harness.logprobs(i)
            logprobs = tuple(each.logprob for each in told)
            pieces = tuple(each.piece for each in told)
            answers[i] = Answer(texts[i], done.reason, done.context, pieces, logprobs)
        return Told(answers, harness.stats[-1].drafted_tokens, harness.stats[-1].accepted_tokens)


def is_same(one: Answer, other: Answer) -> bool:
    """Whether they say the same; logprobs are as exact as the arithmetic."""
    words = [(each.text, each.reason, each.tokens, each.pieces) for each in (one, other)]
    return words[0] == words[1] and np.allclose(one.logprobs, other.logprobs, rtol=0, atol=NOISE)


def margin(target: Path, sampling: Sampling, one: Answer, other: Answer) -> float:
    """By how much the model prefers the token of the one to that of the other, where they part:
    the difference of what the draw compares. Infinite if they do not part by a token."""
    pairs = enumerate(zip(one.tokens, other.tokens, strict=False))
    place, ids = next(((i, pair) for i, pair in pairs if len(set(pair)) > 1), (0, ()))
    if not ids:
        return math.inf
    with open_engine(load_spec(target)) as harness:
        rows = Batch(harness.loaded.context.max_outputs)
        row = rows.add(0, 0, one.tokens[:place], outputs=1)
        assert harness.loaded.context.decode(rows) == DECODED
        logits = harness.loaded.context.logits(row)[list(ids)].astype(np.float64)
    noise = gumbel(sampling.seed, place, np.array(ids, np.int64))
    first, second = logits + sampling.temperature * noise
    return float(first - second)


@pytest.mark.parametrize("variant", VARIANTS)
def test_answers_are_those_of_plain_decoding(
    tmp_path: Path,
    variant: str,
    monkeypatch: pytest.MonkeyPatch,
    measurements: list[str],
) -> None:
    """But for near-ties, where the order of an addition decides: these are shown to be such."""
    monkeypatch.setattr(StepCost, "observe", lambda _self, _rows, took_s: took_s)
    pair = write_bigram_pair(tmp_path, agreement=AGREEMENT, **VARIANTS[variant])
    save_profile(MACHINE, profile := tmp_path / "profile.json")
    plain = answer_all(pair, 0, profile).answers
    assert len(set(plain.values())) == REQUESTS
    for way, speculation in WAYS.items():
        told = answer_all(pair, speculation, profile)
        parted = [i for i in plain if not is_same(told.answers[i], plain[i])]
        margins = {
            i: margin(pair[0], requests()[i].sampling, plain[i], told.answers[i]) for i in parted
        }
        measurements.append(
            f"{variant}, {way}: {len(parted)} near-ties among {REQUESTS} answers; "
            f"{told.accepted} of {told.drafted} guesses accepted"
        )
        assert 0.2 * told.drafted < told.accepted < 0.9 * told.drafted
        assert all(abs(gap) < TIE for gap in margins.values()), margins


def test_a_word_that_was_not_drawn_is_no_near_tie(tmp_path: Path) -> None:
    """What was drawn is always what the margin prefers, so it compares what the draw does."""
    target, _ = write_bigram_pair(tmp_path, agreement=AGREEMENT)
    asked = requests()[: 4 * len(TEMPERATURES)]
    with open_engine(load_spec(target)) as harness:
        harness.run(*asked)
        contexts = {i: done.context for i, done in harness.done.items()}
    for request, other in zip(asked, [*asked[1:], asked[0]], strict=True):
        output_tokens = Answer("", "length", contexts[request.id], (), ())
        swapped = replace(
            output_tokens, tokens=(*output_tokens.tokens[:-1], contexts[other.id][-1])
        )
        assert margin(target, request.sampling, output_tokens, swapped) > TIE
