"""Do adapters change the text as they should, with and without drafts, and in embeddings?"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from engines import open_engine
from gguf import GGUFReader
from harness import load_spec, text_request
from native import Native, decode, logits
from outrider.daemon.errors import LoadFailed
from outrider.daemon.protocol import Load
from outrider.daemon.runner.batch import Batch
from outrider.daemon.runner.llama.context import EmbeddingContext
from outrider.daemon.runner.llama.loading import load_context, load_model
from tiny import write_gguf, write_llama
from tiny_lora import write_lora, write_merged

pytestmark = [
    pytest.mark.model,
    pytest.mark.filterwarnings("ignore:llama_token_get_attr"),
]  # llguidance calls it

EVERY = ("attn_q.weight", "attn_v.weight", "ffn_up.weight", "ffn_down.weight", "output.weight")
TOKENS = [72, 69, 76, 76, 79]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("gguf") / "base.gguf", seed=1)


@pytest.fixture(scope="module")
def lora(base: Path) -> Path:
    return write_lora(base.with_name("lora.gguf"), base, changed=EVERY)


def adapted(base: Path, *adapters: Path, **changes: object) -> Load:
    load = load_spec(base, **changes)  # type: ignore[arg-type]
    return msgspec.structs.replace(load, adapters=tuple(map(str, adapters)))


def text_of(load: Load) -> str:
    with open_engine(load) as engine:
        return engine.run(text_request(1, "Tell me of the fox", 60))[1]


def last_logits(load: Load) -> np.ndarray:
    loaded = load_model(load, lambda _fraction: None)
    batch = Batch(len(TOKENS))
    batch.add(0, 0, TOKENS, outputs=1)
    loaded.context.decode(batch)
    row = loaded.context.logits(len(TOKENS) - 1).copy()
    loaded.context.close()
    loaded.model.close()
    return row


def test_the_logits_are_those_of_the_merged_weights(base: Path, lora: Path, tmp_path: Path) -> None:
    merged = write_merged(tmp_path / "merged.gguf", base, lora)
    with Native() as native:
        model = native.model(merged)
        context = native.context(model)
        assert decode(context, TOKENS, 0) == 0
        expected = logits(context, model)
    assert np.allclose(last_logits(adapted(base, lora)), expected, atol=1e-3)
    assert not np.allclose(last_logits(load_spec(base)), expected, atol=0.1)


def test_the_text_is_that_of_the_merged_weights(base: Path, lora: Path, tmp_path: Path) -> None:
    merged = write_merged(tmp_path / "merged.gguf", base, lora)
    assert text_of(adapted(base, lora)) == text_of(load_spec(merged)) != text_of(load_spec(base))


def test_drafts_change_nothing_of_an_adapted_text(base: Path, lora: Path) -> None:
    request = text_request(1, "Tell me of the fox", 60)
    plain = text_of(adapted(base, lora))
    for drafter in (base, write_llama(base.with_name("other.gguf"), seed=2)):
        load = adapted(base, lora, draft=str(drafter), speculation=4)
        with open_engine(load) as engine:
            fixed = msgspec.structs.replace(request, draft_fixed=4)
            assert engine.run(fixed)[1] == plain
            assert engine.stats[-1].drafted_tokens > 0


def test_adapters_add_up(base: Path, lora: Path) -> None:
    other = write_lora(base.with_name("other-lora.gguf"), base, seed=8)
    texts = {text_of(adapted(base, *adapters)) for adapters in ((lora,), (other,), (lora, other))}
    assert len(texts) == 3


def test_vectors_are_adapted(base: Path, lora: Path) -> None:
    def vector(load: Load) -> np.ndarray:
        loaded = load_context(EmbeddingContext, load, lambda _fraction: None)
        batch = Batch(len(TOKENS))
        batch.add(0, 0, TOKENS, outputs=len(TOKENS))
        loaded.context.decode(batch)
        return loaded.context.vector(0)

    plain, tuned = (vector(adapted(base, *a, embedding=True)) for a in ((), (lora,)))
    assert not np.allclose(plain, tuned, atol=0.1)


def test_an_adapter_for_other_weights_is_refused(base: Path, tmp_path: Path) -> None:
    wide = write_llama(tmp_path / "wide.gguf", embd=128)
    lora = write_lora(tmp_path / "lora.gguf", wide)
    with pytest.raises(
        LoadFailed, match=r"lora\.gguf does not fit .*base\.gguf: it expects blk\.0"
    ):
        load_model(adapted(base, lora), lambda _fraction: None)


def test_llama_cpp_refuses_what_the_check_refuses(
    base: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the check its own error counts, so the check can only be too strict."""
    monkeypatch.setattr(
        "outrider.daemon.runner.llama.adapter.find_misfit", lambda _base, _adapter: ""
    )
    halves = [(t.name, np.array(t.data)) for t in GGUFReader(lora).tensors]
    keys = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}
    half = write_gguf(tmp_path / "half.gguf", keys, halves[:1])
    with pytest.raises(LoadFailed, match=r"unable to load the adapter .*half\.gguf: "):
        load_model(adapted(base, half), lambda _fraction: None)


def test_a_missing_adapter_is_named(base: Path, tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match=r"gone\.gguf cannot be read"):
        load_model(adapted(base, tmp_path / "gone.gguf"), lambda _fraction: None)
