"""How do tests run the engine in their own process, on real llama.cpp with a tiny model?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from harness import GREEDY, drive, load_spec
from harness import EngineHarness as Bench
from harness import chat_request as chat
from harness import text_request as ask
from outrider.daemon.protocol import Load, Submit
from outrider.daemon.runner.llama.context import TextContext
from outrider.daemon.runner.llama.loading import LoadedContext, load_model
from outrider.daemon.runner.speculation.calibration import prepare_speculation
from outrider.daemon.runner.speculation.controller import SpeculationController

__all__ = ["GREEDY", "Bench", "ask", "chat", "load_spec", "open_bench", "run_alone"]


@contextmanager
def open_bench(
    load: Load,
    make_controller: Callable[
        [LoadedContext[TextContext], Load], SpeculationController
    ] = prepare_speculation,
) -> Iterator[Bench]:
    """An engine on a freshly loaded model; freed at the end."""
    loaded = load_model(load, lambda _fraction: None)
    with drive(loaded, load, make_controller(loaded, load)) as bench:
        yield bench


def run_alone(load: Load, requests: Sequence[Submit]) -> dict[int, str]:
    """The text of each request alone, each on a fresh context."""
    texts: dict[int, str] = {}
    for request in requests:
        with open_bench(load) as bench:
            texts |= bench.run(request)
    return texts
