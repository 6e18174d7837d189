"""The header reader agrees with gguf's own, and answers any damaged file with one clear error."""

import os
import random
import struct
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import quantize
from outrider.quant.gguf import Array, EveryArray, GGUFError, Header, Tensor, read_header
from tiny import CHATML, set_tensor_type, write_gguf_header, write_llama
from tiny_bert import write_bert

pytestmark = pytest.mark.unit

TOKENS = "tokenizer.ggml.tokens"
U32, I32, F32, STRING, ARRAY = (
    GGUFValueType.UINT32,
    GGUFValueType.INT32,
    GGUFValueType.FLOAT32,
    GGUFValueType.STRING,
    GGUFValueType.ARRAY,
)
HUGE = 1 << 62
MEMORY_LIMIT_BYTES = 4 << 20


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_llama(tmp_path / "tiny.gguf")


@pytest.fixture
def memory_bound() -> Iterator[None]:
    """Fails the test if Python allocates more than a few MB at any moment of it."""
    tracemalloc.start()
    try:
        yield
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < MEMORY_LIMIT_BYTES


def text(value: str | bytes) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def entry(key: str | bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def array(kind: int, count: int, elements: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + elements


def tensor(
    name: str = "t", shape: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0
) -> bytes:
    shape_bytes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + shape_bytes + struct.pack("<IQ", kind, offset)


def file_of(
    *entries: bytes, tensors: tuple[bytes, ...] = (), data: bytes = b"", version: int = 3
) -> bytes:
    counts = struct.pack("<IQQ", version, len(tensors), len(entries))
    header = b"GGUF" + counts + b"".join(entries) + b"".join(tensors)
    return header + bytes(-len(header) % 32) + data


def alignment(value: int) -> bytes:
    return entry("general.alignment", U32, struct.pack("<I", value))


# What a sound file says


def test_every_value_and_tensor_is_that_of_the_reference_reader(tiny: Path) -> None:
    header = read_header(tiny, arrays=EveryArray())
    reference = GGUFReader(tiny)
    expected = {
        key: field.contents()
        for key, field in reference.fields.items()
        if not key.startswith("GGUF.")
    }
    assert header.values == expected
    assert header.tensors == tuple(
        Tensor(t.name, t.tensor_type.name, tuple(t.shape.tolist()), t.data_offset, t.n_bytes)
        for t in reference.tensors
    )


def test_quantised_tensors_and_another_alignment_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "mixed.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_custom_alignment(256)
    for kind in (GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q4_1, GGMLQuantizationType.BF16):
        rows = quantize(np.ones((3, 64), np.float32), kind)
        writer.add_tensor(kind.name, rows, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_header(path)
    assert header.tensors == tuple(
        Tensor(t.name, t.tensor_type.name, tuple(t.shape.tolist()), t.data_offset, t.n_bytes)
        for t in GGUFReader(path).tensors
    )
    assert [t.offset % 256 for t in header.tensors] == [0, 0, 0]
    assert header.quantisation in {"Q8_0", "Q4_1", "BF16"}


def test_values_of_every_type_are_read(tmp_path: Path) -> None:
    values: dict[GGUFValueType, int | float | bool] = {
        GGUFValueType.UINT8: 200,
        GGUFValueType.INT8: -3,
        GGUFValueType.UINT16: 60_000,
        GGUFValueType.INT16: -300,
        GGUFValueType.UINT32: 4_000_000_000,
        GGUFValueType.INT32: -4,
        GGUFValueType.FLOAT32: 0.5,
        GGUFValueType.BOOL: True,
        GGUFValueType.UINT64: 1 << 63,
        GGUFValueType.INT64: -(1 << 62),
        GGUFValueType.FLOAT64: 0.1,
    }
    path = tmp_path / "values.gguf"
    writer = GGUFWriter(path, "llama")
    for kind, value in values.items():
        writer.add_key_value(kind.name, value, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    found = read_header(path).values
    assert {kind: found[kind.name] for kind in values} == values


def test_facts_have_names(tiny: Path) -> None:
    header = read_header(tiny)
    assert header.path == tiny
    assert header.version == 3
    assert header.size_bytes == tiny.stat().st_size
    assert (header.architecture, header.text("general.name"), header.quantisation) == (
        "llama",
        "tiny",
        "F32",
    )
    assert (header.context_length, header.embedding_length, header.block_count) == (2048, 64, 2)
    assert header.text("tokenizer.ggml.model") == "gpt2"
    assert header.values["tokenizer.ggml.add_bos_token"] is False
    assert header.number("tokenizer.ggml.bos_token_id") == 261
    assert header.number("tokenizer.ggml.eos_token_id") == 263
    assert header.pooling is None
    assert header.chat_template == CHATML
    assert header.parameter_count == sum(int(t.n_elements) for t in GGUFReader(tiny).tensors)


def test_facts_that_a_file_leaves_out_are_none(tmp_path: Path) -> None:
    path = tmp_path / "bare.gguf"
    path.write_bytes(file_of())
    header = read_header(path)
    assert (header.architecture, header.quantisation, header.parameter_count) == (
        "unknown",
        "unknown",
        0,
    )
    facts = (header.context_length, header.embedding_length, header.block_count, header.pooling)
    assert facts == (None,) * 4
    assert header.chat_template is None


def test_an_embedding_model_has_a_pooling_type(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "embed.gguf", extra={"llama.pooling_type": 0})
    assert read_header(path).pooling == 0


def test_an_encoder_pools_by_the_mean_unless_it_says_how(tmp_path: Path) -> None:
    named = write_bert(tmp_path / "named.gguf", extra={"bert.pooling_type": 2})
    silent = write_bert(tmp_path / "silent.gguf", pooling=None)
    assert read_header(named).pooling == 2
    assert read_header(silent).pooling == 1
    assert "bert.pooling_type" not in read_header(silent).values


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (31, "the type Q4_0_4_4, which was removed from llama.cpp; quantize the model .* Q4_0"),
        (33, "the type Q4_0_8_8, which was removed from llama.cpp; quantize the model .* Q4_0"),
        (36, "the type IQ4_NL_4_4, which was removed from llama.cpp; quantize .* as IQ4_NL"),
        (99, "the unknown type 99; it needs a newer version"),
    ],
)
def test_a_removed_tensor_type_is_named(tiny: Path, number: int, words: str) -> None:
    set_tensor_type(tiny, "output.weight", number)
    with pytest.raises(GGUFError, match=words):
        read_header(tiny)


def test_values_of_many_layers_are_read(tmp_path: Path) -> None:
    heads = [index % 4 for index in range(80)]
    path = write_llama(tmp_path / "deep.gguf", extra={"llama.attention.head_count_kv": heads})
    assert read_header(path).values["llama.attention.head_count_kv"] == heads


def test_long_arrays_are_skipped(tiny: Path) -> None:
    values = read_header(tiny, arrays=["tokenizer.ggml.scores"]).values
    assert values[TOKENS] == Array("string", 264)
    assert values["tokenizer.ggml.token_type"] == Array("int32", 264)


def test_long_arrays_are_read_when_asked_for_and_short_ones_always(tmp_path: Path) -> None:
    heads = list(range(64))
    extra = {"llama.attention.head_count_kv": heads, "llama.long": list(range(513))}
    path = write_llama(tmp_path / "arrays.gguf", extra=extra)
    header = read_header(path, arrays={TOKENS})
    tokens = header.values[TOKENS]
    assert isinstance(tokens, list)
    assert tokens[33] == "!"
    assert len(tokens) == 264
    assert header.values["llama.attention.head_count_kv"] == heads
    assert header.values["llama.long"] == Array("int32", 513)


def test_half_a_character_in_a_token_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "tokens.gguf"
    path.write_bytes(file_of(entry(TOKENS, ARRAY, array(STRING, 1, text(b"a\xe2\x82")))))
    assert read_header(path).values[TOKENS] == ["a\N{REPLACEMENT CHARACTER}"]


def test_version_2_is_read(tiny: Path) -> None:
    expected = read_header(tiny)
    content = bytearray(tiny.read_bytes())
    content[4:8] = struct.pack("<I", 2)
    tiny.write_bytes(content)
    header = read_header(tiny)
    assert header.version == 2
    assert (header.values, header.tensors) == (expected.values, expected.tensors)


def test_a_big_vocabulary_is_read_fast(tmp_path: Path, measurements: list[str]) -> None:
    path = write_gguf_header(tmp_path / "big.gguf", tokens=262_144, merges=500_000)
    started = time.perf_counter()
    header = read_header(path)
    elapsed_s = time.perf_counter() - started
    measurements.append(f"GGUF header, 262,144 tokens and 500,000 merges: {elapsed_s:.2f} s")
    assert header.values[TOKENS] == Array("string", 262_144)
    assert header.values["tokenizer.ggml.merges"] == Array("string", 500_000)
    assert header.context_length == 131_072


# What a damaged file gets

SOUND = file_of(tensors=(tensor(),), data=bytes(128))
DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a GGUF file"),
    "text": (b"FROM llama3\nSYSTEM be kind\n", "not a GGUF file"),
    "only the magic": (b"GGUF", "the version needs 4 bytes, but 0 are left"),
    "version 1": (file_of(version=1), "convert the model again"),
    "version 9": (file_of(version=9), "newer version of Outrider"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "gguf-convert-endian"),
    "absurd number of keys": (b"GGUF" + struct.pack("<IQQ", 3, 0, HUGE), "more than any model"),
    "too many keys for the file": (
        b"GGUF" + struct.pack("<IQQ", 3, 0, 60_000),
        "needs 780000 bytes",
    ),
    "absurd number of tensors": (b"GGUF" + struct.pack("<IQQ", 3, HUGE, 0), "more than any model"),
    "too many tensors for the file": (
        b"GGUF" + struct.pack("<IQQ", 3, 9999, 0),
        "needs 319968 bytes",
    ),
    "a key twice": (file_of(alignment(32), alignment(32)), "'general.alignment' is there twice"),
    "a key that is not UTF-8": (file_of(entry(b"\xff", U32, bytes(4))), "a key is not UTF-8"),
    "a key of absurd length": (file_of(struct.pack("<Q", HUGE) + bytes(64)), "more than any"),
    "a value of absurd length": (
        file_of(entry("k", STRING, struct.pack("<Q", HUGE))),
        "more than any",
    ),
    "a value longer than the file": (
        file_of(entry("k", STRING, struct.pack("<Q", 1 << 23))),
        "k needs 8388608 bytes",
    ),
    "an unknown value type": (file_of(entry("k", 13, bytes(8))), "newer version"),
    "an array of unknown type": (file_of(entry("k", ARRAY, array(13, 1) + bytes(8))), "newer"),
    "an array of arrays": (
        file_of(entry("k", ARRAY, array(ARRAY, 1, array(U32, 1, bytes(4))))),
        "array of arrays",
    ),
    "an array of absurd length": (file_of(entry("k", ARRAY, array(U32, HUGE))), "more than any"),
    "a number array longer than the file": (
        file_of(entry("k", ARRAY, array(F32, 1 << 21))),
        "needs 8388608 bytes",
    ),
    "a string array longer than the file": (
        file_of(entry("k", ARRAY, array(STRING, 1 << 21))),
        "needs 16777216 bytes",
    ),
    "a string array with an absurd length in it": (
        file_of(entry("k", ARRAY, array(STRING, 100, struct.pack("<Q", (1 << 64) - 1) * 100))),
        "after the end of the file",
    ),
    "a string array whose last string is cut": (
        file_of(entry("k", ARRAY, array(STRING, 100, bytes(99 * 8) + struct.pack("<Q", 99)))),
        "after the end of the file",
    ),
    "no dimensions": (file_of(tensors=(tensor(shape=()), bytes(32))), "0 dimensions"),
    "five dimensions": (file_of(tensors=(tensor(shape=(1,) * 5),)), "5 dimensions"),
    "absurdly many dimensions": (
        file_of(tensors=(text("t") + struct.pack("<I", (1 << 32) - 1) + bytes(32),)),
        "4294967295 dimensions",
    ),
    "a dimension of zero": (file_of(tensors=(tensor(shape=(32, 0)),)), "cannot have the shape"),
    "an overflowing shape": (
        file_of(tensors=(tensor(shape=((1 << 63), 2, 1 << 63)),)),
        "cannot have the shape",
    ),
    "half a block": (file_of(tensors=(tensor(kind=12),), data=bytes(128)), "whole blocks of 256"),
    "an unknown tensor type": (file_of(tensors=(tensor(kind=250),)), "newer version"),
    "a tensor twice": (
        file_of(tensors=(tensor(), tensor()), data=bytes(128)),
        "'t' is there twice",
    ),
    "an offset off the alignment": (
        file_of(tensors=(tensor(offset=8),), data=bytes(256)),
        "not aligned",
    ),
    "an absurd offset": (file_of(tensors=(tensor(offset=HUGE),), data=bytes(128)), "tensors need"),
    "an alignment of zero": (file_of(alignment(0)), "not a power of two"),
    "an alignment of 24": (file_of(alignment(24)), "not a power of two"),
    "an alignment in words": (
        file_of(entry("general.alignment", STRING, text("wide"))),
        "not a power of two",
    ),
    "tensor data cut": (
        SOUND[:-1],
        f"need a file of {len(SOUND)} bytes, but it has {len(SOUND) - 1}",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
@pytest.mark.usefixtures("memory_bound")
def test_damage_is_named(tmp_path: Path, case: str) -> None:
    content, problem = DAMAGED[case]
    path = tmp_path / "damaged.gguf"
    path.write_bytes(content)
    with pytest.raises(GGUFError) as caught:
        read_header(path)
    assert str(path) in str(caught.value)
    assert problem in str(caught.value)


def test_the_sound_twin_of_the_damaged_files_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sound.gguf"
    path.write_bytes(SOUND)
    assert read_header(path).tensors == (Tensor("t", "F32", (32,), len(SOUND) - 128, 128),)


def test_a_directory_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(GGUFError, match="is not a file"):
        read_header(tmp_path)


def test_a_named_pipe_does_not_block(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.gguf"
    os.mkfifo(pipe)
    with pytest.raises(GGUFError, match="is not a file"):
        read_header(pipe)


@pytest.mark.parametrize("name", ["missing.gguf", "nul\0.gguf"])
def test_a_path_without_a_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(GGUFError, match="check the path"):
        read_header(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_is_named(tiny: Path) -> None:
    tiny.chmod(0)
    with pytest.raises(GGUFError, match="check the path and its permissions"):
        read_header(tiny)


def read_or_refuse(path: Path, content: bytes) -> Header | None:
    """What the reader makes of `content`; anything but a header or a GGUFError fails the test."""
    path.write_bytes(content)
    try:
        return read_header(path, arrays=EveryArray())
    except GGUFError:
        return None


@pytest.mark.usefixtures("memory_bound")
def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "cut.gguf", layers=1, embd=16, ffn=16)
    content = path.read_bytes()
    header_bytes = read_header(path).tensors[0].offset
    cuts = [*range(0, header_bytes, 25), *range(header_bytes, len(content), 500)]
    assert [cut for cut in cuts if read_or_refuse(path, content[:cut]) is not None] == []
    assert read_or_refuse(path, content) is not None


@pytest.mark.usefixtures("memory_bound")
def test_flipped_bytes_give_an_error_or_a_header(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "flip.gguf", layers=1, embd=16, ffn=16)
    content = path.read_bytes()
    header_bytes = read_header(path).tensors[0].offset
    rng = random.Random(7)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for position in rng.sample(range(header_bytes), k=rng.randint(1, 4)):
            damaged[position] = rng.randrange(256)
        refused += read_or_refuse(path, bytes(damaged)) is None
    assert 0 < refused < 300


def test_a_value_that_is_not_utf_8_is_read_anyway(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(file_of(entry("k", STRING, text(b"a\xffb"))))
    assert read_header(path).values["k"] == "a\ufffdb"
