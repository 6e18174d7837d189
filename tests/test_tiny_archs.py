"""Whether the tiny models of each architecture are what tests of the KV cache need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from engines import open_engine
from harness import load_spec, text_request
from llama_cpp import llama_cpp as lib
from llama_cpp import llama_cpp_ext as ext
from native import Floats, Native, decode, embedding, logits, tokenize
from outrider.daemon.runner.batch import Batch
from outrider.daemon.runner.llama.context import TextContext
from outrider.daemon.runner.llama.loading import LoadedContext, load_model
from tiny_bert import write_bert
from tiny_gemma import write_gemma3, write_gemma4, write_gemma4_assistant
from tiny_recurrent import write_mamba, write_qwen35

pytestmark = pytest.mark.model

WINDOW = 32
LAYERS = 4
PROMPT = (
    "A tiny model is asked for its thoughts on a text that is a good deal longer than its window, "
    "so that what it read first is out of sight by now."
)
EARLY = 5  # from the end of the prompt all the window layers together do not see this position


@dataclass(frozen=True, slots=True)
class Kind:
    """A builder, and what llama.cpp should say of its files."""

    write: Callable[[Path], Path]
    window: int = 0
    is_hybrid: bool = False
    is_recurrent: bool = False


write_small_gemma4 = partial(write_gemma4, window=WINDOW, layers=LAYERS)
KINDS = {
    "gemma3": Kind(partial(write_gemma3, window=WINDOW, layers=LAYERS), WINDOW),
    "gemma4": Kind(write_small_gemma4, WINDOW),
    "gemma4-shared-kv": Kind(partial(write_small_gemma4, shared_kv_layers=2), WINDOW),
    "gemma4-per-layer": Kind(partial(write_small_gemma4, per_layer_embd=8), WINDOW),
    "gemma4-both": Kind(partial(write_small_gemma4, shared_kv_layers=2, per_layer_embd=8), WINDOW),
    "gemma4-experts": Kind(partial(write_small_gemma4, experts=4), WINDOW),
    "qwen35": Kind(write_qwen35, is_hybrid=True),
    "qwen35-experts": Kind(partial(write_qwen35, experts=4), is_hybrid=True),
    "mamba": Kind(write_mamba, is_recurrent=True),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def gguf(kind: Kind, tmp_path: Path) -> Path:
    return kind.write(tmp_path / "tiny.gguf")


@pytest.fixture
def loaded(gguf: Path) -> Iterator[LoadedContext]:
    loaded = load_model(load_spec(gguf, batch=256, threads=1), lambda _fraction: None)
    yield loaded
    loaded.context.close()
    loaded.model.close()


def test_llama_cpp_knows_the_kind_of_memory(kind: Kind, loaded: LoadedContext) -> None:
    handle = loaded.model.handle
    assert lib.llama_model_n_swa(handle) == kind.window
    assert lib.llama_model_is_hybrid(handle) == kind.is_hybrid
    assert lib.llama_model_is_recurrent(handle) == kind.is_recurrent


def test_a_file_is_small_and_repeats(kind: Kind, gguf: Path) -> None:
    assert gguf.stat().st_size < 3e6
    content = gguf.read_bytes()
    assert kind.write(gguf).read_bytes() == content


@pytest.mark.parametrize("step", [1, 7])
def test_logits_do_not_depend_on_the_batch(loaded: LoadedContext, step: int) -> None:
    tokens = loaded.model.tokenize(PROMPT, add_bos=False)
    at_once = _prefill(loaded.context, 0, tokens, len(tokens))
    in_steps = _prefill(loaded.context, 1, tokens, step)
    assert 2 < _spread(loaded, at_once) < 7
    assert np.abs(at_once - in_steps).max() < 1e-2 * _spread(loaded, at_once)


def test_an_early_token_changes_later_logits(loaded: LoadedContext) -> None:
    """Far more than a batch does, so a test can see a cache that holds a wrong token."""
    tokens = loaded.model.tokenize(PROMPT, add_bos=False)
    assert len(tokens) - EARLY > LAYERS // 2 * WINDOW
    other = [*tokens[:EARLY], *loaded.model.tokenize("Z", add_bos=False), *tokens[EARLY + 1 :]]
    first = _prefill(loaded.context, 0, tokens, len(tokens))
    second = _prefill(loaded.context, 1, other, len(tokens))
    assert np.abs(first - second).max() > 5e-2 * _spread(loaded, first)


def test_greedy_text_does_not_collapse(gguf: Path) -> None:
    with open_engine(load_spec(gguf, threads=1)) as harness:
        text = harness.run(text_request(1, "Once upon a time there was", num_predict=64))[1]
    assert len(text) >= 64
    assert len({text[i : i + 3] for i in range(len(text) - 2)}) >= 40


def test_a_state_with_snapshots_is_rolled_back(tmp_path: Path) -> None:
    """Two of the last four tokens are forgotten; the rest is as if they had never been."""
    tokens = list(range(40, 60))
    with Native() as native:
        model = native.model(write_qwen35(tmp_path / "hybrid.gguf"))
        context = native.context(model, n_rs_seq=3, n_seq_max=2)
        assert lib.llama_n_rs_seq(context) == 3
        assert decode(context, tokens[:16], 0) == 0
        assert decode(context, [*tokens[16:18], 70, 71], 16) == 0
        assert lib.llama_memory_seq_rm(lib.llama_get_memory(context), 0, 18, -1)
        assert decode(context, tokens[18:], 18) == 0
        rolled_back = logits(context, model)
        assert decode(context, tokens, 0, seq=1) == 0
        assert np.abs(rolled_back - logits(context, model)).max() < 1e-2


def test_a_purely_recurrent_state_has_no_snapshots(tmp_path: Path) -> None:
    with Native() as native:
        model = native.model(write_mamba(tmp_path / "recurrent.gguf"))
        context = native.context(model, n_rs_seq=3)
        assert lib.llama_n_rs_seq(context) == 0
        assert decode(context, list(range(40, 50)), 0) == 0
        assert not lib.llama_memory_seq_rm(lib.llama_get_memory(context), 0, 8, -1)


def test_embeddings_tell_texts_apart(tmp_path: Path) -> None:
    texts = "The cat sat.", "the CAT sat .", "A dog ran!"
    with Native() as native:
        model = native.model(write_bert(tmp_path / "bert.gguf"))
        context = native.context(model, embeddings=True)
        assert lib.llama_pooling_type(context) == lib.LLAMA_POOLING_TYPE_MEAN
        cat, same_cat, dog = (embedding(context, model, text) for text in texts)
    assert np.abs(cat - same_cat).max() < 1e-5
    cosine = cat @ dog / (np.linalg.norm(cat) * np.linalg.norm(dog))
    assert cosine < 0.95


def test_an_encoder_reads_a_text_between_cls_and_sep(tmp_path: Path) -> None:
    with Native() as native:
        model = native.model(write_bert(tmp_path / "bert.gguf"))
        vocab = lib.llama_model_get_vocab(model)
        tokens = tokenize(model, "Ab c!")
        texts = [lib.llama_vocab_get_text(vocab, token).decode() for token in tokens]
    assert texts == ["[CLS]", "\u2581a", "b", "\u2581c", "\u2581!", "[SEP]"]


class Pair:
    """A Gemma 4 and its drafter, linked the way GUIDE 2.1 says."""

    def __init__(self, native: Native, folder: Path, *, shared: int = 0, flash: bool = False):
        target = write_small_gemma4(folder / "target.gguf", shared_kv_layers=shared)
        drafter = write_gemma4_assistant(folder / "drafter.gguf", target)
        modes = (lib.LLAMA_FLASH_ATTN_TYPE_DISABLED, lib.LLAMA_FLASH_ATTN_TYPE_ENABLED)
        facts = {"flash_attn_type": modes[flash]}
        self.model, self.draft_model = native.model(target), native.model(drafter)
        self.context = native.context(self.model, **facts)
        link = {"ctx_other": self.context, "ctx_type": lib.LLAMA_CONTEXT_TYPE_MTP}
        self.draft_context = native.context(self.draft_model, **facts, **link)
        ext.llama_set_embeddings_nextn(self.context, True, True)
        ext.llama_set_embeddings_nextn(self.draft_context, True, True)

    def advance(self, tokens: Sequence[int], position: int) -> tuple[int, Floats]:
        """The target's next token, and the hidden row that it came from."""
        assert decode(self.context, tokens, position) == 0
        return int(logits(self.context, self.model).argmax()), self._hidden(self.context)

    def draft(self, token: int, position: int, hidden: Floats) -> tuple[Floats, Floats]:
        """The drafter's logits, and its own hidden row."""
        assert decode(self.draft_context, [token], position, rows=hidden) == 0
        return logits(self.draft_context, self.draft_model), self._hidden(self.draft_context)

    def _hidden(self, context: int) -> Floats:
        row = ext.llama_get_embeddings_nextn_ith(context, -1)
        return np.ctypeslib.as_array(row, (lib.llama_model_n_embd_out(self.model),)).copy()


