"""What are the files of a split GGUF called: `<name>-00001-of-00003.gguf` and so on."""

import re
from typing import Final

_PART: Final = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})\.gguf")


def part_names(name: str) -> tuple[str, ...]:
    """The names of all parts of a model, of which `name` is one; `name` alone for any other."""
    match = _PART.fullmatch(name)
    if not match:
        return (name,)
    count = int(match["count"])
    return tuple(f"{match['stem']}-{i:05}-of-{count:05}.gguf" for i in range(1, count + 1))
