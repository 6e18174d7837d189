"""How are sound GGUF files damaged at random? Wherever a parser or llama.cpp looks.

Each file follows from its number and the seed alone.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tiny import CHATML, write_llama
from tiny_bert import write_bert
from tiny_gemma import write_gemma3
from tiny_recurrent import write_mamba

STRING, ARRAY = 8, 9  # types of values (GGUF's specification)
WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes, by type
EXTREMES = (0, 1, 2, 3, 5, 7, 255, 4096, 65_535, 2**20, 2**31 - 1, 2**31, 2**32 - 1)
EXTREMES += (2**40, 2**62, 2**63, 2**64 - 1)
TEMPLATES = (
    "{{ 9 ** 9 ** 9 }}",
    "{% for i in range(10 ** 9) %}x{% endfor %}",
    "{% set x = namespace(s='a') %}{% for i in range(60) %}{% set x.s = x.s + x.s %}{% endfor %}",
    "{{ lipsum(n=10000000) }}",
    "{{ 'a' * 10 ** 10 }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ messages[99].content }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ raise_exception('no') }}",
    "{% for",
    "",
    "\0\x1b[2J\u202e",
    "{{ " + "(" * 3_000 + ")" * 3_000 + " }}",
    "x" * 3_000_000,
    "{{ .Prompt }}{{ range .Messages }}{{ end }",
    CHATML * 200,
)


@dataclass(frozen=True, slots=True)
class Place:
    """Bytes of a header: `what` they are."""

    what: str
    at: int
    size: int


@dataclass(frozen=True, slots=True)
class Damaged:
    """A damaged file, in words and in bytes."""

    what: str
    data: bytes
    is_encoder: bool


class HeaderMap:
    """Where everything in the header of a sound file lies."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self.places = list(self._walk())
        self.header_size = self._at

    def of(self, what: str) -> list[Place]:
        return [place for place in self.places if place.what == what]

    def _take(self, size: int, what: str) -> Place:
        self._at += size
        return Place(what, self._at - size, size)

    def _number(self, place: Place) -> int:
        return int.from_bytes(self._data[place.at : place.at + place.size], "little")

    def _walk(self) -> Iterator[Place]:
        yield self._take(4, "magic")
        yield self._take(4, "version")
        yield (tensors := self._take(8, "count"))
        yield (values := self._take(8, "count"))
        for _ in range(self._number(values)):
            yield from self._string("key")
            yield (kind := self._take(4, "type"))
            yield from self._value(self._number(kind), "value")
        for _ in range(self._number(tensors)):
            yield from self._string("tensor name")
            yield (dimensions := self._take(4, "dimensions"))
            for _ in range(self._number(dimensions)):
                yield self._take(8, "dimension")
            yield self._take(4, "tensor type")
            yield self._take(8, "tensor offset")

    def _string(self, what: str) -> Iterator[Place]:
        yield (length := self._take(8, "length"))
        yield self._take(self._number(length), what)

    def _value(self, kind: int, what: str) -> Iterator[Place]:
        if kind == STRING:
            yield from self._string("text")
        elif kind == ARRAY:
            yield (element := self._take(4, "type"))
            yield (count := self._take(8, "count"))
            for _ in range(self._number(count)):
                yield from self._value(self._number(element), "element")
        else:
            yield self._take(WIDTHS[kind], what)


def write_sound(folder: Path) -> Mapping[str, bytes]:
    """Sound files of four kinds of models; that of the encoder is called `bert`."""
    files = (
        write_llama(folder / "llama.gguf", seed=1),
        write_bert(folder / "bert.gguf"),
        write_gemma3(folder / "gemma.gguf"),
        write_mamba(folder / "mamba.gguf"),
    )
    return {path.stem: path.read_bytes() for path in files}


