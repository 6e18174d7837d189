"""How a runner learns, before its first request, what rows and guesses cost on this machine."""

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

ROWS = (1, 2, 4, 8)  # the others lie between, or are met on the way
FEW_ROWS = (1, 4)  # for guesses that are seldom: nobody shall wait long for them
STREAMS = (1, 2, 4, 8)
ROUNDS = 3  # of each number of rows, or of streams
FEW_ROUNDS = 2
GREEDY = Sampling(temperature=0.0)
NO_WAY_BACK = "guesses cannot be taken back from the state of this recurrent model"


def prepare_speculation(loaded: LoadedContext[TextContext], load: Load) -> SpeculationController:
    """The drafters that fit this model, and a first measurement of what their guesses cost."""
    if load.speculation == 0:
        return SpeculationController((), SpeculationProfile())
    drafter, refusal = _find_drafter(loaded, load)
    profile = (load_profile(Path(load.profile)) if load.profile else None) or SpeculationProfile()
    if not loaded.context.max_drafts:
        return SpeculationController((), profile, refusal=refusal or f"no drafts: {NO_WAY_BACK}")
    if not profile.verify.is_known:
        _measure(loaded.context, load, profile, is_brief=drafter is None)
    if drafter and not profile.draft.is_known:
        _measure_drafter(drafter, loaded, load, profile)
    drafters = (NgramDrafter(), drafter) if drafter else (NgramDrafter(),)
    return SpeculationController(
        drafters,
        profile,
        fixed=load.speculation,
        refusal=refusal,
        max_drafts=loaded.context.max_drafts,
        is_even=loaded.model.is_recurrent,
    )


def _find_drafter(loaded: LoadedContext[TextContext], load: Load) -> tuple[Drafter | None, str]:
    """The drafter with weights, or why there is none."""
    if not (load.draft or load.mtp):
        return None, ""
    try:
        if not loaded.context.max_drafts:
            raise LoadFailed(NO_WAY_BACK)
        return load_drafter(loaded, load), ""
    except LoadFailed as error:
        return None, f"no drafter: {load.draft or 'the MTP head'} is not used: {error}"


def _measure(
    context: TargetDecoder, load: Load, profile: SpeculationProfile, *, is_brief: bool
) -> None:
    """Decode a text that nobody asked for, then forget it: each number of rows some times in a
    row, since the first ones may cost more; the very first decode does so by far."""
    batch, most = Batch(load.batch), min(load.batch, load.num_ctx, context.max_outputs)
    counts = [count for count in (FEW_ROWS if is_brief else ROWS) if count <= most]
    in_turn = [count for count in counts for _ in range(FEW_ROUNDS if is_brief else ROUNDS)]
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
    """Draft after texts of two tokens that nobody asked for, then forget them."""
    context, batch = loaded.context, Batch(load.batch)
    sampler = Sampler(GREEDY, num_tokens=loaded.model.num_tokens)
    for number in range(ROUNDS):
        for count in (c for c in STREAMS if c <= load.slots):
            sequences = [_made_up(seq, token=number) for seq in range(count)]
            batch.clear()
            outputs = [batch.add(seq, 0, [number], outputs=1) for seq in range(count)]
            if context.decode(batch) == DECODED:
                for sequence, row in zip(sequences, outputs, strict=True):
                    drafter.observe(sequence, range(row, row + 1), is_tip=True)
                for call in drafter.draft(
                    [DraftRequest(s, sampler, 2) for s in sequences], select_unfinished
                ):
                    if number:
                        profile.draft.observe(call.rows, call.took_s)
            for sequence in sequences:
                drafter.forget(sequence)
                context.clear(-sequence.id - 1)


def _made_up(seq: int, token: int) -> Sequence:
    """A text of two tokens, of which this sequence of the cache holds the first."""
    sequence = Sequence(-seq - 1, array("i", [token, token]), GREEDY, Limits(), num_ctx=8)
    sequence.kv_seq = CachedSequence(seq, array("i", [token]))
    return sequence
