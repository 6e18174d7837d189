"""`python -m bench.record`: record answers of the pair of `make bench`, and the drafts for them.

No draft is verified, so all texts are those of plain decoding, with a draft after each token.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import product

from engines import open_engine
from harness import text_request
from outrider.daemon.cli.bench_prompts import PROMPTS
from outrider.daemon.protocol import MAX_MODEL_DRAFTS, Load, Sampling, Submit
from outrider.daemon.runner.llama.context import TextContext
from outrider.daemon.runner.llama.loading import LoadedContext
from outrider.daemon.runner.sampling.sampler import target_confidence
from outrider.daemon.runner.sequence import Sequence as Tokens
from outrider.daemon.runner.speculation.controller import SpeculationController
from outrider.daemon.runner.speculation.drafter_loading import load_drafter
from outrider.daemon.runner.speculation.drafters.drafter import (
    Drafter,
    DraftForward,
    DraftRequest,
    SelectNext,
    select_unfinished,
)
from outrider.daemon.runner.speculation.profile import SpeculationProfile
from spoken import FILE, Spoken, write

from .ahead import CHAT, GREEDY, NUM_CTX, SAMPLED, TEMPERATURES
from .pair import ensure_pair
from .plan import models_root, plan_of
from .progress import tell

TEXTS = 8  # of one kind
TOKENS = 64


class Recorder(Drafter):
    """Records the drafts of another drafter, and proposes none."""

    name = "recorder"
    max_length = 1

    def __init__(self, drafter: Drafter, target: TextContext) -> None:
        # by id, one entry after each token
        self.requests: defaultdict[int, list[DraftRequest]] = defaultdict(list)
        self.target_confidence: defaultdict[int, list[float]] = defaultdict(list)
        self._drafter = drafter
        self._target = target

    def pending(self, sequence: Tokens) -> int:
        return self._drafter.pending(sequence)

    def draft(
        self, requests: Sequence[DraftRequest], select_next: SelectNext
    ) -> list[DraftForward]:
        own = [DraftRequest(each.sequence, each.sampler, MAX_MODEL_DRAFTS) for each in requests]
        forwards = self._drafter.draft(own, select_unfinished)
        for each in own:
            self.requests[each.sequence.id].append(each)
        return forwards

    def observe(self, sequence: Tokens, rows: range, *, is_newest: bool) -> None:
        self._drafter.observe(sequence, rows, is_newest=is_newest)
        if is_newest:
            self.target_confidence[sequence.id].append(
                target_confidence(self._target.logits(rows[-1]))
            )

    def forget(self, sequence: Tokens) -> None:
        self._drafter.forget(sequence)

    def close(self) -> None:
        self._drafter.close()

    def spoken(self, id_: int, kind: str, temperature: float, number: int) -> Spoken:
        """The record of this sequence without its last token, after which nothing was drafted."""
        requests, confidences = self.requests[id_], self.target_confidence[id_]
        sequence = requests[0].sequence
        truth = sequence.output_tokens[:-1]
        return Spoken(
            kind,
            temperature,
            number,
            prompt=tuple(sequence.tokens[: sequence.num_prompt]),
            truth=tuple(truth),
            target_confidence=tuple(round(100 * each) for each in confidences),
            num_accepted=tuple(each.num_accepted(truth[i:]) for i, each in enumerate(requests, 1)),
            confidences=tuple(
                tuple(round(100 * draft.confidence) for draft in each.drafts) for each in requests
            ),
        )


def main() -> None:
    store_root = models_root()
    load = plan_of(store_root, ensure_pair(store_root), slots=TEXTS, ctx=NUM_CTX)
    recorders: list[Recorder] = []

    def record(loaded: LoadedContext[TextContext], load: Load) -> SpeculationController:
        recorders.append(Recorder(load_drafter(loaded, load), loaded.context))
        profile = SpeculationProfile()
        profile.verify.observe(1, 1.0)  # so that drafting starts
        return SpeculationController(recorders, profile, fixed=1)

    texts: list[Spoken] = []
    with open_engine(load, record) as harness:
        for kind, temperature in product(PROMPTS, TEMPERATURES):
            tell(f"  {kind} {temperature:g}")
            requests = {len(texts) + i: (kind, temperature, i) for i in range(1, TEXTS + 1)}
            harness.run(*(_request(id_, *each) for id_, each in requests.items()))
            texts += [recorders[0].spoken(id_, *each) for id_, each in requests.items()]
    write(texts)
    tell(f"{len(texts)} texts: {FILE}")


def _request(id_: int, kind: str, temperature: float, number: int) -> Submit:
    """A request as `ahead` makes it."""
    sampling = {**SAMPLED, "seed": number} if temperature else GREEDY
    prompt = CHAT.format(f"{number}. {PROMPTS[kind]}")
    return text_request(id_, prompt, TOKENS + 1, sampling=Sampling(**sampling))


if __name__ == "__main__":
    main()
