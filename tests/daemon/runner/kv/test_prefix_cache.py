"""Reused prefixes on real contexts of every memory kind: logits equal a from-scratch run's."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from harness import load_spec
from numpy.typing import NDArray
from outrider.daemon.runner.batch import Batch
from outrider.daemon.runner.engine import trim_mode_of
from outrider.daemon.runner.kv.cached_sequence import CachedSequence, common_prefix
from outrider.daemon.runner.kv.prefix_cache import PrefixCache
from outrider.daemon.runner.llama.context import TextContext, num_seqs
from outrider.daemon.runner.llama.loading import LoadedContext, load_model
from tiny import write_llama
from tiny_gemma import write_gemma3, write_gemma4
from tiny_recurrent import write_mamba, write_qwen35

pytestmark = pytest.mark.model

Builder = Callable[[Path], Path]
MODELS: dict[str, Builder] = {
    "llama": write_llama,
    "gemma3": write_gemma3,
    "gemma4": write_gemma4,
    "gemma4-shared-kv": lambda path: write_gemma4(path, shared_kv_layers=2, per_layer_embd=16),
    "gemma4-moe": lambda path: write_gemma4(path, experts=4),
    "qwen35-hybrid": write_qwen35,
    "mamba": write_mamba,
}
CELLS = 4096
HOST_CACHE_BYTES = 1 << 26
TOLERANCE = 2e-3  # of the logits' spread: another layout adds in another order


@dataclass
class CacheHarness:
    """A context, the cache over it, and a second context that starts from scratch each time."""

    loaded: LoadedContext
    cache: PrefixCache
    scratch: TextContext

    def evaluate(
        self, tokens: list[int], *, checkpoint_at: tuple[int, ...] = ()
    ) -> tuple[CachedSequence, int]:
        """Open the text and compute what is missing; checks the logits. Returns the reused part."""
        kv_seq = self.cache.open(tokens)
        reused = len(kv_seq.tokens)
        assert reused == common_prefix(tokens, kv_seq.tokens)
        logits = self.feed(kv_seq, tokens[reused:], checkpoint_at)
        assert_same(logits, self.from_scratch(tokens))
        return kv_seq, reused

    def feed(
        self, kv_seq: CachedSequence, tokens: list[int], checkpoint_at: tuple[int, ...] = ()
    ) -> NDArray[np.float32]:
        """Evaluate further tokens, in chunks that end at the checkpoint_at."""
        rows, start = Batch(256), len(kv_seq.tokens)
        ends = {m - start for m in checkpoint_at if start < m < start + len(tokens)}
        cuts = sorted(ends | set(range(256, len(tokens), 256)) | {len(tokens)})
        done = 0
        for cut in cuts:
            rows.clear()
            last = rows.add(kv_seq.seq, start + done, tokens[done:cut], outputs=1)
            assert self.cache.reserve(cut - done)
            assert self.loaded.context.decode(rows) == 0
            self.cache.extend(kv_seq, tokens[done:cut])
            if start + cut in checkpoint_at:
                self.cache.checkpoint(kv_seq)
            done = cut
        return np.array(self.loaded.context.logits(last))

    def from_scratch(self, tokens: list[int]) -> NDArray[np.float32]:
        rows = Batch(256)
        self.scratch.clear(0)
        for start in range(0, len(tokens), 256):
            rows.clear()
            last = rows.add(0, start, tokens[start : start + 256], outputs=1)
            assert self.scratch.decode(rows) == 0
        return np.array(self.scratch.logits(last))


@pytest.fixture(scope="module", params=MODELS)
def gguf(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MODELS[request.param](tmp_path_factory.mktemp("gguf") / f"{request.param}.gguf")


@pytest.fixture
def harness(gguf: Path) -> Iterator[CacheHarness]:
    with open_harness(gguf) as harness:
        yield harness


@contextmanager
def open_harness(gguf: Path, *, host_cache_bytes: int = HOST_CACHE_BYTES) -> Iterator[CacheHarness]:
    load = load_spec(gguf, cells=CELLS, num_ctx=1024, batch=256)
    loaded = load_model(load, lambda _fraction: None)
    model = loaded.model
    cache = PrefixCache(
        loaded.context,
        seqs=num_seqs(model, load),
        cells=CELLS,
        trim_mode=trim_mode_of(model),
        window=model.window,
        host_cache_bytes=host_cache_bytes,
    )
    scratch = TextContext(model, load)
    yield CacheHarness(loaded, cache, scratch)
    scratch.close()
    loaded.context.close()
    model.close()


def text(seed: int, length: int) -> list[int]:
    return random.Random(seed).choices(range(33, 127), k=length)


def assert_same(logits: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    difference = float(np.abs(logits - expected).max() / expected.std())
    assert difference < TOLERANCE, difference


def test_a_continuation_computes_only_what_is_new(harness: CacheHarness) -> None:
    first = text(1, 200)
    kv_seq, reused = harness.evaluate(first)
    assert reused == 0
    harness.cache.release(kv_seq)
    _, reused = harness.evaluate(first + text(2, 50))
    assert reused == 200


def test_a_repeated_prompt_computes_one_token(harness: CacheHarness) -> None:
    prompt = text(3, 150)
    kv_seq, _ = harness.evaluate(prompt, checkpoint_at=(149,))
    harness.feed(kv_seq, text(4, 200))  # the answer: more than the window cache has cells for
    harness.feed(kv_seq, text(5, 200))
    harness.cache.release(kv_seq)
    _, reused = harness.evaluate(prompt, checkpoint_at=(149,))
    assert reused == 149


def test_a_shared_prefix_is_computed_once_from_the_second_branch_on(harness: CacheHarness) -> None:
    system = text(5, 160)
    reused = []
    for branch in range(4):
        prompt = system + text(10 + branch, 250)
        shared = harness.cache.shared(prompt)
        kv_seq, count = harness.evaluate(prompt, checkpoint_at=(shared, len(prompt) - 1))
        reused.append(count)
        harness.feed(kv_seq, text(branch, 200))
        harness.cache.release(kv_seq)
    assert reused[0] == 0
    assert min(reused[2:]) >= 160


def test_two_branches_go_on_side_by_side_past_the_window(harness: CacheHarness) -> None:
    system = text(6, 100)
    first, _ = harness.evaluate(system, checkpoint_at=(99,))
    second, reused = harness.evaluate(system, checkpoint_at=(99,))
    assert reused == 99
    texts = {first.seq: list(system), second.seq: list(system)}
    for step in range(8):
        for kv_seq in (first, second):
            more = text(100 * kv_seq.seq + step, 40)
            texts[kv_seq.seq] += more
            logits = harness.feed(kv_seq, more)
    assert_same(logits, harness.from_scratch(texts[second.seq]))
    assert_same(harness.feed(first, [50]), harness.from_scratch([*texts[first.seq], 50]))


def test_a_copy_outlives_its_original(harness: CacheHarness) -> None:
    system = text(7, 120)
    first, _ = harness.evaluate(system, checkpoint_at=(119,))
    second, _ = harness.evaluate(system)
    harness.cache.drop(first)
    more = text(8, 90)
    assert_same(harness.feed(second, more), harness.from_scratch(system + more))


def test_what_is_evicted_is_computed_again(gguf: Path) -> None:
    with open_harness(gguf, host_cache_bytes=0) as harness:
        prompt = text(9, 140)
        kv_seq, _ = harness.evaluate(prompt)
        harness.cache.release(kv_seq)
        assert harness.cache.reserve(CELLS)
        assert harness.cache.num_cells_used == 0
        assert harness.evaluate(prompt)[1] == 0


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_the_logits_are_those_of_a_fresh_run(gguf: Path, seed: int) -> None:
    rng = random.Random(seed)
    stems = [text(20 + i, 300) for i in range(3)]
    with open_harness(gguf) as harness:
        busy: list[tuple[CachedSequence, list[int]]] = []
        for step in range(40):
            if busy and (len(busy) == 4 or rng.random() < 0.5):
                kv_seq, so_far = busy.pop(rng.randrange(len(busy)))
                if rng.random() < 0.5:
                    more = text(rng.randrange(10**6), rng.randrange(1, 250))
                    if harness.cache.reserve(len(more)):
                        assert_same(harness.feed(kv_seq, more), harness.from_scratch(so_far + more))
                harness.cache.release(kv_seq)
                continue
            stem = rng.choice(stems)
            tokens = stem[: rng.randrange(20, 300)] + text(rng.randrange(4) + step % 3, 60)
            if harness.cache.num_available() < len(tokens):
                continue
            shared = harness.cache.shared(tokens)
            kv_seq, _ = harness.evaluate(tokens, checkpoint_at=(shared, len(tokens) - 1))
            busy.append((kv_seq, tokens))


def test_an_offloaded_sequence_comes_back_from_host_memory(harness: CacheHarness) -> None:
    first, second = text(70, 200), text(71, 150)
    kv_seq, _ = harness.evaluate(first)
    harness.cache.release(kv_seq)
    harness.cache.offload_released()
    assert harness.cache.num_cells_used == 0
    other, _ = harness.evaluate(second)
    _, reused = harness.evaluate(first + text(72, 40))
    assert reused == 200
    harness.feed(other, text(73, 30))  # the busy sequence beside it is unchanged


def test_a_returned_prefix_can_leave_again_and_serve_two(harness: CacheHarness) -> None:
    prompt = text(74, 180)
    kv_seq, _ = harness.evaluate(prompt, checkpoint_at=(120, 179))
    harness.feed(kv_seq, text(75, 60))
    harness.cache.release(kv_seq)
    for number in range(2):
        harness.cache.offload_released()
        branch, reused = harness.evaluate(
            prompt[:121] + text(76 + number, 50), checkpoint_at=(120,)
        )
        assert reused >= 120
        harness.cache.release(branch)


def test_a_full_host_cache_evicts(tmp_path: Path) -> None:
    with open_harness(write_llama(tmp_path / "m.gguf"), host_cache_bytes=1) as small:
        kv_seq, _ = small.evaluate(text(80, 100))
        small.cache.release(kv_seq)
        small.cache.offload_released()
        assert small.cache.reusable(text(80, 100)) == 0


def test_without_a_host_cache_released_sequences_keep_their_cells(tmp_path: Path) -> None:
    with open_harness(write_llama(tmp_path / "m.gguf"), host_cache_bytes=0) as harness:
        kv_seq, _ = harness.evaluate(text(81, 100))
        harness.cache.release(kv_seq)
        harness.cache.offload_released()
        assert harness.cache.num_cells_used == 100
