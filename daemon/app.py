"""The front: routes, middlewares, and what it serves with."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version as package_version

from aiohttp import web

from ..models.errors import ModelError
from ..models.sources.reference import RemoteReference
from ..models.sources.registry import Network
from ..models.sources.resumable import sweep_downloads
from ..models.store import Store
from .api import ui
from .api.anthropic import completions as anthropic
from .api.anthropic.errors import ERRORS as ANTHROPIC_ERRORS
from .api.authentication import AUTHENTICATOR, Authenticator, build_authentication
from .api.body import MAX_READING, READING, unreadable
from .api.connections import (
    ConnectionLimits,
    LimitedRunner,
    fit_to_descriptors,
    watch_connection,
)
from .api.diagnosis import DOCTOR, build_doctor, doctor
from .api.drain import Drain
from .api.error_table import HEADERS, ErrorTable
from .api.guard import Handler, Origins, build_guard, cross_origin
from .api.json_response import json_response
from .api.live import FEED, build_feed, live, snapshot
from .api.ollama import account, blobs, completions, create, embed, library, transfers
from .api.ollama.errors import ERRORS as OLLAMA_ERRORS
from .api.openai import chat as openai_chat
from .api.openai import completions as openai_completions
from .api.openai import embeddings as openai_embeddings
from .api.openai import models as openai_models
from .api.openai import responses as openai_responses
from .api.openai.errors import ERRORS as OPENAI_ERRORS
from .api.openapi import openapi
from .api.paths import tidy_target
from .api.plan import plan
from .api.recent import RECENT, RecentRequests
from .api.request_log import CLIENT_LEFT, TRACER, note_request, request_headers
from .api.state import APP_STATE, AppState
from .api.streaming import Lines
from .api.systemone.decide import systemone
from .api.warning_header import warning_header
from .config import Settings
from .errors import ConfigError
from .metrics.exporter import Metrics
from .runners.correction_store import CorrectionStore
from .runners.devices import MachineReader
from .runners.machine import Machine
from .runners.model_info import ModelIndex
from .runners.pool import AUTO_MAX_LOADED, PoolLimits, RunnerPool
from .runners.process import RunnerProcess
from .sockets import BACKLOG
from .tracing.opening import open_tracer

MAX_BODY_BYTES = 64 << 20  # of a request
HEADER_BYTES = 1 << 16  # of one header or the request line: cookies of all local ports pile up
TRACER_CLOSE_S = 1.0  # for the last spans to reach their collector
MAX_THREADS = 64  # of the front; they are started as they are needed
SHUTDOWN_S = 2.0  # for which requests may go on after the time to drain (api/drain.py)
ERROR_TABLES: Mapping[str, ErrorTable] = {  # by prefix of the path
    "": OLLAMA_ERRORS,
    "/v1/": OPENAI_ERRORS,
    "/v1/messages": ANTHROPIC_ERRORS,
    "/v1/systemone": OLLAMA_ERRORS,
}

DRAIN = web.AppKey("drain", Drain)
ORIGINS = web.AppKey("origins", Origins)
Follow = Callable[[Lines], Awaitable[None]]

log = logging.getLogger("outrider")


def build_app(
    settings: Settings, store: Store, pool: RunnerPool, machine: Machine
) -> web.Application:
    """The routes, and the middlewares around all of them."""
    origins = Origins(settings.origins)
    guard = build_guard(origins, check_host=settings.is_loopback)
    authenticator, drain = Authenticator(settings.read_keys(), settings.key_parallel), Drain()
    recent = RecentRequests()
    middlewares = (
        *(watch_connection, note_request, guard, tidy_path, recent.note, answer_errors),
        *(build_authentication(authenticator), drain.count),
    )
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=middlewares)
    model_index = ModelIndex(store, prefers_go=settings.go_template, draft=settings.draft)
    app[DRAIN], app[ORIGINS], app[AUTHENTICATOR] = drain, origins, authenticator
    app[READING] = asyncio.Semaphore(MAX_READING)
    app[transfers.NETWORK] = Network()
    corrections = CorrectionStore.of(settings.cache_home)
    app[APP_STATE] = AppState(settings, model_index, pool, Metrics(pool), machine, corrections)
    outrider_version = package_version("outrider")
    app[RECENT], app[DOCTOR] = recent, build_doctor(settings)
    app[FEED] = build_feed(app, outrider_version)
    _add_routes(app)

    async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Outrider-Version"] = outrider_version
        response.headers.update(request_headers(request))
        response.headers.update(cross_origin(origins, request))
        response.headers.update(warning_header(request))

    app.on_response_prepare.append(add_headers)
    app.on_response_prepare.append(drain.mark)
    return app


def _add_routes(app: web.Application) -> None:
    app.router.add_get("/ui", ui.page)
    app.router.add_get("/ui/{name}", ui.file)
    app.router.add_get("/api/snapshot", snapshot)
    app.router.add_get("/api/live", live)
    app.router.add_post("/api/doctor", doctor)
    app.router.add_get("/", library.root)
    app.router.add_get("/metrics", library.metrics)
    app.router.add_get("/openapi.json", openapi)
    app.router.add_get("/api/version", library.version)
    app.router.add_get("/api/status", account.status)
    app.router.add_post("/api/me", account.me)
    app.router.add_post("/api/signout", account.sign_out)
    app.router.add_delete("/api/user/keys/{key}", account.sign_out)
    app.router.add_post("/api/experimental/web_search", account.web_search)
    app.router.add_post("/api/experimental/web_fetch", account.web_fetch)
    app.router.add_get("/api/experimental/model-recommendations", account.recommendations)
    app.router.add_get("/api/tags", library.tags)
    app.router.add_get("/api/ps", library.ps)
    app.router.add_post("/api/plan", plan)
    app.router.add_post("/api/show", library.show)
    app.router.add_post("/api/copy", library.copy)
    app.router.add_delete("/api/delete", library.delete)
    app.router.add_post("/api/pull", transfers.pull)
    app.router.add_post("/api/push", transfers.push)
    app.router.add_post("/api/create", create.create)
    app.router.add_head("/api/blobs/{digest}", blobs.check)
    app.router.add_post("/api/blobs/{digest}", blobs.upload)
    app.router.add_post("/api/generate", completions.generate)
    app.router.add_post("/api/chat", completions.chat)
    app.router.add_post("/api/embed", embed.embed)
    app.router.add_post("/api/embeddings", embed.embeddings)
    app.router.add_post("/v1/chat/completions", openai_chat.chat_completions)
    app.router.add_post("/v1/completions", openai_completions.completions)
    app.router.add_post("/v1/embeddings", openai_embeddings.embeddings)
    app.router.add_get("/v1/models", openai_models.models)
    app.router.add_get("/v1/models/{id:.+}", openai_models.model)
    app.router.add_post("/v1/responses", openai_responses.create)
    app.router.add_post("/v1/messages", anthropic.messages)
    app.router.add_post("/v1/messages/count_tokens", anthropic.count_tokens)
    app.router.add_post("/v1/systemone", systemone)


@web.middleware
async def tidy_path(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A trailing slash is redirected away (CONTRACT 0)."""
    if request.path == "/" or not request.path.endswith("/"):
        return await handler(request)
    status = 301 if request.method == "GET" else 307
    return web.Response(status=status, headers={"Location": tidy_target(request.rel_url)})


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error becomes a status and a body, by the table of the dialect that owns the path."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return web.Response(status=404, text="404 page not found")
    except web.HTTPMethodNotAllowed as error:
        allow = {"Allow": error.headers["Allow"]}
        return web.Response(status=405, text="405 method not allowed", headers=allow)
    except web.HTTPException:
        raise
    except Exception as error:
        if isinstance(error, ConnectionError) and request.transport is None:
            return web.Response(status=CLIENT_LEFT)
        if isinstance(error, web.RequestPayloadError):
            error = unreadable(error)
        reply = error_table(request.path).explain(error, request)
        return json_response(reply.body, HEADERS.get(reply.status), status=reply.status)


