"""Is the text the same with reading ahead and without, on this machine with these weights?

A batch of several rows and one of a single row go through different kernels, which may differ in
the last bit. Where two tokens are as good as equally likely, that bit decides: the first difference
of every answer is shown with what both runs thought of both tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .client import Client, Json
from .trial import ADAPTIVE, PLAIN, PROMPTS, Trial

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
    ahead: float | None

    @property
    def is_alike(self) -> bool:
        """Whether both runs thought the same of it, but for the last bits."""
        if self.in_plain is None or self.ahead is None:
            return False
        return abs(self.in_plain - self.ahead) <= NEAR


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two answers part."""

    position: int
    plain: Choice
    ahead: Choice

    @property
    def is_near_tie(self) -> bool:
        """Whether rounding explains it: the runs saw the same logits and drew different tokens."""
        return self.plain.is_alike and self.ahead.is_alike

    def __str__(self) -> str:
        kind = "near-tie" if self.is_near_tie else "DIFFERENT"
        return (
            f"{kind} at token {self.position}: plain took {self._word(self.plain)}, "
            f"ahead took {self._word(self.ahead)}"
        )

    def _word(self, choice: Choice) -> str:
        logprobs = (_figure(choice.in_plain), _figure(choice.ahead))
        return f"{choice.piece!r} (logprob {logprobs[0]} plain, {logprobs[1]} ahead)"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One prompt, asked plainly and with guesses."""

    trial: Trial
    num_tokens: int
    drafted: int
    difference: Difference | None

    def __str__(self) -> str:
        trial = self.trial
        verdict = str(self.difference or f"identical, {self.num_tokens} tokens")
        temperature = f"temperature {trial.temperature:g}"
        return (
            f"{trial.kind:<5} {temperature}  {trial.way:<8}  {self.drafted:>4} drafted  {verdict}"
        )


async def verify(client: Client, model: str, kind: str, temperature: float) -> list[Outcome]:
    """The answers to one kind of prompt, in every way of reading ahead, against the plain one."""
    trial = Trial(model, kind, PLAIN, temperature=temperature)
    plain = await client.post("/api/chat", trial.body(logprobs=NUM_TOP))
    outcomes = []
    for way in WAYS:
        trial = Trial(model, kind, way, temperature=temperature)
        ahead = await client.post("/api/chat", trial.body(logprobs=NUM_TOP))
        drafted = (ahead.get("speculation") or {}).get("drafted", 0)
        difference = first_difference(plain.get("logprobs") or [], ahead.get("logprobs") or [])
        outcomes.append(Outcome(trial, ahead.get("eval_count", 0), drafted, difference))
    return outcomes


def first_difference(plain: Sequence[Json], ahead: Sequence[Json]) -> Difference | None:
    """Where two lists of tokens with logprobs part; a list that just ends parts there as well."""
    for i in range(max(len(plain), len(ahead))):
        ours, theirs = (run[i] if i < len(run) else None for run in (plain, ahead))
        if ours and theirs and ours["bytes"] == theirs["bytes"]:
            continue
        return Difference(i, _choice(ours, ours, theirs), _choice(theirs, ours, theirs))
    return None


def _choice(chosen: Json | None, plain: Json | None, ahead: Json | None) -> Choice:
    if chosen is None:
        return Choice("<end>", None, None)
    return Choice(chosen["token"], _logprob(chosen, plain), _logprob(chosen, ahead))


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
