"""How do the parts of a split GGUF file become one file?

llama.cpp finds the parts of a model by their names, `<name>-00001-of-00003.gguf`. In a store blobs
have other names, and other programs expect one file; so the parts are put together.
"""

import mmap
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from .ggml import TENSOR_TYPES
from .gguf import ARRAY, CODES, DEFAULT_ALIGNMENT, MAGIC, STRING, U32, U64, Header, Tensor

VERSION: Final = 3
CHUNK_BYTES: Final = 8 << 20  # copied at a time
KEYS_START: Final = 24  # bytes before the first key: magic, version, two counts
PREFIX: Final = "split."  # of the keys that describe a part

Write = Callable[[bytes], None]


class SplitError(Exception):
    """Files are not the parts of one model; the text says what is wrong."""


def is_part(header: Header) -> bool:
    """Whether the file is one of several."""
    return (header.number("split.count") or 1) > 1


def sort_parts(parts: Iterable[Header]) -> tuple[Header, ...]:
    """The parts in their order; raises SplitError unless they make one whole model."""
    found = sorted(parts, key=_number)
    count = found[0].number("split.count") or 0
    if any(part.number("split.count") != count for part in found):
        raise SplitError("these are parts of different models")
    numbers = [_number(part) for part in found]
    missing = [f"{i + 1}" for i in range(count) if i not in numbers]
    if missing:
        raise SplitError(f"of {count} parts these are missing: {', '.join(missing)}")
    if len(found) != count:
        raise SplitError(f"there are {len(found)} files for {count} parts")
    num_tensors, stated = sum(len(part.tensors) for part in found), _num_tensors(found[0])
    if num_tensors != stated:
        raise SplitError(f"its parts hold {num_tensors} tensors, and the first states {stated}")
    return tuple(found)


def merge_parts(parts: Sequence[Header], write: Write) -> None:
    """Writes one GGUF file of sorted parts, in pieces of at most CHUNK_BYTES or one key."""
    alignment = parts[0].number("general.alignment") or DEFAULT_ALIGNMENT
    keys = list(_keys(parts[0]))
    head = _header(keys, [tensor for part in parts for tensor in part.tensors], alignment)
    for piece in head:
        write(piece)
    for part in parts:
        _write_tensors(part, alignment, write)


def _number(part: Header) -> int:
    number = part.number("split.no")
    return -1 if number is None else number


def _num_tensors(first: Header) -> int | None:
    return first.number("split.tensors.count")


def _header(keys: list[bytes], tensors: list[Tensor], alignment: int) -> Iterator[bytes]:
    size_bytes = KEYS_START
    for piece in (
        MAGIC + struct.pack("<IQQ", VERSION, len(tensors), len(keys)),
        *keys,
        *_descriptions(tensors, alignment),
    ):
        yield piece
        size_bytes += len(piece)
    yield bytes(-(size_bytes - KEYS_START) % alignment)


def _descriptions(tensors: list[Tensor], alignment: int) -> Iterator[bytes]:
    """What the header says of each tensor; offsets count from the first one."""
    offset = 0
    for tensor in tensors:
        name = tensor.name.encode()
        kind = TENSOR_TYPES[tensor.kind].number
        shape = struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape)
        size = U32.pack(len(tensor.shape)) + shape
        yield U64.pack(len(name)) + name + size + U32.pack(kind) + U64.pack(offset)
        offset += tensor.size_bytes + -tensor.size_bytes % alignment


def _write_tensors(part: Header, alignment: int, write: Write) -> None:
    with part.path.open("rb") as file:
        for tensor in part.tensors:
            file.seek(tensor.offset)
            left = tensor.size_bytes
            while left:
                chunk = file.read(min(left, CHUNK_BYTES))
                if not chunk:
                    raise SplitError(f"{part.path} became shorter while it was read")
                write(chunk)
                left -= len(chunk)
            write(bytes(-tensor.size_bytes % alignment))


def _keys(part: Header) -> Iterator[bytes]:
    """The keys with their values as they stand in the file, without those of a part."""
    with part.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = KEYS_START
        for key in part.values:
            end = _value_end(data, start + U64.size + len(key.encode()))
            if not key.startswith(PREFIX):
                yield data[start:end]
            start = end


def _value_end(data: mmap.mmap, position: int) -> int:
    """Where the value ends whose type stands at `position`."""
    kind, position = U32.unpack_from(data, position)[0], position + U32.size
    count = 1
    if kind == ARRAY:
        kind, count = struct.unpack_from("<IQ", data, position)
        position += U32.size + U64.size
    if kind != STRING:
        return position + count * struct.calcsize(f"<{CODES[kind]}")
    for _ in range(count):
        position += U64.size + int(U64.unpack_from(data, position)[0])
    return position