def error_table(path: str) -> ErrorTable:
    """The table of the dialect with the longest prefix of this path."""
    return ERROR_TABLES[max(filter(path.startswith, ERROR_TABLES), key=len)]


@dataclass(frozen=True, slots=True)
class Front:
    """The front while it serves."""

    url: str
    where: str  # host and port
    app: web.Application
    pool: RunnerPool


@contextlib.asynccontextmanager
async def running(settings: Settings, listening: Sequence[socket.socket]) -> AsyncIterator[Front]:
    """Serves while the block lasts: on the sockets that were given, or on one of its own.

    Raises ConfigError if the address is taken, does not exist, or is open to others without a key.
    """
    settings.check_exposure([settings.host])
    # Uploads and creations may hold a thread each: a list of models does not wait for them.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(MAX_THREADS, "front"))
    for sentence in settings.listening_warnings:
        log.warning("%s", sentence)
    store = open_store(settings)
    await _prune(store)
    reader = await MachineReader.start(limit_bytes=settings.memory_limit_bytes)
    max_loaded = settings.max_loaded_models or AUTO_MAX_LOADED
    limits = PoolLimits(max_loaded, settings.max_queue, settings.queue_timeout_s)
    start = partial(
        RunnerProcess.start, stall_s=settings.load_timeout_s, queue_s=settings.queue_timeout_s
    )
    pool = RunnerPool(start, limits, keep_alive_s=settings.keep_alive_s, read_machine=reader.read)
    app = build_app(settings, store, pool, reader.machine)
    runner = LimitedRunner(
        app,
        connection_limits(settings),
        handler_cancellation=True,  # a disconnect of the client frees its slot
        access_log=None,
        shutdown_timeout=SHUTDOWN_S,
        max_field_size=HEADER_BYTES,
        max_line_size=HEADER_BYTES,
    )
    async with _observed(app, runner):
        await runner.setup()
        try:
            await _listen(runner, settings, listening)
            host, port = runner.addresses[0][:2]
            url = settings.model_copy(update={"port_override": port}).listening_url
            yield Front(url, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", app, pool)
        finally:
            await runner.cleanup()
            await pool.close()
            await reader.close()


async def _listen(
    runner: web.AppRunner, settings: Settings, listening: Sequence[socket.socket]
) -> None:
    for given in listening:
        await web.SockSite(runner, given, backlog=BACKLOG).start()
    if listening:
        return
    try:
        await web.TCPSite(runner, settings.host or None, settings.port, backlog=BACKLOG).start()
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.host or '*'}:{settings.port}: {error.strerror}; "
            "is another daemon running? choose another address with --host or --port"
        ) from error


