"""How long may a text be that a function of a Go template makes?"""

from __future__ import annotations

import re
from collections.abc import Callable

Function = Callable[..., object]

# Characters that one function may read. No function writes more than 6 for each of them, but for
# `printf`, which can repeat a value and pad it.
MAX_READ_CHARS = 1 << 22
MAX_PADDED_CHARS = 1 << 16  # width or precision of one verb of `printf`
VERB = re.compile(r"%[^a-zA-Z%]*")
NUMBER = re.compile(r"\d+")


def bounded(function: Function) -> Function:
    """The function; it refuses texts that are too long with ValueError."""

    def call(*values: object) -> object:
        _check(sum(len(value) for value in values if isinstance(value, str)))
        return function(*values)

    return call


def bounded_format(function: Function) -> Function:
    """`printf`; it refuses with ValueError to make a text that is too long."""

    def call(layout: object, *values: object) -> object:
        verbs = VERB.findall(layout) if isinstance(layout, str) else []
        widths = [int(n) for verb in verbs for n in NUMBER.findall(verb[:MAX_PADDED_CHARS])]
        if any("*" in verb for verb in verbs):  # the width is a value
            widths += [abs(value) for value in values if isinstance(value, int)]
        if any(width > MAX_PADDED_CHARS for width in widths):
            raise ValueError(f"a width is larger than {MAX_PADDED_CHARS}")
        longest = max((len(value) for value in values if isinstance(value, str)), default=0)
        _check((longest + max(widths, default=0)) * len(verbs) + len(str(layout)))
        return function(layout, *values)

    return call


def _check(num_chars: int) -> None:
    if num_chars > MAX_READ_CHARS:
        raise ValueError(f"a text is longer than {MAX_READ_CHARS} characters")
