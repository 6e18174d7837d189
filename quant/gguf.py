"""What a GGUF file contains: metadata and list of tensors, read without the weights."""

import mmap
import stat
import struct
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Final

from .ggml import ValueType
from .types import REMOVED_TYPES, quantisation_name, tensor_bytes, tensor_kind

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
DEFAULT_ALIGNMENT: Final = 32  # bytes; `general.alignment` replaces it
SHORT_ARRAY: Final = 64  # elements; arrays up to this length are always read
MAX_LAYERS: Final = 512  # of llama.cpp (LLAMA_MAX_LAYERS); hyperparameters may have one for each
MEAN_POOLING: Final = 1  # llama.cpp's number for the mean of all rows (GUIDE 1.13)

# Architectures without a causal head: they make vectors and no text, whatever their file says.
ENCODERS: Final = frozenset(
    {
        "bert",
        "eurobert",
        "gemma-embedding",
        "jina-bert-v2",
        "jina-bert-v3",
        "llama-embed",
        "modern-bert",
        "neo-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "t5encoder",
    }
)

# Limits far above any real model: a damaged count must neither hang nor exhaust memory.
MAX_KEYS: Final = 1 << 16
MAX_TENSORS: Final = 1 << 20
MAX_ELEMENTS: Final = 1 << 22
MAX_NAME_BYTES: Final = (1 << 16) - 1
MAX_TEXT_BYTES: Final = 1 << 24
MAX_TENSOR_BYTES: Final = 1 << 60
MAX_DIMENSIONS: Final = 4

SMALLEST_KEY_BYTES: Final = 13  # length, no characters, type, one byte
SMALLEST_TENSOR_BYTES: Final = 32  # length, no characters, one dimension, type, offset

U32: Final = struct.Struct("<I")
U64: Final = struct.Struct("<Q")
STRING: Final = int(ValueType.STRING)
ARRAY: Final = int(ValueType.ARRAY)
KINDS: Final[Mapping[int, str]] = {int(kind): str(kind.name).lower() for kind in ValueType}
CODES: Final[Mapping[int, str]] = {  # numbers and booleans, as `struct` calls them
    int(kind): code
    for kind, code in {
        ValueType.UINT8: "B",
        ValueType.INT8: "b",
        ValueType.UINT16: "H",
        ValueType.INT16: "h",
        ValueType.UINT32: "I",
        ValueType.INT32: "i",
        ValueType.FLOAT32: "f",
        ValueType.BOOL: "?",
        ValueType.UINT64: "Q",
        ValueType.INT64: "q",
        ValueType.FLOAT64: "d",
    }.items()
}

# Remedies in error texts.
RENEW: Final = "download or convert it again"
UPDATE: Final = "it needs a newer version of Outrider"


class GGUFError(Exception):
    """A file is not usable as GGUF; the text names its path, the problem and the remedy."""


class EveryArray(Container[str]):
    """The set of all keys: `read_header(path, arrays=EveryArray())` reads every array."""

    def __contains__(self, key: object) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Array:
    """A skipped array: the type of its elements, such as "string", and their number."""

    kind: str
    count: int


Scalar = str | int | float | bool
Value = Scalar | list[Scalar] | Array


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor; `kind` is a type such as "Q4_1", `offset` is in bytes from the file's start."""

    name: str
    kind: str
    shape: tuple[int, ...]  # the row length first, as GGUF stores it
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """The metadata and tensors of a GGUF file; properties without a value are None."""

    path: Path
    version: int
    size_bytes: int  # of the whole file
    values: Mapping[str, Value]
    tensors: tuple[Tensor, ...]
    # Where each key's value lies in the file, its type included: start and end.
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def architecture(self) -> str:
        return self.text("general.architecture") or "unknown"

    @property
    def quantisation(self) -> str:
        """Such as "Q4_K_M"; without a known `general.file_type`, the type of most parameters."""
        file_type = self.number("general.file_type")
        if file_type is not None and (name := quantisation_name(file_type)) is not None:
            return name
        parameters: Counter[str] = Counter()
        for tensor in self.tensors:
            parameters[tensor.kind] += prod(tensor.shape)
        return max(parameters, key=parameters.__getitem__, default="unknown")

    @property
    def parameter_count(self) -> int:
        return sum(prod(tensor.shape) for tensor in self.tensors)

    @property
    def context_length(self) -> int | None:
        return self.number(f"{self.architecture}.context_length")

    @property
    def embedding_length(self) -> int | None:
        return self.number(f"{self.architecture}.embedding_length")

    @property
    def block_count(self) -> int | None:
        return self.number(f"{self.architecture}.block_count")

    @property
    def has_mtp(self) -> bool:
        """Whether the file contains a multi-token prediction head (GUIDE 2.3)."""
        return bool(self.number(f"{self.architecture}.nextn_predict_layers"))

    @property
    def pooling(self) -> int | None:
        """llama.cpp's pooling type, present in embedding models; 0 means no pooling.

        An encoder whose file names none pools by the mean, as its runner does.
        """
        stated = self.number(f"{self.architecture}.pooling_type")
        return MEAN_POOLING if stated is None and self.architecture in ENCODERS else stated

    @property
    def chat_template(self) -> str | None:
        return self.text("tokenizer.chat_template")

    def text(self, key: str) -> str | None:
        """The string at `key`; None if it is absent or of another type."""
        value = self.values.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str) -> int | None:
        """The integer at `key`; None if it is absent or of another type."""
        return _integer(self.values.get(key))


def _integer(value: Value | None) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_header(path: Path, *, arrays: Container[str] = ()) -> Header:
    """Reads metadata and tensor list; long arrays whose key is not in `arrays` are skipped.

    An array of hyperparameters, one for each layer, is always read.
    Raises GGUFError for anything but a complete GGUF file of version 2 or 3.
    """
    _require_file(path)
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:  # tested first: an empty file cannot be mapped
                raise GGUFError(f"{path} is not a GGUF file: convert the model to GGUF first")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _read(_Cursor(path, data, position=len(MAGIC)), arrays)
    except OSError as error:
        raise _unreadable(path, error) from error


def _require_file(path: Path) -> None:
    """Checked before opening, because opening a named pipe blocks."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(mode):
        raise GGUFError(f"{path} is not a file: give the path of a GGUF file")


def _unreadable(path: Path, error: OSError | ValueError) -> GGUFError:
    reason = error.strerror if isinstance(error, OSError) else error
    return GGUFError(f"{path} cannot be read ({reason}): check the path and its permissions")


@dataclass(slots=True)
class _Cursor:
    """A position in the file; nothing is read or allocated beyond its end."""

    path: Path
    data: mmap.mmap
    position: int

    def error(self, problem: str, remedy: str = RENEW) -> GGUFError:
        return GGUFError(f"{self.path} is no usable GGUF file: {problem}; {remedy}")

    def require(self, size_bytes: int, what: str) -> None:
        left = len(self.data) - self.position
        if size_bytes > left:
            raise self.error(f"{what} needs {size_bytes} bytes, but {left} are left")

    def u32(self, what: str) -> int:
        return int(self._unpack(U32, what)[0])

    def u64(self, what: str) -> int:
        return int(self._unpack(U64, what)[0])

    def count(self, what: str, most: int, smallest_bytes: int) -> int:
        """A count of items, each of which takes at least `smallest_bytes`."""
        count = self.u64(what)
        if count > most:
            raise self.error(f"{what} is {count}, more than any model has")
        self.require(count * smallest_bytes, f"{what} of {count}")
        return count

    def numbers(self, code: str, count: int, what: str) -> list[Scalar]:
        return list(self._unpack(struct.Struct(f"<{count}{code}"), what))

    def text(self, what: str, most_bytes: int) -> str:
        raw = self._string(what, most_bytes)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.error(f"{what} is not UTF-8 text") from None

    def loose_text(self, what: str, most_bytes: int) -> str:
        """A text in which U+FFFD stands for what is no UTF-8; llama.cpp accepts any bytes."""
        return self._string(what, most_bytes).decode(errors="replace")

    def texts(self, count: int, what: str) -> list[Scalar]:
        # Some vocabularies contain tokens that are a part of a UTF-8 character.
        return [self._string(what, MAX_TEXT_BYTES).decode(errors="replace") for _ in range(count)]

    def skip_texts(self, count: int, what: str) -> None:
        """Skips strings in a tight loop: vocabularies have hundreds of thousands."""
        data, position, unpack = self.data, self.position, U64.unpack_from
        try:
            for _ in range(count):
                position += 8 + unpack(data, position)[0]
        except (struct.error, OverflowError):
            position = len(data) + 1
        if position > len(data):
            raise self.error(f"{what} goes on after the end of the file")
        self.position = position

    def _string(self, what: str, most_bytes: int) -> bytes:
        size = self.u64(what)
        if size > most_bytes:
            raise self.error(f"{what} has {size} bytes, more than any model's")
        self.require(size, what)
        start, self.position = self.position, self.position + size
        return self.data[start : self.position]

    def _unpack(self, layout: struct.Struct, what: str) -> tuple[Scalar, ...]:
        self.require(layout.size, what)
        values = layout.unpack_from(self.data, self.position)
        self.position += layout.size
        return values


def _read(cursor: _Cursor, arrays: Container[str]) -> Header:
    version = _version(cursor)
    tensor_count = cursor.count("the number of tensors", MAX_TENSORS, SMALLEST_TENSOR_BYTES)
    key_count = cursor.count("the number of keys", MAX_KEYS, SMALLEST_KEY_BYTES)
    values, spans = _values(cursor, key_count, arrays)
    tensors = _tensors(cursor, tensor_count, _alignment(cursor, values))
    return Header(cursor.path, version, len(cursor.data), values, tensors, spans)


def _version(cursor: _Cursor) -> int:
    version = cursor.u32("the version")
    if version in VERSIONS:
        return version
    if version & 0xFFFF == 0:
        raise cursor.error("it is big-endian", "convert it with gguf-convert-endian")
    if version == 1:
        raise cursor.error("version 1 of the format is out of use", "convert the model again")
    raise cursor.error(f"version {version} of the format is unknown", UPDATE)


def _values(
    cursor: _Cursor, count: int, arrays: Container[str]
) -> tuple[Mapping[str, Value], Mapping[str, tuple[int, int]]]:
    """The values by key, and where they lie."""
    values: dict[str, Value] = {}
    spans: dict[str, tuple[int, int]] = {}
    for _ in range(count):
        key = cursor.text("a key", MAX_NAME_BYTES)
        if key in values:
            raise cursor.error(f"the key {key!r} is there twice")
        start = cursor.position
        kind = cursor.u32(f"the type of {key}")
        values[key] = _array(cursor, key, arrays) if kind == ARRAY else _scalar(cursor, key, kind)
        spans[key] = start, cursor.position
    return values, spans


def _scalar(cursor: _Cursor, key: str, kind: int) -> Scalar:
    if kind == STRING:
        return cursor.loose_text(key, MAX_TEXT_BYTES)
    if kind not in CODES:
        raise cursor.error(f"the value of {key} has the unknown type {kind}", UPDATE)
    return cursor.numbers(CODES[kind], 1, key)[0]


def _array(cursor: _Cursor, key: str, arrays: Container[str]) -> list[Scalar] | Array:
    kind = cursor.u32(f"the type of {key}")
    if kind == ARRAY:
        raise cursor.error(f"{key} is an array of arrays, which llama.cpp does not load")
    if kind != STRING and kind not in CODES:
        raise cursor.error(f"the elements of {key} have the unknown type {kind}", UPDATE)
    element_bytes = U64.size if kind == STRING else struct.calcsize(f"<{CODES[kind]}")
    count = cursor.count(f"the length of {key}", MAX_ELEMENTS, element_bytes)
    is_text = kind == STRING
    is_by_layer = count <= MAX_LAYERS and not is_text and not key.startswith("tokenizer.")
    if count <= SHORT_ARRAY or is_by_layer or key in arrays:
        return cursor.texts(count, key) if is_text else cursor.numbers(CODES[kind], count, key)
    if kind == STRING:
        cursor.skip_texts(count, key)
    else:
        cursor.position += count * element_bytes
    return Array(KINDS[kind], count)


def _alignment(cursor: _Cursor, values: Mapping[str, Value]) -> int:
    alignment = _integer(values.get("general.alignment", DEFAULT_ALIGNMENT))
    if alignment is None or alignment < 1 or alignment & (alignment - 1):
        raise cursor.error("general.alignment is not a power of two")
    return alignment


def _tensors(cursor: _Cursor, count: int, alignment: int) -> tuple[Tensor, ...]:
    found: dict[str, Tensor] = {}
    for _ in range(count):
        tensor = _tensor(cursor, alignment)
        if tensor.name in found:
            raise cursor.error(f"the tensor {tensor.name!r} is there twice")
        found[tensor.name] = tensor
    start = -(-cursor.position // alignment) * alignment
    tensors = tuple(replace(tensor, offset=start + tensor.offset) for tensor in found.values())
    need, size = max((t.offset + t.size_bytes for t in tensors), default=0), len(cursor.data)
    if need > size:
        raise cursor.error(f"its tensors need a file of {need} bytes, but it has {size}")
    return tensors


def _tensor(cursor: _Cursor, alignment: int) -> Tensor:
    """The next tensor; its offset is relative to the start of the tensor data."""
    name = cursor.text("a tensor's name", MAX_NAME_BYTES)
    dimensions = cursor.u32(f"the number of dimensions of {name}")
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise cursor.error(f"the tensor {name!r} has {dimensions} dimensions, not 1 to 4")
    shape = tuple(cursor.u64(f"the shape of {name}") for _ in range(dimensions))
    number = cursor.u32(f"the type of {name}")
    kind = tensor_kind(number)
    if kind is None:
        raise _unknown_type(cursor, name, number)
    try:
        size_bytes = tensor_bytes(kind, shape)
    except ValueError as error:
        raise cursor.error(f"the tensor {name!r} has the shape {shape}, but {error}") from error
    if not 0 < size_bytes <= MAX_TENSOR_BYTES:
        raise cursor.error(f"the tensor {name!r} cannot have the shape {shape}")
    offset = cursor.u64(f"the offset of {name}")
    if offset % alignment:
        raise cursor.error(f"the tensor {name!r} is not aligned to {alignment} bytes")
    return Tensor(name, kind, shape, offset, size_bytes)


def _unknown_type(cursor: _Cursor, name: str, number: int) -> GGUFError:
    if number not in REMOVED_TYPES:
        return cursor.error(f"the tensor {name!r} has the unknown type {number}", UPDATE)
    removed, successor = REMOVED_TYPES[number]
    return cursor.error(
        f"the tensor {name!r} has the type {removed}, which was removed from llama.cpp",
        f"quantize the model again as {successor}",
    )
