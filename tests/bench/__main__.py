"""`python -m bench`: Outrider and llama-server in turn on one model, and how they compare.

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
from outrider.daemon.runners.process import RUNNER_ENV
from outrider.models.store import Store

from . import ahead, overhead
from .ahead_table import ahead_table
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

NUM_CTX = 8192
OVERHEAD, AHEAD = "overhead", "ahead"
NAMES = (*SCENARIOS, OVERHEAD, AHEAD)
AHEAD_PREDICT = {QUICK: 48, FULL: 64}  # tokens of a stream that is alone, ...
GPU_PREDICT = 8  # ... and times as many on a GPU: 64 would come in a few lines, of 25 ms each
QUIET_LOAD = 0.5
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured, and with what."""

    names: Sequence[str]
    size: Size
    num_runs: int
    store_root: Path
    load: Load
    peer: Path
    peer_env: dict[str, str]
    pair: str  # of PAIRS
    cells: Sequence[ahead.Cell]  # of reading ahead


def main() -> None:
    args = _parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the servers, as Ctrl-C does
    try:
        _show(args.show) if args.show else _show(_bench(args))
    except BenchFailed as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(f"bench: stopped; what was measured until then is in {args.out}, see --show")


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Outrider beside llama-server")
    parser.add_argument("--runs", type=_positive, help="measure both so often (default 3)")
    parser.add_argument("--only", type=_names, default=NAMES, help=f"some of {','.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="one run of shorter measurements")
    parser.add_argument("--out", type=Path, default=Path(".cache/bench"), help="where results go")
    parser.add_argument(
        "--peer-env",
        choices=("same", "default"),
        default="same",
        help="whether llama-server gets the environment of our runner, with its OpenMP setting",
    )
    parser.add_argument(
        "--pair", choices=PAIRS, default="qwen", help=f"with whom {AHEAD} is measured"
    )
    parser.add_argument(
        "--cells", type=_cells, default=ahead.CELLS, help=f"of {AHEAD}, such as 1-chat-0,8-json-1"
    )
    parser.add_argument("--gpu", action="store_true", help="stop if there is no GPU to decode on")
    parser.add_argument("--show", type=Path, help="table and plot of results that were saved")
    return parser.parse_args(words)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of runs")
    return int(text)


def _names(text: str) -> list[str]:
    return _chosen(text, {name: name for name in NAMES}, "scenario")


def _cells(text: str) -> list[ahead.Cell]:
    return _chosen(text, {cell.name: cell for cell in ahead.CELLS}, "cell")


def _chosen(text: str, known: Mapping[str, T], kind: str) -> list[T]:
    """Those of the known that are named, with commas between."""
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"no {kind} {unknown[0]!r}; there are {', '.join(known)}")
    return [known[name] for name in names]


def _bench(args: argparse.Namespace) -> Path:
    """Measure, saving whenever there is more to save; the file with the results."""
    if args.gpu:
        require_gpu()
    peer = ensure_peer(cache_home())
    store_root = models_root()
    asyncio.run(ensure(Store(store_root), MODEL, follow))
    load = plan_of(store_root, MODEL, slots=SLOTS, ctx=NUM_CTX)
    num_runs = args.runs or (1 if args.quick else 3)
    size = QUICK if args.quick else FULL
    env = RUNNER_ENV if args.peer_env == "same" else {}
    plan = Plan(args.only, size, num_runs, store_root, load, peer, env, args.pair, args.cells)
    results = Results(datetime.now(UTC), _machine(), _settings(plan, args), [])

    def keep() -> Path:
        return save(results, args.out)

    for number in range(1, num_runs + 1):
        results.runs.append(_begin(plan, number))
        _measure(plan, number, results.runs[-1], keep)
    if AHEAD in plan.names:
        _read_ahead(plan, results.runs, keep)
    return keep()


def _begin(plan: Plan, number: int) -> Run:
    """A run in which nothing is measured yet."""
    load_average = os.getloadavg()[0]
    if load_average > QUIET_LOAD:
        tell(f"the machine is busy (load average {load_average:.1f}): the figures will be noisy")
    tell(f"run {number} of {plan.num_runs}")
    return Run(round(load_average, 2), {}, {})