def open_store(settings: Settings) -> Store:
    """The models, as the settings say."""
    prunes, max_bytes = not settings.no_prune, settings.max_stored_bytes
    return Store(settings.models, prunes=prunes, max_bytes=max_bytes)


def connection_limits(settings: Settings) -> ConnectionLimits:
    """What the settings, and the descriptors of this process, allow."""
    return ConnectionLimits(
        max_total=fit_to_descriptors(settings.max_connections),
        max_per_client=settings.max_client_connections,
        idle_s=settings.idle_timeout_s,
        header_s=settings.header_timeout_s,
        send_s=settings.send_timeout_s,
    )


@contextlib.asynccontextmanager
async def _observed(app: web.Application, runner: LimitedRunner) -> AsyncIterator[None]:
    """While the block lasts log lines and connections are counted, and requests are traced if the
    environment names a collector. The last spans are sent unless it takes too long."""
    metrics, tracer = app[APP_STATE].metrics, open_tracer(os.environ)
    metrics.connections = runner.table
    if tracer:
        app[TRACER] = tracer
    with metrics.log_counter.attached():
        yield
    if tracer:
        thread = threading.Thread(target=tracer.close, daemon=True)
        thread.start()
        await asyncio.to_thread(thread.join, TRACER_CLOSE_S)


async def _prune(store: Store) -> None:
    """Remove what killed processes have left; a store that cannot be used is a warning."""
    try:
        await asyncio.to_thread(store.prune)
        await asyncio.to_thread(sweep_downloads, store.blobs.root)
    except ModelError as error:
        log.warning("%s", error)


async def ensure(store: Store, text: str, follow: Follow) -> None:
    """Pull a model unless the store has it."""
    reference = RemoteReference.parse(text)
    if not store.find(reference.name):
        await follow(transfers.report(store, reference))
