"""How texts become vectors: real llama.cpp on tiny encoders and on tiny models that write text."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
from harness import load_spec, text_request
from native import Native, embedding
from numpy.typing import NDArray
from outrider.daemon.errors import BadRequest, LoadFailed
from outrider.daemon.protocol import (
    Cancel,
    Embed,
    Embedded,
    Failed,
    Load,
    Stats,
    Step,
    ToFront,
    Working,
)
from outrider.daemon.runner.embedding_worker import (
    CANNOT_CUT,
    NO_ROOM,
    TOO_LONG,
    EmbeddingJob,
    EmbeddingWorker,
    next_texts,
    pooling_weight,
)
from outrider.daemon.runner.llama.context import EmbeddingContext
from outrider.daemon.runner.llama.interface import CLS, LAST, MEAN, RANK
from outrider.daemon.runner.llama.loading import load_context
from tiny import write_llama
from tiny_bert import write_bert
from tiny_gemma import write_gemma3
from tiny_recurrent import write_mamba, write_qwen35

pytestmark = pytest.mark.model

TEXTS = ("hello", "the cat sat on the mat, didn't it?", "x", "zebra 7 " * 12)
Vectors = NDArray[np.float32]

CAUSAL: dict[str, Callable[[Path], Path]] = {
    "mean": partial(write_llama, extra={"llama.pooling_type": MEAN}),
    "cls": partial(write_llama, extra={"llama.pooling_type": CLS}),
    "last": partial(write_llama, extra={"llama.pooling_type": LAST}),
    "unstated": write_llama,
    "none": partial(write_llama, extra={"llama.pooling_type": 0}),
    "window": partial(write_gemma3, window=32, layers=4),
    "recurrent": write_mamba,
    "hybrid": write_qwen35,
}


@dataclass
class Bench:
    """An embedder and everything that it said."""

    embedder: EmbeddingWorker
    context: object
    said: list[Embedded]
    stats: list[Stats]
    failed: list[Failed]

    def embed(self, *texts: str) -> Vectors:
        """One request, by itself."""
        self.said.clear()
        self.embedder.submit(request(1, *texts))
        while not self.said:
            self.embedder.turn()
        return vectors(self.said[0])


@contextmanager
def open_bench(load: Load) -> Iterator[Bench]:
    loaded = load_context(EmbeddingContext, load, lambda _fraction: None)
    said: list[Embedded] = []
    stats: list[Stats] = []
    failed: list[Failed] = []

    def take(message: ToFront) -> None:
        if isinstance(message, Step):
            assert message.stats
            stats.append(msgspec.structs.replace(message.stats))
            return
        if isinstance(message, Failed):
            failed.append(message)
            return
        if isinstance(message, Working):
            return
        assert isinstance(message, Embedded), message
        said.append(message)

    embedder = EmbeddingWorker(loaded.model, loaded.context, load, take)
    try:
        yield Bench(embedder, loaded.context, said, stats, failed)
    finally:
        loaded.context.close()
        loaded.model.close()


def spec(gguf: Path, **changes: int) -> Load:
    facts = {"cells": 512, "batch": 512, "slots": 8, "embedding": True}
    return load_spec(gguf, **(facts | changes))


def request(request_id: int, *texts: str, num_ctx: int = 512, truncate: bool = True) -> Embed:
    return Embed(request_id, texts, num_ctx, truncate)


def vectors(embedded: Embedded) -> Vectors:
    return np.frombuffer(embedded.vectors, np.float32).reshape(-1, embedded.width)


def cosine(a: Vectors, b: Vectors) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def same(left: Vectors, right: Vectors) -> bool:
    return all(cosine(a, b) > 0.99999 for a, b in zip(left, right, strict=True))


def job(request_id: int, *lengths: int) -> EmbeddingJob:
    texts, count = [[0] * length for length in lengths], len(lengths)
    return EmbeddingJob(request_id, texts, np.zeros((count, 1), np.float32), deque(range(count)))


def packs(jobs: Sequence[EmbeddingJob], **limits: int) -> list[list[tuple[int, int]]]:
    """(job, text) of each batch until nothing waits."""
    waiting = deque(jobs)
    found = []
    while waiting:
        found.append([(item.job.id, item.index) for item in next_texts(waiting, **limits)])
    return found


def test_each_request_gives_a_text_in_turn() -> None:
    jobs = [job(1, 5, 5, 5), job(2, 5)]
    assert packs(jobs, rows=10, seqs=8) == [[(1, 0), (2, 0)], [(1, 1), (1, 2)]]


def test_a_batch_ends_with_its_rows_or_its_sequences() -> None:
    assert packs([job(1, 4, 4, 4)], rows=11, seqs=8) == [[(1, 0), (1, 1)], [(1, 2)]]
    assert packs([job(1, 4, 4, 4)], rows=99, seqs=2) == [[(1, 0), (1, 1)], [(1, 2)]]
    assert packs([job(1, 4, 4, 4)], rows=12, seqs=8) == [[(1, 0), (1, 1), (1, 2)]]


def test_a_text_longer_than_a_batch_goes_alone() -> None:
    jobs = [job(1, 100, 1), job(2, 1, 50)]
    assert packs(jobs, rows=10, seqs=8) == [[(1, 0)], [(2, 0), (1, 1)], [(2, 1)]]


@pytest.mark.parametrize("pooling", [MEAN, CLS, LAST])
def test_the_shares_of_all_pieces_are_one(pooling: int) -> None:
    for length in (1, 9, 10, 11, 35):
        pieces = [(start, min(10, length - start)) for start in range(0, length, 10)]
        shares = [pooling_weight(pooling, start, count, length) for start, count in pieces]
        assert sum(shares) == pytest.approx(1)
    assert pooling_weight(pooling, 0, 7, 7) == 1


def test_a_vector_is_the_one_that_llama_cpp_pools(tmp_path: Path) -> None:
    gguf = write_bert(tmp_path / "bert.gguf")
    with Native() as native:
        model = native.model(gguf)
        context = native.context(model, embeddings=True)
        expected = np.stack([embedding(context, model, text) for text in TEXTS[:3]])
    with open_bench(spec(gguf)) as bench:
        assert np.allclose(bench.embed(*TEXTS[:3]), expected, atol=1e-4)


@pytest.mark.parametrize("write", [write_bert, *CAUSAL.values()], ids=["bert", *CAUSAL])
def test_a_text_has_the_same_vector_in_whatever_company(
    write: Callable[[Path], Path], tmp_path: Path
) -> None:
    with open_bench(spec(write(tmp_path / "tiny.gguf"))) as bench:
        together = bench.embed(*TEXTS)
        alone = np.concatenate([bench.embed(text) for text in TEXTS])
        assert same(together, alone)
        assert cosine(together[0], together[1]) < 0.999, "other texts have other vectors"


@pytest.mark.parametrize("write", CAUSAL.values(), ids=CAUSAL)
def test_a_text_in_pieces_has_the_vector_of_the_whole(
    write: Callable[[Path], Path], tmp_path: Path
) -> None:
    gguf = write(tmp_path / "tiny.gguf")
    with open_bench(spec(gguf)) as bench:
        whole = bench.embed(*TEXTS)
    with open_bench(spec(gguf, batch=32)) as bench:
        assert same(bench.embed(*TEXTS), whole)


def test_the_tokens_are_counted_with_what_stands_around_them(tmp_path: Path) -> None:
    with open_bench(spec(write_bert(tmp_path / "bert.gguf"))) as bench:
        bench.embed("ab", "c")
        assert bench.said[0].prompt_tokens == 4 + 3
        assert bench.embed("").shape == (1, 64)
        assert bench.said[0].prompt_tokens == 2


def test_what_was_done_and_what_waits_is_told(tmp_path: Path) -> None:
    with open_bench(spec(write_bert(tmp_path / "bert.gguf"), slots=2)) as bench:
        bench.embed("a", "b", "c")
        first, last = bench.stats
    assert (first.steps, first.prompt_tokens, first.slots_busy, first.waiting) == (1, 6, 1, 1)
    assert (last.steps, last.prompt_tokens, last.slots_busy, last.waiting) == (2, 9, 0, 0)
    assert 0 < last.decode_ns <= last.step_ns


def test_a_text_is_cut_to_what_fits(tmp_path: Path) -> None:
    with open_bench(spec(write_bert(tmp_path / "bert.gguf"))) as bench:
        start = bench.embed("abc")
        bench.said.clear()
        bench.embedder.submit(request(1, "abcdef", "abc", num_ctx=5))
        bench.embedder.turn()
        assert bench.said[0].prompt_tokens == 10
        assert same(vectors(bench.said[0]), np.concatenate([start, start]))
        bench.embed("a" * 5000)
        assert bench.said[0].prompt_tokens == 512


@pytest.mark.parametrize(
    ("num_ctx", "truncate", "text"),
    [(5, False, TOO_LONG), (2, False, TOO_LONG), (2, True, NO_ROOM), (1, True, NO_ROOM)],
)
def test_what_cannot_be_cut_is_refused(
    tmp_path: Path, num_ctx: int, truncate: bool, text: str
) -> None:
    with open_bench(spec(write_bert(tmp_path / "bert.gguf"))) as bench:
        with pytest.raises(BadRequest, match=f"^{text}$"):
            bench.embedder.submit(request(1, "a", "abcd", num_ctx=num_ctx, truncate=truncate))
        assert bench.embed("still here").shape == (1, 64)


def test_an_encoder_does_not_take_a_text_in_pieces(tmp_path: Path) -> None:
    with open_bench(spec(write_bert(tmp_path / "bert.gguf"), batch=32)) as bench:
        bench.embed("a" * 30)
        with pytest.raises(BadRequest, match=f"^{CANNOT_CUT}$"):
            bench.embed("a" * 31)


@pytest.mark.parametrize(
    ("texts", "word"),
    [(("",), "text 0 is empty"), (("a", ""), "text 1 is empty"), ((), "no")],
)
def test_nothing_at_all_has_no_vector(tmp_path: Path, texts: tuple[str, ...], word: str) -> None:
    gguf = write_llama(tmp_path / "tiny.gguf")
    with open_bench(spec(gguf)) as bench, pytest.raises(BadRequest, match=word):
        bench.embed(*texts)


def test_a_beginning_and_an_end_are_added_where_the_model_wants_them(tmp_path: Path) -> None:
    wishes = {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True}
    with open_bench(spec(write_llama(tmp_path / "tiny.gguf", extra=wishes))) as bench:
        bench.embed("abc")
        assert bench.said[0].prompt_tokens == 5
        bench.embed("abc" * 500)
        assert bench.said[0].prompt_tokens == 512


def test_an_aborted_batch_is_evaluated_again(tmp_path: Path) -> None:
    with open_bench(spec(write_llama(tmp_path / "tiny.gguf"))) as bench:
        expected = bench.embed(*TEXTS)
        bench.said.clear()
        bench.embedder.submit(request(1, *TEXTS))
        bench.context.abort()  # type: ignore[attr-defined]
        bench.embedder.turn()
        assert not bench.said
        bench.embedder.turn()
        assert np.array_equal(vectors(bench.said[0]), expected)


def test_a_cancelled_request_is_forgotten(tmp_path: Path) -> None:
    with open_bench(spec(write_bert(tmp_path / "bert.gguf"), slots=1)) as bench:
        bench.embedder.submit(request(1, "a", "b", "c"))
        bench.embedder.submit(request(2, "d", "e"))
        bench.embedder.turn()
        bench.embedder.cancel(Cancel(1))
        for _ in range(2):
            bench.embedder.turn()
        assert [embedded.id for embedded in bench.said] == [2]
        assert bench.embed("more").shape == (1, 64)


def test_a_reranker_is_refused(tmp_path: Path) -> None:
    gguf = write_bert(tmp_path / "bert.gguf", extra={"bert.pooling_type": RANK})
    with pytest.raises(LoadFailed, match="reranker"), open_bench(spec(gguf)):
        pass


def test_a_request_for_text_is_refused(tmp_path: Path) -> None:
    gguf = write_bert(tmp_path / "bert.gguf")
    with open_bench(spec(gguf)) as bench, pytest.raises(BadRequest, match="for embeddings"):
        bench.embedder.submit(text_request(1, "hello"))


def test_a_vector_that_is_not_finite_fails_its_request_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_bench(spec(write_bert(tmp_path / "bert.gguf"))) as bench:
        healthy = bench.embed("c")
        bench.said.clear()
        vector, calls = EmbeddingContext.vector, iter(range(4))

        def spoiled(context: EmbeddingContext, seq: int) -> Vectors:
            return vector(context, seq) * (np.nan if next(calls) == 1 else 1)

        monkeypatch.setattr(EmbeddingContext, "vector", spoiled)
        bench.embedder.submit(request(1, "a", "b"))
        bench.embedder.submit(request(2, "c"))
        while not (bench.said and bench.failed):
            bench.embedder.turn()
    assert [embedded.id for embedded in bench.said] == [3 - bench.failed[0].id]
    assert "not finite" in bench.failed[0].text
    if bench.said[0].id == 2:
        assert same(vectors(bench.said[0]), healthy)
