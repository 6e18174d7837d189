"""Is the text the same with and without speculative decoding, on this machine with these weights?

A batch of several rows and one of a single row use different kernels, whose results may differ in
the last bit. That bit decides between two tokens of nearly equal probability (a near-tie), so the
first difference of every answer is shown with the logprobs of both tokens in both runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .bench_prompts import ADAPTIVE, PLAIN, PROMPTS, BenchRequest
from .client import Client, Json

TOP_LOGPROBS = 20  # per token; the other run's token should be among them
NEAR_LOGPROB = 0.25  # nats; logprobs closer than this are those of one distribution
MODES = ("4", "16", ADAPTIVE)
TEMPERATURES = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Choice:
    """A token that only one run sampled, and its logprob in both runs; None if it is not among
    the TOP_LOGPROBS."""

    piece: str
    plain_logprob: float | None
    speculative_logprob: float | None

    @property
    def is_close(self) -> bool:
        """Whether both runs gave it the same logprob, up to NEAR_LOGPROB."""
        if self.plain_logprob is None or self.speculative_logprob is None:
            return False
        return abs(self.plain_logprob - self.speculative_logprob) <= NEAR_LOGPROB

    def __str__(self) -> str:
        plain, speculative = _figure(self.plain_logprob), _figure(self.speculative_logprob)
        return f"{self.piece!r} (logprob {plain} plain, {speculative} speculative)"


@dataclass(frozen=True, slots=True)
class Difference:
    """The first position where two answers differ."""

    position: int
    plain: Choice
    speculative: Choice

    @property
    def is_near_tie(self) -> bool:
        """Whether rounding explains it: the runs had the same logits and sampled two tokens."""
        return self.plain.is_close and self.speculative.is_close

    def __str__(self) -> str:
        kind = "near-tie" if self.is_near_tie else "DIFFERENT"
        return (
            f"{kind} at token {self.position}: plain took {self.plain}, "
            f"speculative took {self.speculative}"
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """One prompt, decoded plainly and speculatively."""

    request: BenchRequest
    num_tokens: int
    drafted: int
    difference: Difference | None

    def __str__(self) -> str:
        request = self.request
        verdict = str(self.difference or f"identical, {self.num_tokens} tokens")
        temperature = f"temperature {request.temperature:g}"
        drafted = f"{self.drafted:>4} drafted"
        return f"{request.kind:<5} {temperature}  {request.mode:<8}  {drafted}  {verdict}"


async def verify(client: Client, model: str, kind: str, temperature: float) -> list[Outcome]:
    """The answers to one prompt in every speculative mode, compared with plain decoding."""
    request = BenchRequest(model, kind, PLAIN, temperature=temperature)
    plain = await client.post("/api/chat", request.body(logprobs=TOP_LOGPROBS))
    outcomes = []
    for mode in MODES:
        request = BenchRequest(model, kind, mode, temperature=temperature)
        speculative = await client.post("/api/chat", request.body(logprobs=TOP_LOGPROBS))
        drafted = (speculative.get("speculation") or {}).get("drafted", 0)
        logprobs = (answer.get("logprobs") or [] for answer in (plain, speculative))
        difference = first_difference(*logprobs)
        outcomes.append(Outcome(request, speculative.get("eval_count", 0), drafted, difference))
    return outcomes


def first_difference(plain: Sequence[Json], speculative: Sequence[Json]) -> Difference | None:
    """The first difference of two lists of tokens; a shorter list differs at its end."""
    for i in range(max(len(plain), len(speculative))):
        ours, theirs = (run[i] if i < len(run) else None for run in (plain, speculative))
        if ours and theirs and ours["bytes"] == theirs["bytes"]:
            continue
        return Difference(i, _choice(ours, ours, theirs), _choice(theirs, ours, theirs))
    return None


def _choice(chosen: Json | None, plain: Json | None, speculative: Json | None) -> Choice:
    if chosen is None:
        return Choice("<end>", None, None)
    return Choice(chosen["token"], _logprob(chosen, plain), _logprob(chosen, speculative))


def _logprob(token: Json, entry: Json | None) -> float | None:
    """The logprob of a token in a run's entry for this position."""
    for other in [entry, *entry.get("top_logprobs", [])] if entry else []:
        if other["bytes"] == token["bytes"]:
            return float(other["logprob"])
    return None


def _figure(logprob: float | None) -> str:
    return "?" if logprob is None else f"{logprob:.6f}"


def sentence(outcomes: Sequence[Outcome]) -> str:
    """All outcomes in one line."""
    differing = [outcome.difference for outcome in outcomes if outcome.difference]
    ties = sum(difference.is_near_tie for difference in differing)
    drafted = sum(outcome.drafted for outcome in outcomes)
    identical, different = len(outcomes) - len(differing), len(differing) - ties
    return (
        f"{len(outcomes)} answers with {drafted} draft tokens: {identical} identical, "
        f"{ties} differ at a near-tie, {different} are different"
    )


def cases() -> list[tuple[str, float]]:
    """All pairs of a kind of prompt and a temperature."""
    return [(kind, temperature) for kind in PROMPTS for temperature in TEMPERATURES]
