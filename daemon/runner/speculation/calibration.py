"""What do rows and drafts cost on this machine? Measured before a runner's first request."""

from __future__ import annotations

import time
from array import array
from pathlib import Path

from ...errors import LoadFailed
from ...protocol import Limits, Load, Sampling
from ..batch import Batch
from ..kv.cached_sequence import CachedSequence
from ..llama.context import TextContext
from ..llama.interface import DECODED, TargetDecoder
from ..llama.loading import LoadedContext
from ..sampling.sampler import Sampler
from ..sequence import Sequence
from .controller import SpeculationController
from .drafter_loading import load_drafter
from .drafters.drafter import Drafter, DraftRequest, select_unfinished
from .drafters.ngram import NgramDrafter
from .profile import SpeculationProfile
from .profile_store import load_profile

ROWS = (1, 2, 4, 8)  # row counts of the target that are measured; StepCost interpolates others
NGRAM_ROWS = (1, 4)
"""Row counts that are measured if only n-grams are drafted, to load models sooner."""
STREAMS = (1, 2, 4, 8)  # numbers of streams for which the drafter is measured
ROUNDS = 3  # measurements of each row count, and of each number of streams
NGRAM_ROUNDS = 2  # measurements of each row count if only n-grams are drafted
GREEDY = Sampling(temperature=0.0)
NO_ROLLBACK = "draft tokens cannot be removed from the state of this recurrent model"


def prepare_speculation(loaded: LoadedContext[TextContext], load: Load) -> SpeculationController:
    """Load the drafters that fit this model, and measure costs that no stored profile holds."""
    if load.speculation == 0:
        return SpeculationController((), SpeculationProfile())
    drafter, refusal = _find_drafter(loaded, load)
    profile = (load_profile(Path(load.profile)) if load.profile else None) or SpeculationProfile()
    if not loaded.context.max_drafts:
        return SpeculationController((), profile, refusal=refusal or f"no drafts: {NO_ROLLBACK}")
    if not profile.verify.is_known:
        _measure_target(loaded.context, load, profile, with_model=drafter is not None)
    if drafter and not profile.draft.is_known:
        _measure_drafter(drafter, loaded, load, profile)
    return SpeculationController(
        (NgramDrafter(), drafter) if drafter else (NgramDrafter(),),
        profile,
        fixed=load.speculation,
        refusal=refusal,
        max_drafts=loaded.context.max_drafts,
        equal_rows=loaded.model.is_recurrent,
    )


def _find_drafter(loaded: LoadedContext[TextContext], load: Load) -> tuple[Drafter | None, str]:
    """The drafter with weights, or why there is none."""
    if not (load.draft or load.mtp):
        return None, ""
    try:
        if not loaded.context.max_drafts:
            raise LoadFailed(NO_ROLLBACK)
        return load_drafter(loaded, load), ""
    except LoadFailed as error:
        return None, f"no drafter: {load.draft or 'the MTP head'} is not used: {error}"


def _measure_target(
    context: TargetDecoder, load: Load, profile: SpeculationProfile, *, with_model: bool
) -> None:
    """Decode made-up text, each row count several times in a row. One decode more comes first and
    is not counted, since the very first one allocates."""
    batch, max_rows = Batch(load.batch), min(load.batch, load.num_ctx, context.max_outputs)
    row_counts, rounds = (ROWS, ROUNDS) if with_model else (NGRAM_ROWS, NGRAM_ROUNDS)
    counts = [count for count in row_counts if count <= max_rows]
    in_turn = [count for count in counts for _ in range(rounds)]
    for number, count in enumerate([counts[-1], *in_turn]):
        batch.clear()
        batch.add(0, 0, [0] * count, outputs=count)
        start_s = time.perf_counter()
        rc = context.decode(batch)
        took_s = time.perf_counter() - start_s
        context.clear(0)
        if number and rc == DECODED:
            profile.verify.observe(count, took_s)


def _measure_drafter(
    drafter: Drafter, loaded: LoadedContext[TextContext], load: Load, profile: SpeculationProfile
) -> None:
    """Draft after made-up texts of two tokens. The first round is not counted."""
    sampler = Sampler(GREEDY, num_tokens=loaded.model.num_tokens)
    for number in range(ROUNDS):
        for count in (c for c in STREAMS if c <= load.slots):
            sequences = [_made_up(seq, token=number) for seq in range(count)]
            if _decode_first_tokens(drafter, loaded.context, sequences, Batch(load.batch)):
                requests = [DraftRequest(seq, sampler, 2) for seq in sequences]
                forwards = drafter.draft(requests, select_unfinished)
                for forward in forwards if number else ():
                    profile.draft.observe(forward.rows, forward.took_s)
            for seq, sequence in enumerate(sequences):
                drafter.forget(sequence)
                loaded.context.clear(seq)


def _decode_first_tokens(
    drafter: Drafter, context: TextContext, sequences: list[Sequence], batch: Batch
) -> bool:
    """Evaluate the first token of each with the target, and pass the rows on to the drafter."""
    outputs = [
        batch.add(seq, 0, sequence.tokens[:1], outputs=1) for seq, sequence in enumerate(sequences)
    ]
    if context.decode(batch) != DECODED:
        return False
    for sequence, row in zip(sequences, outputs, strict=True):
        drafter.observe(sequence, range(row, row + 1), is_newest=True)
    return True


def _made_up(seq: int, token: int) -> Sequence:
    """A text of two tokens, the first of which is in this sequence of the cache."""
    sequence = Sequence(-seq - 1, array("i", [token, token]), GREEDY, Limits(), num_ctx=8)
    sequence.kv_seq = CachedSequence(seq, array("i", [token]))
    return sequence
