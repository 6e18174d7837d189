"""What does the daemon load for a model, and where does the bench keep its models?"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psutil
from outrider.daemon.config import Settings
from outrider.daemon.options import Options
from outrider.daemon.protocol import Load
from outrider.daemon.runners.machine import read_machine
from outrider.daemon.runners.model_info import ModelIndex
from outrider.daemon.runners.plan import plan_load
from outrider.models.store import Store

BATCH = 512


def cache_home() -> Path:
    """Of all that is fetched and built, and may be deleted."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "outrider"


def models_root() -> Path:
    """Of the store with the bench's own models."""
    return cache_home() / "test-models"


def plan_of(store_root: Path, model: str, *, slots: int, ctx: int) -> Load:
    """The daemon's own plan for these settings, which the peer is then given too."""
    model_index = ModelIndex(Store(store_root))
    info = asyncio.run(model_index.find(model, f"{model} is not in {store_root}"))
    threads = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    options = Options(num_batch=BATCH, num_thread=threads)
    settings = Settings.load(num_parallel=slots, context_length=ctx, kv_cache_type="f16")
    return plan_load(info, options, settings, read_machine()).load
