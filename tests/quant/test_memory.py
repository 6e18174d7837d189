"""Sizes from header values: the formulas of GUIDE 9.1 against published figures."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from outrider.quant.gguf import Header, Tensor, Value, read_header
from outrider.quant.layers import num_layers
from outrider.quant.memory import (
    ContextShape,
    ModelHeaders,
    cache_bytes,
    estimate_memory,
    has_states,
)
from tiny_gemma import write_gemma4

pytestmark = pytest.mark.unit

MIB = 1 << 20


def header(architecture: str, **values: Value) -> Header:
    """Keys such as "llama.attention.head_count", from names such as attention_head_count."""
    prefix = re.compile("^(attention|ssm)_")
    named = {f"{architecture}." + prefix.sub(r"\1.", key): v for key, v in values.items()}
    return Header(Path("/m"), 3, 1000, {"general.architecture": architecture, **named}, ())


def context(
    cells: int, *, sequences: int = 1, ubatch: int = 512, kv_type: str = "f16", snapshots: int = 0
) -> ContextShape:
    return ContextShape(cells, sequences, ubatch, kv_type, snapshots)


LLAMA_8B = header(
    "llama",
    block_count=32,
    embedding_length=4096,
    attention_head_count=32,
    attention_head_count_kv=8,
)


@dataclass(frozen=True, slots=True)
class Gemma4:
    """The published shape, and the bytes of GUIDE 9.1: by token, by cell of the windows."""

    layers: int
    shared: int
    period: int  # every so many layers one has global attention
    heads_global: int
    heads_window: int
    window: int
    global_bytes: int
    window_bytes: int

    def header(self) -> Header:
        windows = [(layer + 1) % self.period != 0 for layer in range(self.layers)]
        heads = [self.heads_window if w else self.heads_global for w in windows]
        return header(
            "gemma4",
            block_count=self.layers,
            attention_shared_kv_layers=self.shared,
            attention_sliding_window=self.window,
            attention_sliding_window_pattern=list(windows),
            attention_head_count=16,
            attention_head_count_kv=list(heads),
            attention_key_length=512,
            attention_value_length=512,
            attention_key_length_swa=256,
            attention_value_length_swa=256,
        )


GEMMA4 = {
    "31B": Gemma4(60, 0, 6, 4, 16, 1024, 81_920, 819_200),
    "26B-A4B": Gemma4(30, 0, 6, 2, 8, 1024, 20_480, 204_800),
    "12B": Gemma4(48, 0, 6, 1, 8, 1024, 16_384, 327_680),
    "E4B": Gemma4(42, 18, 6, 2, 2, 512, 16_384, 40_960),
    "E2B": Gemma4(35, 20, 5, 1, 1, 512, 6_144, 12_288),
}


def test_plain_attention() -> None:
    assert cache_bytes(LLAMA_8B, context(8192)) == 1024 * MIB, "128 KiB a token"
    assert cache_bytes(LLAMA_8B, context(8192, kv_type="q8_0")) == 544 * MIB
    assert cache_bytes(LLAMA_8B, context(8192, kv_type="q4_0")) == 288 * MIB
    assert cache_bytes(LLAMA_8B, context(8192, kv_type="f32")) == 2048 * MIB
    assert cache_bytes(LLAMA_8B, context(8192, sequences=64)) == 1024 * MIB, "sequences are free"
    assert cache_bytes(LLAMA_8B, context(1)) == cache_bytes(LLAMA_8B, context(256))


def test_without_heads_for_keys_every_head_has_its_own() -> None:
    old = header("llama", block_count=2, embedding_length=64, attention_head_count=4)
    assert cache_bytes(old, context(256)) == 256 * 2 * 2 * 64 * 2


@pytest.mark.parametrize("name", GEMMA4)
def test_windows_of_gemma_4(name: str) -> None:
    shape = GEMMA4[name]
    found, window_cells = shape.header(), shape.window + 512
    expected = 32768 * shape.global_bytes + window_cells * shape.window_bytes
    assert cache_bytes(found, context(32768)) == expected
    more = cache_bytes(found, context(32768, sequences=4)) - expected
    assert more == 3 * shape.window * shape.window_bytes, "each sequence takes a window"
    assert cache_bytes(found, context(256)) == 256 * (shape.global_bytes + shape.window_bytes)
    assert has_states(found)


def test_a_period_of_windows_ends_with_full_attention() -> None:
    gemma3 = header(
        "gemma3",
        block_count=12,
        embedding_length=64,
        attention_head_count=1,
        attention_sliding_window=256,
        attention_sliding_window_pattern=6,
    )
    cell_bytes = 2 * 64 * 2
    expected = 2 * 8192 * cell_bytes + 10 * 768 * cell_bytes
    assert cache_bytes(gemma3, context(8192)) == expected


def test_a_period_that_the_header_does_not_name() -> None:
    gpt_oss = header(
        "gpt-oss",
        block_count=4,
        embedding_length=64,
        attention_head_count=1,
        attention_sliding_window=256,
    )
    assert cache_bytes(gpt_oss, context(8192)) == 2 * (8192 + 768) * 2 * 64 * 2


def test_windows_of_unknown_layers_count_as_full_attention() -> None:
    unknown = header(
        "unknown",
        block_count=2,
        embedding_length=64,
        attention_head_count=1,
        attention_sliding_window=256,
    )
    assert cache_bytes(unknown, context(8192)) == 2 * 8192 * 2 * 64 * 2


def test_recurrent_states_of_a_hybrid() -> None:
    hybrid = header(
        "qwen35",
        block_count=9,
        nextn_predict_layers=1,
        full_attention_interval=4,
        embedding_length=64,
        attention_head_count=4,
        attention_head_count_kv=2,
        ssm_conv_kernel=4,
        ssm_inner_size=128,
        ssm_state_size=16,
        ssm_group_count=2,
    )
    attention = 2 * 1024 * 2 * 32 * 2  # the head at the end has a context of its own
    state = (3 * (128 + 2 * 2 * 16) + 16 * 128) * 4
    assert cache_bytes(hybrid, context(1024)) == attention + 6 * state
    many = context(1024, sequences=6, snapshots=4)
    assert cache_bytes(hybrid, many) == attention + 6 * 6 * 5 * state
    assert has_states(hybrid)


def test_a_purely_recurrent_model_and_a_layer_without_heads() -> None:
    ssm: dict[str, Value] = {"ssm_conv_kernel": 4, "ssm_inner_size": 128, "ssm_state_size": 16}
    state = (3 * 128 + 16 * 128) * 4
    mamba = header("mamba", block_count=2, embedding_length=64, **ssm)
    assert cache_bytes(mamba, context(4096, sequences=3)) == 2 * 3 * state
    assert cache_bytes(mamba, context(4096, sequences=3, snapshots=4)) == 2 * 3 * state
    jamba = header(
        "jamba",
        block_count=2,
        embedding_length=64,
        attention_head_count=4,
        attention_head_count_kv=[0, 2],
        **ssm,
    )
    assert cache_bytes(jamba, context(256)) == state + 256 * 2 * 32 * 2


def test_an_encoder_has_no_cache() -> None:
    bert = header(
        "bert",
        block_count=12,
        embedding_length=384,
        attention_head_count=12,
        attention_causal=False,
    )
    assert cache_bytes(bert, context(512)) == 0
    assert not has_states(bert)


def test_the_parts_add_up() -> None:
    tensors = (Tensor("a", "Q8_0", (32, 4), 0, 136), Tensor("b", "F32", (4,), 160, 16))
    model = ModelHeaders(Header(Path("/m"), 3, 1000, LLAMA_8B.values, tensors))
    found = estimate_memory(model, context(8192))
    assert found.host.weights_bytes == 152
    assert found.host.cache_bytes == 1024 * MIB
    assert found.total_bytes == 152 + 1024 * MIB + found.host.compute_bytes


def test_a_header_that_states_nothing_costs_nothing() -> None:
    assert cache_bytes(header("unknown"), context(4096)) == 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Header:
    """The header of a real file."""
    return read_header(write_gemma4(tmp_path_factory.mktemp("odd") / "gemma.gguf"))


def is_sized(found: Header) -> bool:
    """Whether its memory has a size, whatever else it says."""
    model = ModelHeaders(found, mtp=True)
    return estimate_memory(model, context(4096, kv_type="q8_0")).total_bytes >= 0


def test_a_header_without_one_of_its_keys_or_with_an_odd_one_has_a_size(whole: Header) -> None:
    for key in whole.values:
        if key.startswith("tokenizer."):
            continue
        without = {name: value for name, value in whole.values.items() if name != key}
        assert is_sized(replace(whole, values=without))
        for odd in (0, -7, (1 << 32) - 1, "x", [-1] * 9, 1.5):
            assert is_sized(replace(whole, values={**whole.values, key: odd})), (key, odd)


def test_a_header_without_one_of_its_tensors_or_with_a_flat_one_has_a_size(whole: Header) -> None:
    for number, tensor in enumerate(whole.tensors):
        before, after = whole.tensors[:number], whole.tensors[number + 1 :]
        assert is_sized(replace(whole, tensors=(*before, *after))), tensor.name
        flat = replace(tensor, shape=(7,))
        assert is_sized(replace(whole, tensors=(*before, flat, *after))), tensor.name


def test_more_layers_than_llama_cpp_loads_are_not_counted() -> None:
    """A header of a few bytes must not keep the daemon busy for hours."""
    endless = replace(LLAMA_8B, values={**LLAMA_8B.values, "llama.block_count": (1 << 32) - 1})
    assert num_layers(endless) == 512
    assert cache_bytes(endless, context(8192)) == 512 // 32 * cache_bytes(LLAMA_8B, context(8192))
