"""How does a file read whose header is repaired? (CONTRACT 6.6)

An overlay is a new header in memory over ranges of the file on disk: nothing of the weights is
copied, and the file stays as it is.
"""

import os
import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .ggml import TENSOR_TYPES, ValueType
from .gguf import ARRAY, CODES, DEFAULT_ALIGNMENT, MAGIC, STRING, U32, U64, Header, Value
from .repair import PlacedTensor, Repair

VERSION: Final = 3  # of the format


@dataclass(frozen=True, slots=True)
class Segment:
    """A range of the overlay: these bytes of memory, or else those of the file at `offset`."""

    start: int
    size_bytes: int
    offset: int = 0
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Overlay:
    """The segments of a repaired file, without gaps."""

    segments: tuple[Segment, ...]

    @property
    def size_bytes(self) -> int:
        last = self.segments[-1]
        return last.start + last.size_bytes

    def read_into(self, file: int, target: memoryview, position: int) -> int:
        """Fills `target` from `position` on; returns the bytes read, fewer only at the end.

        `file` is the descriptor of the file on disk. Raises OSError.
        """
        filled = 0
        index = bisect_right(self.segments, position, key=lambda segment: segment.start) - 1
        for segment in self.segments[max(index, 0) :]:
            skipped = position + filled - segment.start
            count = min(len(target) - filled, segment.size_bytes - skipped)
            if count <= 0:
                break
            _fill(file, target[filled : filled + count], segment, skipped)
            filled += count
        return filled


def build_overlay(header: Header, repair: Repair) -> Overlay:
    """The overlay of a file; raises OSError if it cannot be read."""
    tensors = repair.tensors
    if tensors is None:
        tensors = tuple(map(PlacedTensor.of, header.tensors))
    alignment = header.number("general.alignment") or DEFAULT_ALIGNMENT
    values = _repaired_values(header, repair)
    infos, offset = [], 0
    for tensor in tensors:
        infos.append(_info(tensor, offset))
        offset += _padded(_size(tensor), alignment)
    counts = U32.pack(VERSION) + U64.pack(len(infos)) + U64.pack(len(values))
    head = MAGIC + counts + b"".join(values) + b"".join(infos)
    head += bytes(_padded(len(head), alignment) - len(head))
    return Overlay(tuple(_segments(head, tensors, alignment)))


def _segments(head: bytes, tensors: tuple[PlacedTensor, ...], alignment: int) -> Iterator[Segment]:
    yield Segment(0, len(head), data=head)
    position = len(head)
    for tensor in tensors:
        for extent in tensor.extents:
            yield Segment(position, extent.size_bytes, extent.offset)
            position += extent.size_bytes
        if gap := -position % alignment:
            yield Segment(position, gap, data=bytes(gap))
            position += gap


def _fill(file: int, target: memoryview, segment: Segment, skipped: int) -> None:
    if segment.data is not None:
        target[:] = segment.data[skipped : skipped + len(target)]
        return
    done = 0
    while done < len(target):
        count = os.preadv(file, [target[done:]], segment.offset + skipped + done)
        if count == 0:
            raise OSError("the file has become shorter")
        done += count


def _repaired_values(header: Header, repair: Repair) -> list[bytes]:
    """Every key with its value as the format stores them; what stays is copied from the file."""
    entries = []
    with header.path.open("rb") as file:
        for key, (start, end) in header.spans.items():
            name = repair.keys.get(key, key)
            if name in repair.values:
                continue
            file.seek(start)
            raw = file.read(end - start)
            length = repair.lengths.get(key)
            entries.append(_text(name) + (raw if length is None else _cut(raw, length)))
    return entries + [_text(key) + _encoded(value) for key, value in repair.values.items()]


def _cut(raw: bytes, count: int) -> bytes:
    """An array with its type and count, shortened to `count` elements."""
    (kind,) = U32.unpack_from(raw, U32.size)
    head = raw[: 2 * U32.size] + U64.pack(count)
    start = end = len(head)
    if kind != STRING:
        return head + raw[start : start + count * struct.calcsize(f"<{CODES[kind]}")]
    for _ in range(count):
        end += U64.size + U64.unpack_from(raw, end)[0]
    return head + raw[start:end]


def _encoded(value: Value) -> bytes:
    """A value with its type; integers are unsigned of 32 bits, those of arrays signed."""
    match value:
        case bool():
            return U32.pack(ValueType.BOOL) + struct.pack("<?", value)
        case str():
            return U32.pack(STRING) + _text(value)
        case float():
            return U32.pack(ValueType.FLOAT32) + struct.pack("<f", value)
        case int():
            return U32.pack(ValueType.UINT32) + U32.pack(value)
        case list():
            numbers = [int(item) for item in value]
            kind = U32.pack(ARRAY) + U32.pack(ValueType.INT32) + U64.pack(len(numbers))
            return kind + struct.pack(f"<{len(numbers)}i", *numbers)
    raise TypeError(f"{value!r} is no value of a repair")


def _info(tensor: PlacedTensor, offset: int) -> bytes:
    shape = b"".join(map(U64.pack, tensor.shape))
    kind = U32.pack(TENSOR_TYPES[tensor.kind].number)
    return _text(tensor.name) + U32.pack(len(tensor.shape)) + shape + kind + U64.pack(offset)


def _text(text: str) -> bytes:
    data = text.encode()
    return U64.pack(len(data)) + data


def _size(tensor: PlacedTensor) -> int:
    return sum(extent.size_bytes for extent in tensor.extents)


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment
