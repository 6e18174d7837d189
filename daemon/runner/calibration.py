"""How a runner learns, before its first request, what rows cost on this machine."""

from __future__ import annotations

import time

from ..protocol import Load
from .drafters.ngram import NgramDrafter
from .llama import DECODED, Context, Model, Rows
from .speculation import Learned, Speculation

ROWS = (1, 2, 4, 8)  # the others lie between, or are met on the way
ROUNDS = 3  # the first of them builds the graphs


def prepare(model: Model, context: Context, load: Load) -> Speculation:
    """The drafters that fit this model, and a first measurement of what their guesses cost.

    A recurrent state cannot be cut back, so such a model reads ahead with nobody.
    """
    learned = Learned()
    if load.speculation == 0 or model.is_recurrent:
        return Speculation((), learned)
    _measure(context, load, learned)
    return Speculation((NgramDrafter(),), learned, fixed=load.speculation)


def _measure(context: Context, load: Load, learned: Learned) -> None:
    """Decode a text that nobody asked for, then forget it."""
    rows = Rows(load.batch)
    for number in range(ROUNDS):
        for count in (c for c in ROWS if c <= min(load.batch, load.num_ctx, context.max_outputs)):
            rows.clear()
            rows.add(0, 0, [0] * count, outputs=count)
            start_s = time.perf_counter()
            rc = context.decode(rows)
            took_s = time.perf_counter() - start_s
            context.clear(0)
            if number and rc == DECODED:
                learned.verify.observe(count, took_s)
