"""How tests split a GGUF file into parts, as llama.cpp's gguf-split does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFWriter


def split_gguf(whole: Path, count: int, *, into: Path | None = None) -> tuple[Path, ...]:
    """`count` parts beside `whole`; the first one has all the metadata and no tensors."""
    reader, folder = GGUFReader(whole), into or whole.parent
    names = [f"{whole.stem}-{i + 1:05}-of-{count:05}.gguf" for i in range(count)]
    shares = [[], *np.array_split(np.arange(len(reader.tensors)), count - 1)]
    for number, (name, share) in enumerate(zip(names, shares, strict=True)):
        writer = GGUFWriter(folder / name, str(_value(reader, "general.architecture")))
        for field in reader.fields.values():
            if number == 0 and not field.name.startswith(("GGUF.", "general.architecture")):
                writer.add_key_value(
                    field.name, field.contents(), field.types[0], *field.types[1:2]
                )
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", count)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for index in share:
            tensor = reader.tensors[index]
            writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return tuple(folder / name for name in names)


def _value(reader: GGUFReader, key: str) -> object:
    field = reader.get_field(key)
    assert field is not None
    return field.contents()
