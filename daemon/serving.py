"""How does the daemon start, change its settings while it runs, and stop?"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from functools import partial

from .api.authentication import AUTHENTICATOR
from .api.request_log import BadRequestFilter
from .app import DRAIN, ORIGINS, SHUTDOWN_S, Follow, Front, ensure, open_store, running
from .config import Settings
from .diagnosis.survey import find_sandbox_gaps, find_unused_gpus
from .errors import ConfigError
from .heap import keep_large_blocks_apart, share_arenas
from .heartbeat import beat, describe
from .log_lines import configure_log
from .notify import ServiceManager
from .reload import Apply, Reloader, SettingsFile
from .runners.process import EXIT_S
from .runners.progress import find_stuck
from .sockets import address_of, take_sockets

# After the daemon has ceased to accept: what was accepted has sent its request by then.
SETTLE_S = 0.1
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

log = logging.getLogger("outrider")


async def serve(load: Callable[[], Settings], pull: str | None, follow: Follow) -> None:
    """Run in the foreground until SIGINT or SIGTERM; first pull the model `pull` if it is missing.

    `load` reads the settings; `follow` shows the progress of the pull.
    """
    share_arenas()
    keep_large_blocks_apart()
    settings = load()
    configure_log(_level(settings), settings.log_format)
    logging.getLogger("aiohttp.server").addFilter(BadRequestFilter())
    for sentence in settings.warnings:
        log.warning("%s", sentence)
    for unused in find_unused_gpus(os.environ):
        log.warning("%s; %s", unused.text, unused.remedy)
    _tell_of_sandbox(settings)
    stop, hurry = _catch_stops()
    manager = ServiceManager.find(os.environ, os.getpid())
    listening = take_sockets(os.environ, os.getpid())
    # The sockets say where the daemon can be reached, and with it who has to be kept out.
    settings = _at_sockets(settings, listening)
    settings.check_exposure([settings.host])
    if pull and not await _completes(ensure(open_store(settings), pull, follow), stop):
        return
    async with running(settings, listening) as front:
        print(_greeting(front.url, pull), flush=True)
        _reload_on_hangup(settings, lambda: _at_sockets(load(), listening), front, manager)
        async with _beating(front, manager):
            await stop.wait()
        await _drain(front, listening, settings, manager, hurry)


def _tell_of_sandbox(settings: Settings) -> None:
    """What runners may do that they need not."""
    if settings.sandbox == "off":
        log.warning("runners keep all rights, as SANDBOX=off asks for")
        return
    for gap in find_sandbox_gaps():
        log.warning("%s; %s", gap.text, gap.remedy)


def _catch_stops() -> tuple[asyncio.Event, asyncio.Event]:
    """Two events: the first signal sets one, the second the other."""
    stop, hurry = asyncio.Event(), asyncio.Event()

    def note() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, note)
    return stop, hurry


def _at_sockets(settings: Settings, listening: Sequence[socket.socket]) -> Settings:
    """The settings with the address of the sockets that were given."""
    if not listening:
        return settings
    return settings.model_copy(
        update={"address": address_of(tuple(listening)), "port_override": None}
    )


def _status(front: Front) -> str:
    num_models, num_running = len(front.pool.loaded_models), front.app[DRAIN].num_running
    return describe(front.where, num_models, num_running)


def _find_stuck(front: Front) -> list[str]:
    return find_stuck(front.pool.loaded_models)


@contextlib.asynccontextmanager
async def _beating(front: Front, manager: ServiceManager) -> AsyncIterator[None]:
    """The service manager hears READY, and signs of life while the block lasts."""
    manager.say_ready(_status(front))
    if not manager.address:
        yield
        return
    look = partial(_find_stuck, front)
    task = asyncio.create_task(beat(manager, partial(_status, front), look))
    try:
        yield
    finally:
        task.cancel()


def _reload_on_hangup(
    settings: Settings, load: Callable[[], Settings], front: Front, manager: ServiceManager
) -> None:
    """SIGHUP reads the file of settings again. Without a file the signal keeps its meaning: a
    daemon in a terminal ends with it."""
    if settings.settings_file is None:
        return
    file = SettingsFile.open(settings.settings_file)

    def load_checked() -> Settings:
        """The last key cannot be taken away while other machines reach the daemon."""
        new = load()
        new.check_exposure([settings.host])
        return new

    reloader = Reloader(settings, load_checked, file, live_settings(front))

    def reload() -> None:
        manager.say_reloading()
        try:
            log.info("%s", reloader.reload())
            front.app[AUTHENTICATOR].keys = reloader.settings.read_keys()  # their file may differ
        except ConfigError as error:
            log.error("the settings stay as they are: %s", error)
        manager.say_ready(_status(front))

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)


def live_settings(front: Front) -> Mapping[str, Apply]:
    """What puts each setting into force that may change while the daemon runs."""

    def adopt(new: Settings) -> None:
        front.pool.adopt(keep_alive_s=new.keep_alive_s, max_queue=new.max_queue)

    def adopt_keys(new: Settings) -> None:
        authenticator = front.app[AUTHENTICATOR]
        authenticator.keys, authenticator.max_parallel = new.read_keys(), new.key_parallel

    return {
        "keep_alive_s": adopt,
        "max_queue": adopt,
        "api_key": adopt_keys,
        "api_key_file": adopt_keys,
        "key_parallel": adopt_keys,
        "origins": lambda new: front.app[ORIGINS].replace(new.origins),
        "debug": lambda new: logging.getLogger().setLevel(_level(new)),
    }


async def _drain(
    front: Front,
    listening: Sequence[socket.socket],
    settings: Settings,
    manager: ServiceManager,
    hurry: asyncio.Event,
) -> None:
    """Wait for the running requests, up to the bound. New connections wait in a socket of the
    service manager; without one, new requests are refused with a time to come back."""
    drain, limit_s = front.app[DRAIN], settings.drain_timeout_s
    for given in listening:
        # Closing the socket now would lose the connections that asyncio has just accepted.
        asyncio.get_running_loop().remove_reader(given.fileno())
    drain.begin(refuses=not listening)
    told = f"stopping; {drain.num_running} running requests may take up to {limit_s:g} s"
    manager.say_stopping(told, limit_s + SETTLE_S + SHUTDOWN_S + 2 * EXIT_S)
    if drain.num_running:
        log.info("%s; a second signal ends them at once", told)
    if listening:
        await asyncio.sleep(SETTLE_S)
    await _completes(drain.wait(limit_s), hurry)
    if drain.num_running:
        log.warning("%d requests are ended before their time", drain.num_running)


async def _completes(work: Coroutine[object, object, object], stop: asyncio.Event) -> bool:
    """Whether the work ended before `stop`, which cancels it."""
    task, stopped = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return not task.cancelled()


def _level(settings: Settings) -> int:
    return logging.DEBUG if settings.debug else logging.INFO


def _greeting(url: str, model: str | None) -> str:
    if model is None:
        return f"Outrider is ready at {url}; try: outrider run smollm2:135m"
    body = f'{{"model":"{model}","messages":[{{"role":"user","content":"Why is the sky blue?"}}]}}'
    return f"Outrider is ready at {url}; try: curl {url}/api/chat -d '{body}'"