def make_damaged(number: int, seed: int, sound: Mapping[str, bytes], folder: Path) -> Damaged:
    """The damaged file of this number."""
    draw = random.Random(f"{seed} {number}")
    name = draw.choice(sorted(sound))
    if draw.random() < 0.12:
        return _with_metadata(draw, folder)
    data, told = bytearray(sound[name]), []
    header = HeaderMap(bytes(data))
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        damage = draw.choice(DAMAGES)
        told.append(damage(data, header, draw))
    return Damaged(f"{name}: {', '.join(told)}", bytes(data), name == "bert")


Damage = Callable[[bytearray, HeaderMap, random.Random], str]


def _put(data: bytearray, place: Place, number: int) -> None:
    data[place.at : place.at + place.size] = (number % 256**place.size).to_bytes(
        place.size, "little"
    )


def _extreme(what: str) -> Damage:
    """Another number at one of these places."""

    def damage(data: bytearray, header: HeaderMap, draw: random.Random) -> str:
        place = draw.choice(header.of(what))
        old = int.from_bytes(data[place.at : place.at + place.size], "little")
        number = draw.choice((*EXTREMES, old + 1, old - 1, old * 2, old // 2, draw.randrange(40)))
        _put(data, place, number)
        return f"{what} at {place.at} becomes {number}"

    return damage


def _flip(data: bytearray, header: HeaderMap, draw: random.Random) -> str:
    count = draw.choice((1, 2, 8, 64))
    for _ in range(count):
        data[draw.randrange(min(header.header_size, len(data)))] = draw.randrange(256)
    return f"{count} bytes of the header"


def _text(data: bytearray, header: HeaderMap, draw: random.Random) -> str:
    place = draw.choice(header.of(draw.choice(("text", "key", "tensor name"))))
    data[place.at : place.at + place.size] = draw.randbytes(place.size)
    return f"{place.what} at {place.at} becomes noise"


def _cut(data: bytearray, header: HeaderMap, draw: random.Random) -> str:
    size = draw.randrange(draw.choice((30, header.header_size, len(data))))
    del data[size:]
    return f"cut to {size} bytes"


def _weights(data: bytearray, header: HeaderMap, draw: random.Random) -> str:
    value = draw.choice((float("nan"), float("inf"), -1e38, 1e38))
    start = min(header.header_size + 64, len(data))
    for _ in range(draw.choice((1, 100, 3_000))):
        at = draw.randrange(start, max(start + 1, len(data) - 4)) & ~3
        data[at : at + 4] = struct.pack("<f", value)
    return f"weights become {value}"


DAMAGES: Sequence[Damage] = (
    *(_flip, _flip, _text, _cut, _weights, _extreme("version"), _extreme("tensor type")),
    *(_extreme("count"), _extreme("length"), _extreme("type"), _extreme("dimensions")),
    *(_extreme("value"), _extreme("value"), _extreme("value"), _extreme("element")),
    *(_extreme("dimension"), _extreme("tensor offset")),
)


def _with_metadata(draw: random.Random, folder: Path) -> Damaged:
    """A sound file with a hostile template, or odd metadata."""
    template = draw.choice(TEMPLATES)
    extra: dict[str, object] = draw.choice(
        (
            {},
            {},
            {"tokenizer.ggml.pre": "x" * 3_000_000},
            {"general.name": "n" * 200_000},
            {"general.architecture": "martian"},
            {"tokenizer.ggml.model": "llama"},
            {"tokenizer.ggml.eos_token_id": 2**31},
            {"tokenizer.ggml.bos_token_id": 99_999},
            {"tokenizer.ggml.tokens": ["same"] * 300},
            {"tokenizer.ggml.merges": ["x"] * 5},
            {"tokenizer.ggml.merges": ["\u00ff \u00ff"] * 5_000},
            {"general.file_type": 99},
            {"x.y": float("inf"), "x.z": float("nan")},
        )
    )
    path = write_llama(folder / "odd.gguf", seed=1, template=template, extra=extra)
    told = f"template {template[:40]!r}, {[(k, str(v)[:20]) for k, v in extra.items()]}"
    return Damaged(told, path.read_bytes(), is_encoder=False)
