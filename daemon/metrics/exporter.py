"""What does `/metrics` answer? The text of all figures, read when it is asked for."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

from prometheus_client import ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from ..runners.pool import RunnerPool
from .families import family, of_pool, of_requests, of_stats
from .log_counter import LogCounter
from .request_metrics import RequestMetrics

UNKNOWN = "unknown"  # the version of a package that is not installed


class CountsConnections(Protocol):
    """Who knows the connections."""

    num_open: int
    num_refused: int


class Metrics(Collector):
    """Counts requests and log lines; the rest is read from pool and runners at each scrape."""

    def __init__(self, pool: RunnerPool) -> None:
        self.requests = RequestMetrics()
        self.log_counter = LogCounter()
        self.connections: CountsConnections | None = None
        """None until the daemon listens."""
        self._pool = pool
        packages = (_version("outrider"), platform.python_version(), _version("llama-cpp-python"))
        self._versions = packages
        self._process = ProcessCollector(registry=None)  # process_resident_memory_bytes and others
        # The other threads of the daemon may all be waiting for a disk that hangs.
        self._writer = ThreadPoolExecutor(1, "metrics")

    async def render(self) -> tuple[bytes, str]:
        """The text that Prometheus reads, and its content type.

        Figures are read at once, and written in a thread: the text of 100 models takes 40 ms.
        """
        families = _MetricFamilies([*self.collect(), *self._process.collect()])
        loop = asyncio.get_running_loop()
        text = await loop.run_in_executor(self._writer, generate_latest, families)
        return text, CONTENT_TYPE_LATEST

    def collect(self) -> Iterator[Metric]:
        """All metrics of the catalogue."""
        yield from of_requests(self.requests)
        loaded_names = {loaded.spec.name for loaded in self._pool.loaded_models}
        yield from of_stats(self._pool.stats_by_model, loaded_names)
        yield from of_pool(self._pool)
        yield from self._of_daemon()

    def _of_daemon(self) -> Iterator[Metric]:
        table = self.connections
        yield family("connections_open", {(): table.num_open if table else 0})
        yield family("connections_refused_total", {(): table.num_refused if table else 0})
        counts = self.log_counter.counts
        yield family("log_records_total", {(level,): count for level, count in counts.items()})
        yield family("build_info", {self._versions: 1})


class _MetricFamilies(CollectorRegistry):
    """What has been read, as the library writes it."""

    def __init__(self, families: Sequence[Metric]) -> None:
        super().__init__()
        self._read = families

    def collect(self) -> Iterator[Metric]:
        """The families."""
        return iter(self._read)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return UNKNOWN
