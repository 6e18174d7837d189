"""The front in this process, over header-only models and fake runners; served on loopback."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from fake_runner import FakeRunners
from outrider.daemon.api.request_log import TRACER
from outrider.daemon.api.state import APP_STATE, AppState
from outrider.daemon.app import build_app, open_store
from outrider.daemon.config import Settings
from outrider.daemon.runners.machine import Machine
from outrider.daemon.runners.pool import PoolLimits, RunnerPool
from outrider.daemon.tracing.tracer import RequestTracer
from outrider.models.store import Store
from tiny import CHATML, named, write_gguf
from weights import import_gguf

THINKING_TEMPLATE = CHATML + "{# <think> </think> #}"
LLAMA = {"context_length": 8192, "embedding_length": 64}

MACHINE = Machine("linux", "made up", physical_cores=2, memory_bytes=16 << 30)


async def read_made_up() -> Machine:
    return MACHINE


@dataclass(frozen=True)
class Front:
    """A running front: how to talk to it, and what its runners are and were sent."""

    client: TestClient[web.Request, web.Application]
    runners: FakeRunners
    pool: RunnerPool
    store: Store

    @property
    def url(self) -> str:
        return str(self.client.make_url("/")).rstrip("/")

    @property
    def state(self) -> AppState:
        """What its handlers use."""
        assert self.client.app
        return self.client.app[APP_STATE]

    async def wait_until_unloaded(self) -> None:
        """Until no model is loaded; the pool ends runners in tasks of its own."""
        for _ in range(1000):
            if not self.pool.loaded_models:
                return
            await asyncio.sleep(0)
        raise TimeoutError

    async def send(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        """Status and body of one request; bytes are sent as they are, the rest as JSON."""
        text = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        data = None if text is None else io.BytesIO(text)
        async with self.client.request(method, path, data=data) as answer:
            return answer.status, await answer.text()

    async def post(self, path: str, body: object) -> tuple[int, Any]:
        status, text = await self.send("POST", path, body)
        return status, json.loads(text)

    async def lines(self, path: str, body: object) -> list[Any]:
        """The lines of a streamed answer."""
        status, text = await self.send("POST", path, body)
        assert status == 200, text
        return [json.loads(line) for line in text.splitlines()]

    async def sse(self, path: str, body: object) -> list[Any]:
        """The data of the events of a streamed answer; what is no JSON stays text."""
        status, text = await self.send("POST", path, body)
        assert status == 200, text
        datas = [line.removeprefix("data: ") for line in text.splitlines() if line[:5] == "data:"]
        return [json.loads(data) if data[0] == "{" else data for data in datas]

    async def get(self, path: str) -> tuple[int, Any]:
        status, text = await self.send("GET", path)
        return status, json.loads(text)


def fill_store(root: Path, folder: Path) -> Path:
    """A store with header-only models: `chat`, `thinker`, `vectors`, and `full` with texts."""
    models: dict[str, dict[str, object]] = {
        "chat": named("llama", LLAMA) | {"tokenizer.chat_template": CHATML},
        "thinker": named("llama", LLAMA) | {"tokenizer.chat_template": THINKING_TEMPLATE},
        "vectors": named("bert", {**LLAMA, "pooling_type": 1}),
    }
    for name, metadata in models.items():
        import_gguf(root, name, write_gguf(folder / f"{name}.gguf", metadata, ()))
    import_gguf(root, "full", folder / "chat.gguf", system="be kind", params={"num_predict": 7})
    return root


@asynccontextmanager
async def start_front(
    root: Path, *, tracer: RequestTracer | None = None, **changes: object
) -> AsyncIterator[Front]:
    """A front over this store; `changes` replace settings."""
    settings = Settings.load().model_copy(update={"models": root, "cache_home": root, **changes})
    runners, store = FakeRunners(), open_store(settings)
    pool = RunnerPool(
        runners.start,
        PoolLimits(),
        keep_alive_s=settings.keep_alive_s,
        read_machine=read_made_up,
    )
    app = build_app(settings, store, pool, MACHINE)
    if tracer:
        app[TRACER] = tracer
    try:
        async with TestClient(TestServer(app)) as client:
            yield Front(client, runners, pool, store)
    finally:
        await pool.close()


def normalise(text: str) -> str:
    """An answer without its times, so that the rest can be compared byte by byte."""
    text = re.sub(r'("created_at": ?)"[^"]+Z"', r'\1"T"', text)
    return re.sub(r'("(?:total|load)_duration": ?)[1-9]\d*', r"\1N", text)
