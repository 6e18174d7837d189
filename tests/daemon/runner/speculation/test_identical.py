"""Is each answer with speculative decoding that of plain decoding, up to near-ties?"""

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
AGREEMENT = 0.7  # share of words that the drafter knows: drafts are rejected at any depth
TIE = 1e-4  # of a logit: more than another order of additions in a batch of another size changes
NOISE = 1e-4  # of a logprob, for the same reason
MACHINE = SpeculationProfile(  # on which drafts of several tokens save time
    verify=known({1: 1.0, 64: 2.0}),
    draft=known({1: 0.1, 8: 0.2}),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """All that a client gets for one request, but for times."""

    text: str
    reason: str
    tokens: tuple[int, ...]  # with those of the prompt
    pieces: tuple[bytes, ...]  # with logprobs
    logprobs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Answers:
    """All answers of one way, and their draft tokens."""

    by_id: dict[int, Answer]
    drafted: int
    accepted: int


def requests() -> list[Submit]:
    """Different prompts, lengths and seeds; each temperature with and without logprobs."""
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


def answer_all(pair: tuple[Path, Path], speculation: int | None, profile: Path) -> Answers:
    target, drafter = pair
    load = load_spec(target, draft=str(drafter), slots=SLOTS, cells=4096, profile=str(profile))
    with open_engine(msgspec.structs.replace(load, speculation=speculation)) as harness:
        assert not harness.refusal
        texts = harness.run(*requests())
        answers = {}
        for i, done in harness.done.items():
            entries = harness.logprobs(i)
            logprobs = tuple(each.logprob for each in entries)
            pieces = tuple(each.piece for each in entries)
            answers[i] = Answer(texts[i], done.reason, done.context, pieces, logprobs)
        return Answers(answers, harness.stats[-1].drafted_tokens, harness.stats[-1].accepted_tokens)


def is_same(one: Answer, other: Answer) -> bool:
    """Whether two answers are equal; logprobs up to NOISE."""
    words = [(each.text, each.reason, each.tokens, each.pieces) for each in (one, other)]
    return words[0] == words[1] and np.allclose(one.logprobs, other.logprobs, rtol=0, atol=NOISE)


def margin(target: Path, sampling: Sampling, one: Answer, other: Answer) -> float:
    """Where two answers diverge, the difference of the two tokens' logits with their Gumbel noise,
    of which the sampler takes the maximum. Infinite if they do not diverge at a token."""
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
    """But for near-ties, where the order of additions decides; each is shown to be one."""
    monkeypatch.setattr(StepCost, "observe", lambda _self, _rows, took_s: took_s)
    pair = write_bigram_pair(tmp_path, agreement=AGREEMENT, **VARIANTS[variant])
    save_profile(MACHINE, profile := tmp_path / "profile.json")
    plain = answer_all(pair, 0, profile).by_id
    assert len(set(plain.values())) == REQUESTS
    for way, speculation in WAYS.items():
        found = answer_all(pair, speculation, profile)
        diverged = [i for i in plain if not is_same(found.by_id[i], plain[i])]
        margins = {
            i: margin(pair[0], requests()[i].sampling, plain[i], found.by_id[i]) for i in diverged
        }
        measurements.append(
            f"{variant}, {way}: {len(diverged)} near-ties among {REQUESTS} answers; "
            f"{found.accepted} of {found.drafted} draft tokens accepted"
        )
        assert 0.2 * found.drafted < found.accepted < 0.9 * found.drafted
        assert all(abs(gap) < TIE for gap in margins.values()), margins


def test_a_token_that_was_not_sampled_is_no_near_tie(tmp_path: Path) -> None:
    """The margin of a sampled token is positive, so it compares what the sampler compares."""
    target, _ = write_bigram_pair(tmp_path, agreement=AGREEMENT)
    some = requests()[: 4 * len(TEMPERATURES)]
    with open_engine(load_spec(target)) as harness:
        harness.run(*some)
        contexts = {i: done.context for i, done in harness.done.items()}
    for request, other in zip(some, [*some[1:], some[0]], strict=True):
        answer = Answer("", "length", contexts[request.id], (), ())
        swapped = replace(answer, tokens=(*answer.tokens[:-1], contexts[other.id][-1]))
        assert margin(target, request.sampling, answer, swapped) > TIE