def test_a_drafter_fits_its_target(tmp_path: Path) -> None:
    with Native() as native:
        pair = Pair(native, tmp_path)
        target, drafter = pair.model, pair.draft_model
        assert ext.llama_get_ctx_other(pair.draft_context) == pair.context
        assert lib.llama_model_n_embd_out(drafter) == lib.llama_model_n_embd_out(target)
        assert lib.llama_model_n_embd(drafter) != lib.llama_model_n_embd(target)
        assert lib.llama_model_n_swa(drafter) == WINDOW


@pytest.mark.parametrize("shared", [0, 2])
@pytest.mark.parametrize("flash", [False, True])
def test_a_drafter_predicts_a_part_of_the_text(tmp_path: Path, shared: int, flash: bool) -> None:
    with Native() as native:
        pair = Pair(native, tmp_path, shared=shared, flash=flash)
        token, hidden = pair.advance(range(40, 90), 0)
        hits = []
        for position in range(50, 100):
            draft = pair.draft(token, position, hidden)[0].argmax()
            token, hidden = pair.advance([token], position)
            hits.append(draft == token)
    assert 0.1 < np.mean(hits) < 0.8


def test_chained_drafts_leave_the_target_alone(tmp_path: Path) -> None:
    with Native() as native:
        pair = Pair(native, tmp_path)
        token, hidden = pair.advance(range(40, 90), 0)
        for _ in range(3):  # all at the same position (GUIDE 0.6)
            logits, hidden = pair.draft(token, 50, hidden)
            token = int(logits.argmax())
            assert np.isfinite(logits).all()
        memory = lib.llama_get_memory(pair.context)
        assert lib.llama_memory_seq_pos_max(memory, 0) == 49


def test_a_drafter_reads_the_targets_cache(tmp_path: Path) -> None:
    """The same token and hidden row after another prompt give other drafts."""
    with Native() as native:
        pair = Pair(native, tmp_path)
        token, hidden = pair.advance(range(40, 90), 0)
        first, _ = pair.draft(token, 50, hidden)
        lib.llama_memory_seq_rm(lib.llama_get_memory(pair.context), 0, -1, -1)
        pair.advance(range(41, 91), 0)
        second, _ = pair.draft(token, 50, hidden)
    assert np.abs(first - second).max() > 0.1


def _prefill(context: TextContext, slot: int, tokens: Sequence[int], step: int) -> Floats:
    """The logits after the last token, a copy."""
    rows = Batch(step)
    for start in range(0, len(tokens), step):
        rows.clear()
        last = rows.add(slot, start, tokens[start : start + step], outputs=1)
        assert context.decode(rows) == 0
    return np.array(context.logits(last))


def _spread(loaded: LoadedContext, row: Floats) -> float:
    """The standard deviation of the logits of printable ASCII."""
    printable = loaded.model.tokenize("!", add_bos=False) + loaded.model.tokenize(
        "~", add_bos=False
    )
    return float(row[printable[0] : printable[1] + 1].std())
