"""How do tests run the engine in their own process, on real llama.cpp with a tiny model?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from harness import EngineHarness, drive
from outrider.daemon.protocol import Load, Submit
from outrider.daemon.runner.llama.context import TextContext
from outrider.daemon.runner.llama.loading import LoadedContext, load_model
from outrider.daemon.runner.speculation.calibration import prepare_speculation
from outrider.daemon.runner.speculation.controller import SpeculationController


@contextmanager
def open_engine(
    load: Load,
    make_controller: Callable[
        [LoadedContext[TextContext], Load], SpeculationController
    ] = prepare_speculation,
) -> Iterator[EngineHarness]:
    """An engine on a freshly loaded model; freed at the end."""
    loaded = load_model(load, lambda _fraction: None)
    with drive(loaded, load, make_controller(loaded, load)) as harness:
        yield harness


def run_alone(load: Load, requests: Sequence[Submit]) -> dict[int, str]:
    """The text of each request alone, each on a fresh context."""
    texts: dict[int, str] = {}
    for request in requests:
        with open_engine(load) as harness:
            texts |= harness.run(request)
    return texts
