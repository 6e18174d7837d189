"""`python -m bench`: how does Outrider compare with llama-server on one model, in turns?

Run from `tests/`, or with it on the path: `make bench` does so.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import psutil
from outrider.daemon.app import ensure
from outrider.daemon.cli.progress import follow
from outrider.daemon.protocol import Load
from outrider.models.store import Store

from . import load_time, overhead, speculation
from .failure import BenchFailed
from .gpu import gpu_name, require_gpu
from .load import Client
from .peer import ensure_peer
from .plan import cache_home, models_root, plan_of
from .plot import write_plot
from .progress import tell
from .report import Fact, Results, Run, find, read, save, table
from .roster import PAIRS
from .scenarios import (
    FULL,
    MODEL,
    QUICK,
    RATES,
    SCENARIOS,
    SLOTS,
    TURNS,
    Prompts,
    Size,
    Trial,
    Values,
    mean,
    warm_up,
)
from .servers import Server, start_outrider, start_peer
from .speculation_table import speculation_table

NUM_CTX = 8192
OVERHEAD, LOAD_TIME, SPECULATION = "overhead", "load-time", "speculation"
NAMES = (*SCENARIOS, OVERHEAD, LOAD_TIME, SPECULATION)
STREAM_PREDICT = {QUICK: 48, FULL: 64}  # tokens of a single stream
GPU_PREDICT = 8
"""Factor for STREAM_PREDICT on a GPU, where 64 tokens arrive in a few lines, 25 ms apart."""
QUIET_LOAD = 0.5  # load average (1 minute) of an idle machine, at most
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, and with which servers and sizes."""

    names: Sequence[str]
    size: Size
    num_runs: int
    store_root: Path
    load: Load
    peer: Path
    pair: str  # of PAIRS
    cells: Sequence[speculation.Cell]  # of speculative decoding


def main() -> None:
    args = _parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops the servers, as Ctrl-C does
    try:
        _show(args.show) if args.show else _show(_bench(args))
    except BenchFailed as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(f"bench: stopped; the figures so far are in {args.out}, see --show")


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Outrider beside llama-server")
    parser.add_argument("--runs", type=_positive, help="number of runs (default 3)")
    parser.add_argument("--only", type=_names, default=NAMES, help=f"some of {','.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="one run of shorter measurements")
    parser.add_argument(
        "--out", type=Path, default=Path(".cache/bench"), help="folder of the results"
    )
    parser.add_argument(
        "--pair", choices=PAIRS, default="qwen", help=f"model and drafter for {SPECULATION}"
    )
    parser.add_argument(
        "--cells",
        type=_cells,
        default=speculation.CELLS,
        help=f"cells of {SPECULATION}, such as 1-chat-0,8-json-1",
    )
    parser.add_argument("--gpu", action="store_true", help="stop if there is no GPU to decode on")
    parser.add_argument("--show", type=Path, help="table and plot of saved results")
    return parser.parse_args(words)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of runs")
    return int(text)


def _names(text: str) -> list[str]:
    return _chosen(text, {name: name for name in NAMES}, "scenario")


def _cells(text: str) -> list[speculation.Cell]:
    return _chosen(text, {cell.name: cell for cell in speculation.CELLS}, "cell")


def _chosen(text: str, known: Mapping[str, T], kind: str) -> list[T]:
    """The values of the names in a comma-separated list."""
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"no {kind} {unknown[0]!r}; there are {', '.join(known)}")
    return [known[name] for name in names]


def _bench(args: argparse.Namespace) -> Path:
    """Measures and saves after every scenario; returns the file with the results."""
    if args.gpu:
        require_gpu()
    peer = ensure_peer(cache_home())
    store_root = models_root()
    asyncio.run(ensure(Store(store_root), MODEL, follow))
    load = plan_of(store_root, MODEL, slots=SLOTS, ctx=NUM_CTX)
    num_runs = args.runs or (1 if args.quick else 3)
    size = QUICK if args.quick else FULL
    plan = Plan(args.only, size, num_runs, store_root, load, peer, args.pair, args.cells)
    results = Results(datetime.now(UTC), _machine(), _settings(plan, args), [])

    def store() -> Path:
        return save(results, args.out)

    for number in range(1, num_runs + 1):
        results.runs.append(_begin(plan, number))
        _measure(plan, number, results.runs[-1], store)
    if SPECULATION in plan.names:
        _measure_speculation(plan, results.runs, store)
    return store()


def _begin(plan: Plan, number: int) -> Run:
    """A run without figures."""
    load_average = os.getloadavg()[0]
    if load_average > QUIET_LOAD:
        tell(f"the machine is busy (load average {load_average:.1f}): the figures will be noisy")
    tell(f"run {number} of {plan.num_runs}")
    return Run(round(load_average, 2), {}, {})