def _measure(plan: Plan, number: int, run: Run, keep: Callable[[], object]) -> None:
    """Fill the run; `keep` is called whenever figures were added."""
    for sitting, names in enumerate(_sittings(plan.names), number):
        _sit(plan, names, sitting, run, keep)
    if OVERHEAD in plan.names:
        tell("  the engine's overhead")
        run.outrider.update(overhead.measure(Path(plan.load.model), plan.load.threads))
        keep()


def _read_ahead(plan: Plan, runs: Sequence[Run], keep: Callable[[], object]) -> None:
    """Cell by cell, for all runs."""
    tell("reading ahead")
    pair = PAIRS[plan.pair]
    model = pair.ensure(plan.store_root)
    load = plan_of(plan.store_root, model, slots=ahead.SLOTS, ctx=ahead.NUM_CTX)
    predict = AHEAD_PREDICT[plan.size] * (1 if gpu_name() == "none" else GPU_PREDICT)
    found = ahead.measure(
        load, plan.store_root, model, plan.peer, pair, plan.cells, len(runs), predict
    )
    for number, ours, theirs in found:
        runs[number].outrider.update(ours)
        runs[number].peer.update(theirs)
        keep()


def _sittings(names: Sequence[str]) -> list[list[str]]:
    """Of a run, with the scenarios of each: rates are measured in two."""
    all_of_them = [name for name in SCENARIOS if name in names]
    rates = [name for name in all_of_them if name in RATES]
    return [found for found in (all_of_them, rates) if found]


def _sit(
    plan: Plan, names: Sequence[str], number: int, run: Run, keep: Callable[[], object]
) -> None:
    """Start both servers, which then take turns within every scenario: a machine that gets slower
    or faster meanwhile does so for both. Whoever starts first was seen to be 1 to 3 % faster, so
    every other time that is the other one."""
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        starts = [
            (start_outrider(plan.store_root, MODEL, plan.load, folder), run.outrider),
            (start_peer(plan.peer, plan.load, folder, plan.peer_env), run.peer),
        ]
        sides = [
            (stack.enter_context(server), values)
            for server, values in (starts if number % 2 else reversed(starts))
        ]
        asyncio.run(_take_turns(plan.size, names, number, sides, keep))


async def _take_turns(
    size: Size,
    names: Sequence[str],
    number: int,
    sides: Sequence[tuple[Server, Values]],
    keep: Callable[[], object],
) -> None:
    """Scenario by scenario, `keep` after each; figures of an earlier sitting count as much."""
    async with AsyncExitStack() as stack:
        asked = [
            (server, await stack.enter_async_context(Client(server.url, server.api)))
            for server, _ in sides
        ]
        for server, client in asked:
            await warm_up(Trial(server, client, Prompts("warm-up"), size))
        for name in names:
            start_s = time.monotonic()
            found = await _ask_in_turns(name, number, asked, size)
            for (_, values), figures in zip(sides, found, strict=True):
                values.update(mean([figures, {**figures, **values}]))
            keep()
            tell(f"  {name:<14} {time.monotonic() - start_s:6.1f} s")


async def _ask_in_turns(
    name: str, number: int, asked: Sequence[tuple[Server, Client]], size: Size
) -> list[Values]:
    """What a scenario says of each server; every other time they change places."""
    found: list[list[Values]] = [[] for _ in asked]
    for turn in range(number, number + TURNS.get(name, 1)):
        order = list(enumerate(asked))
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
        "peer_env": args.peer_env,
        "size": "quick" if args.quick else "full",
        **({"pair": args.pair} if AHEAD in plan.names else {}),
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
    """Table and plot from the JSON alone."""
    results = read(path)
    picture = path.with_suffix(".svg")
    write_plot(results, picture)
    findings = find(results)
    tables = [*([table(findings)] if findings else []), ahead_table(results)]
    print("", *tables, f"results: {path}\nplot:    {picture}", sep="\n\n")


if __name__ == "__main__":
    main()
