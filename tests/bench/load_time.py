"""How long does a stored model take from nothing to its first token?

Outrider's daemon is up, as a service is, and the model is not loaded; llama-server is started. Once
with the weights in the page cache, and once without.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path
from statistics import median

from outrider.daemon.protocol import Load

from .load import Api, Ask, Client
from .scenarios import MODEL, Values
from .servers import start_outrider, start_peer

REPEATS = 3
ASK = Ask("Once upon a time", num_predict=1)


def measure(store_root: Path, load: Load, peer: Path) -> tuple[Values, Values]:
    """Milliseconds to the first token for both, in turns."""
    ours: dict[str, list[float]] = {"load-warm": [], "load-cold": []}
    theirs: dict[str, list[float]] = {name: [] for name in ours}
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as folder:
        for name in ours:
            for _ in range(REPEATS):
                _settle(load, is_cold=name == "load-cold")
                ours[name].append(_load_ours(store_root, load, Path(folder)))
                _settle(load, is_cold=name == "load-cold")
                theirs[name].append(_load_peer(load, peer, Path(folder)))
    return _medians(ours), _medians(theirs)


def _settle(load: Load, *, is_cold: bool) -> None:
    """Put the weights into the page cache, or out of it."""
    with open(load.model, "rb") as file:
        if is_cold and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        else:
            while file.read(1 << 24):
                pass


def _load_ours(store_root: Path, load: Load, folder: Path) -> float:
    with start_outrider(store_root, MODEL, load, folder) as server:
        return asyncio.run(_first_token_ms(server.url, server.api, time.perf_counter()))


def _load_peer(load: Load, peer: Path, folder: Path) -> float:
    start_s = time.perf_counter()
    with start_peer(peer, load, folder) as server:
        return asyncio.run(_first_token_ms(server.url, server.api, start_s))


async def _first_token_ms(url: str, api: Api, start_s: float) -> float:
    async with Client(url, api) as client:
        await client.ask(ASK)
    return 1000 * (time.perf_counter() - start_s)


def _medians(times: dict[str, list[float]]) -> Values:
    return {name: median(values) for name, values in times.items()}
