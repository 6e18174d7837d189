"""Memory: what a model takes, by its header, against llama.cpp's own figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from outrider.quant.gguf import Header
from outrider.quant.memory import MemoryNeed, kv_cache_bytes, weights_bytes

pytestmark = pytest.mark.unit

LLAMA_8B = {  # of Llama 3.1 8B
    "general.architecture": "llama",
    "llama.block_count": 32,
    "llama.embedding_length": 4096,
    "llama.attention.head_count": 32,
    "llama.attention.head_count_kv": 8,
}


def header(**changes: object) -> Header:
    values = {**LLAMA_8B, **{f"llama.{key}": value for key, value in changes.items()}}
    return Header(Path("m.gguf"), 3, 0, values, ())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kv_type", "mib"), [("f32", 1024), ("f16", 512), ("q8_0", 272), ("q4_0", 144)]
)
def test_the_kv_cache_of_llama_8b(kv_type: str, mib: int) -> None:
    """As llama.cpp logs it for 4,096 cells: 512 MiB of f16."""
    assert kv_cache_bytes(header(), cells=4096, kv_type=kv_type) == mib << 20


def test_cells_are_padded() -> None:
    one, full = (kv_cache_bytes(header(), cells=cells, kv_type="f16") for cells in (1, 256))
    assert one == full


def test_heads_may_differ_by_layer_and_widths_from_the_embedding() -> None:
    by_layer = header(**{"attention.head_count_kv": [8] * 16 + [0] * 16})
    assert kv_cache_bytes(by_layer, cells=4096, kv_type="f16") == 256 << 20
    wide = header(**{"attention.key_length": 256, "attention.value_length": 64})
    assert kv_cache_bytes(wide, cells=4096, kv_type="f16") == 640 << 20


def test_every_head_has_keys_where_the_header_does_not_say_how_many() -> None:
    values = {key: value for key, value in LLAMA_8B.items() if "head_count_kv" not in key}
    plain = Header(Path("m.gguf"), 3, 0, values, ())
    assert kv_cache_bytes(plain, cells=4096, kv_type="f16") == 2048 << 20


def test_a_header_without_the_facts_has_no_size() -> None:
    empty = Header(Path("m.gguf"), 3, 0, {}, ())
    assert kv_cache_bytes(empty, cells=4096, kv_type="f16") == weights_bytes(empty) == 0


def test_the_total_is_the_sum_of_the_parts() -> None:
    assert MemoryNeed(1, 20, 300).total_bytes == 321