def _measure(plan: Plan, number: int, run: Run, store: Callable[[], object]) -> None:
    """Fills the run, and calls `store` whenever figures were added."""
    for sitting, names in enumerate(_sittings(plan.names), number):
        _sit(plan, names, sitting, run, store)
    if OVERHEAD in plan.names:
        tell("  the engine's overhead")
        run.outrider.update(overhead.measure(Path(plan.load.model), plan.load.threads))
        store()
    if LOAD_TIME in plan.names:
        tell("  loading")
        ours, theirs = load_time.measure(plan.store_root, plan.load, plan.peer)
        run.outrider.update(ours)
        run.peer.update(theirs)
        store()


def _measure_speculation(plan: Plan, runs: Sequence[Run], store: Callable[[], object]) -> None:
    """Cell by cell, for all runs."""
    tell("speculative decoding")
    pair = PAIRS[plan.pair]
    model = pair.ensure(plan.store_root)
    load = plan_of(plan.store_root, model, slots=speculation.SLOTS, ctx=speculation.NUM_CTX)
    predict = STREAM_PREDICT[plan.size] * (1 if gpu_name() == "none" else GPU_PREDICT)
    found = speculation.measure(
        load, plan.store_root, model, plan.peer, pair, plan.cells, len(runs), predict
    )
    for number, ours, theirs in found:
        runs[number].outrider.update(ours)
        runs[number].peer.update(theirs)
        store()


def _sittings(names: Sequence[str]) -> list[list[str]]:
    """The sittings of a run, each a list of scenarios; rates are measured in both."""
    all_of_them = [name for name in SCENARIOS if name in names]
    rates = [name for name in all_of_them if name in RATES]
    return [found for found in (all_of_them, rates) if found]


def _sit(
    plan: Plan, names: Sequence[str], number: int, run: Run, store: Callable[[], object]
) -> None:
    """Starts both servers, which take turns within every scenario, so that a drift of the machine's
    speed affects both. The server that starts first is 1 to 3 % faster (measured), so the order
    alternates."""
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        starts = [
            (start_outrider(plan.store_root, MODEL, plan.load, folder), run.outrider),
            (start_peer(plan.peer, plan.load, folder), run.peer),
        ]
        sides = [
            (stack.enter_context(server), values)
            for server, values in (starts if number % 2 else reversed(starts))
        ]
        asyncio.run(_take_turns(plan.size, names, number, sides, store))


async def _take_turns(
    size: Size,
    names: Sequence[str],
    number: int,
    sides: Sequence[tuple[Server, Values]],
    store: Callable[[], object],
) -> None:
    """Scenario by scenario, `store` after each; sittings are averaged."""
    async with AsyncExitStack() as stack:
        servers = [
            (server, await stack.enter_async_context(Client(server.url, server.api)))
            for server, _ in sides
        ]
        for server, client in servers:
            await warm_up(Trial(server, client, Prompts("warm-up"), size))
        for name in names:
            start_s = time.monotonic()
            found = await _run_in_turns(name, number, servers, size)
            for (_, values), figures in zip(sides, found, strict=True):
                values.update(mean([figures, {**figures, **values}]))
            store()
            tell(f"  {name:<14} {time.monotonic() - start_s:6.1f} s")


async def _run_in_turns(
    name: str, number: int, servers: Sequence[tuple[Server, Client]], size: Size
) -> list[Values]:
    """The figures of a scenario for each server; the order alternates."""
    found: list[list[Values]] = [[] for _ in servers]
    for turn in range(number, number + TURNS.get(name, 1)):
        order = list(enumerate(servers))
        for i, (server, client) in order if turn % 2 else reversed(order):
            trial = Trial(server, client, Prompts(f"{number} {turn} {name}"), size)
            found[i].append(await SCENARIOS[name](trial))
    return [mean(of_side) for of_side in found]


def _settings(plan: Plan, args: argparse.Namespace) -> dict[str, Fact]:
    load = plan.load
    return {
        "model": MODEL,
        "slots": load.slots,
        "num_ctx": load.num_ctx,
        "cells": load.cells,
        "batch": load.batch,
        "threads": load.threads,
        "kv_type": load.kv_type,
        "size": "quick" if args.quick else "full",
        **({"pair": args.pair} if SPECULATION in plan.names else {}),
    }


def _machine() -> dict[str, Fact]:
    packages = ("outrider", "llama-cpp-python", "aiohttp")
    return {
        "cpu": _cpu(),
        "cores": psutil.cpu_count(logical=False) or 0,
        "threads": psutil.cpu_count() or 0,
        "gpu": gpu_name(),
        "memory_mib": psutil.virtual_memory().total >> 20,
        "load_average": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _show(path: Path) -> None:
    """Prints the table and draws the plot from the JSON."""
    results = read(path)
    picture = path.with_suffix(".svg")
    write_plot(results, picture)
    findings = find(results)
    tables = [*([table(findings)] if findings else []), speculation_table(results)]
    print("", *tables, f"results: {path}\nplot:    {picture}", sep="\n\n")


if __name__ == "__main__":
    main()
