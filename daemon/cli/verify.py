"""Is the text the same with reading ahead and without, on this machine with these weights?

A batch of several rows and one of a single row go through different kernels, which may differ in
the last bit. Where two tokens are as good as equally likely, that bit decides: the first difference
of every answer is shown with what both runs thought of both tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .bench_prompts import ADAPTIVE, PLAIN, PROMPTS, BenchRequest
from .client import Client, Json

NUM_TOP = 20  # alternatives that are asked for: the other run's token should be among them
NEAR = 0.25  # two runs that agree on the logprobs of both tokens to this saw the same distribution
WAYS = ("4", "16", ADAPTIVE)
TEMPERATURES = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Choice:
    """A token that one run took where the other took another, and its logprob in both runs; None
    where it is not among the best."""

    piece: str
    in_plain: float | None
    speculative: float | None

    @property
    def is_alike(self) -> bool:
        """Whether both runs thought the same of it, but for the last bits."""
        if self.in_plain is None or self.speculative is None:
            return False
        return abs(self.in_plain - self.speculative) <= NEAR


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two answers part."""

    position: int
    plain: Choice
    speculative: Choice

    @property
    def is_near_tie(self) -> bool:
        """Whether rounding explains it: the runs saw the same logits and drew different tokens."""
        return self.plain.is_alike and self.speculative.is_alike

    def __str__(self) -> str:
        kind = "near-tie" if self.is_near_tie else "DIFFERENT"
        return (
            f"{kind} at token {self.position}: plain took {self._word(self.plain)}, "
            f"ahead took {self._word(self.speculative)}"
        )

    def _word(self, choice: Choice) -> str:
        logprobs = (_figure(choice.in_plain), _figure(choice.speculative))
        return f"{choice.piece!r} (logprob {logprobs[0]} plain, {logprobs[1]} ahead)"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One prompt, asked plainly and with guesses."""

    request: BenchRequest
    num_tokens: int
    drafted: int
    difference: Difference | None

    def __str__(self) -> str:
        request = self.request
        verdict = str(self.difference or f"identical, {self.num_tokens} tokens")
        temperature = f"temperature {request.temperature:g}"
        drafted = f"{self.drafted:>4} drafted"
        return f"{request.kind:<5} {temperature}  {request.way:<8}  {drafted}  {verdict}"


async def verify(client: Client, model: str, kind: str, temperature: float) -> list[Outcome]:
    """The answers to one kind of prompt, in every way of reading ahead, against the plain one."""
    request = BenchRequest(model, kind, PLAIN, temperature=temperature)
    plain = await client.post("/api/chat", request.body(logprobs=NUM_TOP))
    outcomes = []
    for way in WAYS:
        request = BenchRequest(model, kind, way, temperature=temperature)
        speculative = await client.post("/api/chat", request.body(logprobs=NUM_TOP))
        drafted = (speculative.get("speculation") or {}).get("drafted", 0)
        difference = first_difference(
            plain.get("logprobs") or [], speculative.get("logprobs") or []
        )
        outcomes.append(Outcome(request, speculative.get("eval_count", 0), drafted, difference))
    return outcomes


def first_difference(plain: Sequence[Json], speculative: Sequence[Json]) -> Difference | None:
    """Where two lists of tokens with logprobs part; a list that just ends parts there as well."""
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
    """What a run thought of a token at this place."""
    for other in [entry, *entry.get("top_logprobs", [])] if entry else []:
        if other["bytes"] == token["bytes"]:
            return float(other["logprob"])
    return None


def _figure(logprob: float | None) -> str:
    return "?" if logprob is None else f"{logprob:.6f}"


def sentence(outcomes: Sequence[Outcome]) -> str:
    """All of them in one line."""
    differing = [outcome.difference for outcome in outcomes if outcome.difference]
    ties = sum(difference.is_near_tie for difference in differing)
    drafted = sum(outcome.drafted for outcome in outcomes)
    return (
        f"{len(outcomes)} answers with {drafted} guesses: {len(outcomes) - len(differing)} "
        f"identical, {ties} part at a near-tie, {len(differing) - ties} are different"
    )


def cases() -> list[tuple[str, float]]:
    """Kinds of prompts and temperatures."""
    return [(kind, temperature) for kind in PROMPTS for temperature in TEMPERATURES]
