"""Mixed work of eight clients for a long time: memory, descriptors, threads and times stay.

The samples go to `OUTRIDER_LONG_OUT` (default `.cache/long`) as `soak.csv` and `soak.svg`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from daemons import Daemon, start_daemon
from long.log_faults import find_faults
from long.processes import ProcessSample, take_sample, wait_until
from long.series_plot import SeriesPanel, write_drawing, write_table
from long.sizes import SIZES
from long.soak_work import PROBE, SoakRecord, work_for
from outrider.daemon.heap import RETURN_S
from scripted_models import ROUTER, write_models
from tiny import write_llama
from tiny_bert import write_bert
from weights import import_gguf

pytestmark = pytest.mark.long

STREAMS = 8
PARTS, WARM_PARTS = 6, 2  # of the soak, and of its warm-up
STEADY = ("tiny", "bert", ROUTER)
SAMPLE_S = 2.0
REST_S = 30.0  # for what has been asked for to end
MIB = 1 << 20


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    root = tmp_path / "models"
    for seed, name in enumerate(("tiny", "first", "second")):
        import_gguf(root, name, write_llama(tmp_path / f"{name}.gguf", seed=seed))
    import_gguf(root, "bert", write_bert(tmp_path / "bert.gguf"))
    import_gguf(root, ROUTER, dict(write_models(tmp_path))[ROUTER], params={"temperature": 0})
    env = {
        "OUTRIDER_MAX_LOADED_MODELS": "5",
        "OUTRIDER_KEEP_ALIVE": "-1",
        "OUTRIDER_CONTEXT_LENGTH": "1024",
        "OUTRIDER_NUM_PARALLEL": str(STREAMS),
        # A runner keeps old prompts in one part in 16 of it, which the warm-up has to fill.
        "OUTRIDER_MEMORY_LIMIT": "256MiB",
    }
    with start_daemon(root, tmp_path, env=env) as running:
        yield running


@dataclass
class Watch:
    """Samples of the front and its steady runners, over time."""

    processes: dict[str, psutil.Process]
    start_s: float
    samples: dict[str, list[tuple[float, ProcessSample]]] = field(default_factory=dict)

    def look(self) -> dict[str, ProcessSample]:
        now_s = time.monotonic() - self.start_s
        found = {}
        for name, process in self.processes.items():
            found[name] = take_sample(process)
            self.samples.setdefault(name, []).append((now_s, found[name]))
        return found

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(SAMPLE_S):
                with contextlib.suppress(psutil.Error):  # of a runner that has ended
                    self.look()

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def load_steady(daemon: Daemon) -> dict[str, psutil.Process]:
    """The front, and the runner of each model that stays loaded."""
    found = {"front": psutil.Process(daemon.process.pid)}
    for name in STEADY:
        known = {process.pid for process in found.values()}
        path = "/api/embed" if name == "bert" else "/api/generate"
        assert daemon.post(path, {"model": name, "input": "x"})[0] == 200
        (found[name],) = (runner for runner in daemon.runners() if runner.pid not in known)
    return found


def fill_threads(daemon: Daemon) -> None:
    """So many requests at a time that the daemon has all threads that it starts on demand."""
    with ThreadPoolExecutor(64) as pool:
        assert {status for status, _ in pool.map(daemon.get, ["/api/tags"] * 256)} == {200}


def come_to_rest(daemon: Daemon, watch: Watch) -> dict[str, ProcessSample]:
    """What the processes take when nobody asks for anything and no further model is loaded."""
    ended = [line for line in daemon.log.read_text().splitlines() if "ended with status" in line]
    assert not ended, ended
    assert wait_until(lambda: len(daemon.runners()) == len(STEADY), REST_S) is not None
    time.sleep(RETURN_S + SAMPLE_S)
    return watch.look()


def p99(times_s: Sequence[float]) -> float:
    return sorted(times_s)[int(0.99 * (len(times_s) - 1))]


def panels_of(watch: Watch, record: SoakRecord) -> list[SeriesPanel]:
    def line(name: str, value: str, unit: int = 1) -> list[tuple[float, float]]:
        return [(at_s, getattr(sample, value) / unit) for at_s, sample in watch.samples[name]]

    names = list(watch.samples)
    return [
        SeriesPanel("memory", "MiB", {n: line(n, "rss_bytes", MIB) for n in names}),
        SeriesPanel("descriptors", "", {n: line(n, "descriptors") for n in names}),
        SeriesPanel("threads", "", {n: line(n, "threads") for n in names}),
        SeriesPanel("time of a chat", "s", {PROBE: record.took[PROBE]}),
    ]


@pytest.mark.timeout(600 + 2 * SIZES.soak_s)
def test_nothing_grows_under_mixed_work(daemon: Daemon, measurements: list[str]) -> None:
    part_s, record = SIZES.soak_s / PARTS, SoakRecord()
    fill_threads(daemon)
    watch = Watch(load_steady(daemon), record.start_s)
    with watch.running():
        asyncio.run(work_for(daemon.url, part_s * WARM_PARTS, STREAMS, SIZES.seed, record))
        before, warm_s = come_to_rest(daemon, watch), time.monotonic() - record.start_s
        asyncio.run(
            work_for(daemon.url, part_s * (PARTS - WARM_PARTS), STREAMS, SIZES.seed, record)
        )
        end_s = time.monotonic() - record.start_s
        after = come_to_rest(daemon, watch)
    out = Path(os.environ.get("OUTRIDER_LONG_OUT", ".cache/long"))
    out.mkdir(parents=True, exist_ok=True)
    panels = panels_of(watch, record)
    write_table(out / "soak.csv", panels)
    write_drawing(out / "soak.svg", panels)
    probes = [(at_s, took_s) for at_s, took_s in record.took[PROBE] if at_s > warm_s]
    first = p99([took_s for at_s, took_s in probes if at_s < warm_s + part_s])
    last = p99([took_s for at_s, took_s in probes if at_s > end_s - part_s])
    measurements.append(
        f"soak of {SIZES.soak_s:.0f} s at {STREAMS} clients: {dict(record.counts)}, "
        f"{len(record.errors)} errors; p99 of a chat {first:.3f} s first, {last:.3f} s last"
    )
    for name in before:
        measurements.append(f"  {name}: {describe(before[name], after[name])}")
    assert not record.errors, record.errors[:10]
    assert not find_faults(daemon.log), find_faults(daemon.log)
    for name, sample in after.items():
        growth = sample.rss_bytes / before[name].rss_bytes - 1
        assert growth < SIZES.rss_growth, f"{name} has grown by {growth:.1%}"
        assert sample.descriptors <= before[name].descriptors, name
        assert sample.threads <= before[name].threads, name
    assert last < first * (1 + SIZES.p99_growth)


def describe(before: ProcessSample, after: ProcessSample) -> str:
    growth = after.rss_bytes / before.rss_bytes - 1
    return (
        f"{before.rss_bytes / MIB:.1f} -> {after.rss_bytes / MIB:.1f} MiB ({growth:+.1%}), "
        f"descriptors {before.descriptors} -> {after.descriptors}, "
        f"threads {before.threads} -> {after.threads}"
    )
