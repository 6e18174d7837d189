"""Which lines does a runner write to stderr? Model files have a say there, so all are bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from ..log_lines import LINE_CHARS, shorten

LEFT_OUT = "(a line that is longer than the buffer is left out)"


async def stderr_lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """The lines until the end of the stream.

    A line that is longer than the buffer of the stream is passed over: were reading to end there,
    the runner would wait for ever with the next line.
    """
    while True:
        try:
            line = await stream.readline()
        except ValueError:
            yield LEFT_OUT
            continue
        if not line:
            return
        yield shorten(line.decode("utf-8", "replace").rstrip(), LINE_CHARS)
