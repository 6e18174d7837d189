"""How is the progress of a pull shown: a bar per layer in a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TextIO

from . import humanize
from .client import DaemonError, Json

BAR_CELLS = 24  # characters between the brackets
ERASE = "\r\x1b[K"  # ANSI: to the start of the line, and erase it


@dataclass(frozen=True, slots=True)
class LayerProgress:
    """Progress of one blob since its first report."""

    status: str
    start_bytes: int
    completed_bytes: int
    total_bytes: int
    elapsed_s: float

    @property
    def done(self) -> bool:
        return self.completed_bytes >= self.total_bytes

    @property
    def rate(self) -> float:
        """Bytes per second since the first report; 0 while unknown."""
        moved = self.completed_bytes - self.start_bytes
        return moved / self.elapsed_s if moved > 0 and self.elapsed_s > 0 else 0.0


def bar(layer: LayerProgress, columns: int) -> str:
    """One line: status, percent, bar, sizes; rate and remaining time while it moves."""
    share = min(1.0, layer.completed_bytes / layer.total_bytes) if layer.total_bytes else 1.0
    filled = int(share * BAR_CELLS)
    parts = [
        f"{layer.status}: {int(share * 100):3d}% [{'#' * filled}{'-' * (BAR_CELLS - filled)}]",
        humanize.size(layer.total_bytes)
        if layer.done
        else f"{humanize.size(layer.completed_bytes)}/{humanize.size(layer.total_bytes)}",
    ]
    if layer.rate and not layer.done:
        left_s = (layer.total_bytes - layer.completed_bytes) / layer.rate
        parts += [f"{humanize.size(layer.rate)}/s", humanize.countdown(left_s)]
    return "  ".join(parts)[: columns - 1]


class ProgressView:
    """Writes the status lines of one stream to `out`."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._bars = out.isatty()
        self._first: dict[str, tuple[float, int]] = {}  # by status: time in s, bytes
        self._written: set[str] = set()
        self._pending = False

    def show(self, line: Json) -> None:
        """Shows one line of the stream (CONTRACT 1.16)."""
        status = str(line.get("status", ""))
        if self._bars and line.get("total"):
            self._show_layer(self._layer(status, line))
        elif status not in self._written:
            self._write(status + "\n")
            self._written.add(status)

    def close(self) -> None:
        """Ends the line of an unfinished bar."""
        if self._pending:
            self._out.write("\n")
            self._out.flush()
            self._pending = False

    def _layer(self, status: str, line: Json) -> LayerProgress:
        now, completed = self._clock(), int(line.get("completed") or 0)
        since, start = self._first.setdefault(status, (now, completed))
        return LayerProgress(status, start, completed, int(line["total"]), now - since)

    def _show_layer(self, layer: LayerProgress) -> None:
        if layer.status in self._written:
            return
        end = "\n" if layer.done else ""
        self._write(bar(layer, shutil.get_terminal_size().columns) + end)
        if layer.done:
            self._written.add(layer.status)
        self._pending = not layer.done

    def _write(self, text: str) -> None:
        self._out.write((ERASE if self._bars else "") + text)
        self._out.flush()
        self._pending = False


async def follow(lines: AsyncGenerator[Json, None], out: TextIO | None = None) -> None:
    """Shows a stream of status lines; raises DaemonError if the last is not "success"."""
    progress, last = ProgressView(out or sys.stderr), ""
    try:
        async with aclosing(lines):
            async for line in lines:
                progress.show(line)
                last = str(line.get("status", ""))
    finally:
        progress.close()
    if last != "success":
        raise DaemonError(f"the daemon stopped after {last!r}; try again, finished layers are kept")
