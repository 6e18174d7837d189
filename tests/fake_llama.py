"""How do unit tests run engine, scheduler and speculation without weights?

`FakeModel` is a language model in numpy: the logits of the next token are a hash of the tokens
before it. `FakeContext` decodes it over a `FakeMemory`, which refuses what llama.cpp refuses, and
reads the tokens from that memory: a wrong cell changes the text.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
from fakes import FakeMemory
from harness import EngineHarness, drive, load_spec
from llguidance import LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray
from outrider.daemon.protocol import Load, Submit
from outrider.daemon.runner.batch import Batch, Hidden
from outrider.daemon.runner.kv.prefix_cache import TrimMode
from outrider.daemon.runner.llama.interface import ABORTED, DECODED, NO_CELLS
from outrider.daemon.runner.speculation.controller import SpeculationController
from outrider.daemon.runner.speculation.profile import SpeculationProfile

CHARACTERS = [bytes([code]) for code in (*b"\n", *range(32, 127))]
EOS = len(CHARACTERS)
NUM_TOKENS = len(CHARACTERS) + 1

# Logits: the newest tokens decide by a margin of about SHARPNESS, all earlier ones add up to DRIFT.
# So a text repeats itself for an n-gram drafter to accept, and yet depends on every cached token.
SHARPNESS = 3.0
DRIFT = 0.3
NEWEST = 2  # tokens
SEQUENCES_PER_SLOT = 2
MAX_OUTPUTS = 64
WINDOW = 16


class FakeModel:
    """A vocabulary of printable characters, and logits by hashing."""

    num_tokens = NUM_TOKENS
    bos, eos, adds_bos = -1, EOS, False
    suppressed: tuple[int, ...] = ()
    chat_template: str | None = None
    hidden_width = 0
    is_on_gpu = False

    def __init__(
        self, trim_mode: TrimMode = TrimMode.ANYWHERE, *, ends: bool = False, error_rate: float = 0
    ) -> None:
        """`ends`: EOS is as likely as any token, otherwise impossible. `error_rate`: share of
        contexts in which this model, as a drafter, disagrees with one without errors."""
        self.trim_mode = trim_mode
        self.is_recurrent = trim_mode is TrimMode.END
        self.window = WINDOW if trim_mode is TrimMode.WINDOW else 0
        self._ends = ends
        self._error_rate = error_rate
        self._local: dict[int, NDArray[np.float64]] = {}  # by a hash of the newest tokens
        self._ids = np.arange(NUM_TOKENS, dtype=np.uint64)

    def is_end(self, token: int) -> bool:
        return token == EOS

    def piece(self, token: int, *, special: bool = False) -> bytes:
        return CHARACTERS[token] if token != EOS else b"</s>" * special

    def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        assert not add_bos
        return [CHARACTERS.index(bytes([code])) for code in text.encode("ascii")]

    def grammar_tokenizer(self) -> LLTokenizer:
        return LLTokenizer(TokenizerWrapper(FakeTokenizer(self)))

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """The row after these tokens."""
        newest = zlib.crc32(array("i", tokens[-NEWEST:]).tobytes())
        if newest % 1000 < 1000 * self._error_rate:
            newest += 1
        local = self._local.get(newest)
        if local is None:
            local = self._local[newest] = -SHARPNESS * np.log(self._uniform(newest))
        drift = self._uniform(zlib.crc32(array("i", tokens).tobytes()))
        row = (local + DRIFT * drift).astype(np.float32)
        if not self._ends:
            row[EOS] = -np.inf
        return row

    def _uniform(self, key: int) -> NDArray[np.float64]:
        """A number in (0, 1) for each token, by the finalizer of SplitMix64."""
        z = (self._ids + np.uint64(key + 1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((z >> np.uint64(12)) + 0.5) * 2.0**-52

    def close(self) -> None:
        """Nothing was loaded."""


@dataclass
class FakeTokenizer:
    """What llguidance asks of a tokenizer."""

    model: FakeModel
    eos_token_id = EOS
    bos_token_id = None
    special_token_ids = (EOS,)

    @property
    def tokens(self) -> list[bytes]:
        return [self.model.piece(token, special=True) for token in range(NUM_TOKENS)]

    def __call__(self, data: bytes) -> list[int]:
        return self.model.tokenize(data.decode("ascii"), add_bos=False)


class FakeContext(FakeMemory):
    """A context over a `FakeModel`. The next `refuse` decodes find no cells."""

    def __init__(self, model: FakeModel, load: Load, *, is_target: bool = True) -> None:
        """The engine counts cells, so a target that runs out of them raises Refused."""
        self.num_seqs = load.slots * SEQUENCES_PER_SLOT
        self.max_drafts = 4 if model.is_recurrent else 48
        super().__init__(
            seqs=self.num_seqs,
            cells=load.cells,
            trim_mode=model.trim_mode,
            window=model.window,
            max_rollback=self.max_drafts,
        )
        self.model = model
        self.max_outputs = MAX_OUTPUTS
        self.refuse = 0
        self._is_target = is_target
        self._is_aborted = False
        self._logits: dict[int, NDArray[np.float32]] = {}

    def decode(self, batch: Batch) -> int:
        """An aborted decode leaves half of its rows evaluated, and no recurrent state sound."""
        assert len(batch.outputs) <= self.max_outputs
        self._logits = {}
        if self.refuse:
            self.refuse -= 1
            return NO_CELLS
        if not self._is_target and self.num_cells_used + batch.count > self.num_cells:
            return NO_CELLS
        if self._is_aborted:
            self._evaluate(batch, batch.count // 2)
            if self.model.is_recurrent:
                self.corrupt()
            return ABORTED
        self._evaluate(batch, batch.count)
        return DECODED

    def _evaluate(self, batch: Batch, count: int) -> None:
        """The first `count` rows; those of one sequence stand together."""
        rows = zip(
            batch.seqs[:count].tolist(),
            batch.positions.tolist(),
            batch.tokens.tolist(),
            strict=False,
        )
        start = 0
        for seq, run in groupby(rows, key=itemgetter(0)):
            _, positions, tokens = zip(*run, strict=True)
            self.evaluate(seq, positions[0], tokens)
            whole = self.tokens(seq)
            assert list(positions) == list(range(positions[0], len(whole)))
            for row, position in enumerate(positions, start):
                if batch.is_output[row]:
                    self._logits[row] = self.model.logits(whole[: position + 1])
            start += len(positions)

    def logits(self, row: int) -> NDArray[np.float32]:
        return self._logits[row]

    def hidden(self, row: int) -> Hidden:
        raise NotImplementedError("this model has no hidden rows")

    def abort(self) -> None:
        self._is_aborted = True

    def set_threads(self, threads: int) -> None:
        self.threads = threads

    def disarm(self) -> None:
        self._is_aborted = False

    def close(self) -> None:
        """Nothing was allocated."""


@dataclass
class FakeLoaded:
    """A fake model and its context."""

    model: FakeModel
    context: FakeContext


MakeController = Callable[[FakeLoaded, Load], SpeculationController]


def plain_decoding(_loaded: FakeLoaded, _load: Load) -> SpeculationController:
    return SpeculationController((), SpeculationProfile())


@contextmanager
def open_fake_engine(
    model: FakeModel,
    make_controller: MakeController = plain_decoding,
    **changes: int,
) -> Iterator[EngineHarness]:
    """An engine on a fake context; `changes` as for `load_spec`."""
    load = load_spec(Path("no.gguf"), **changes)
    loaded = FakeLoaded(model, FakeContext(model, load))
    with drive(loaded, load, make_controller(loaded, load)) as harness:
        yield harness


def texts_alone(model: FakeModel, *requests: Submit, **changes: int) -> dict[int, str]:
    """The text of each request alone, each on a fresh context."""
    texts: dict[int, str] = {}
    for request in requests:
        with open_fake_engine(model, **changes) as harness:
            texts |= harness.run(request)
    return texts
