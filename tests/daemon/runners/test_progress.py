"""Which runners have been silent over their work for too long."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from fake_runner import FakeRunner, FakeRunners
from outrider.daemon.protocol import Load
from outrider.daemon.runners.loaded_model import LoadedModel, RunnerSpec
from outrider.daemon.runners.plan import LoadPlan
from outrider.daemon.runners.progress import find_stuck
from outrider.quant.memory import MemoryEstimate, PartBytes

pytestmark = pytest.mark.unit

LOAD = Load("/m", 512, cells=512, slots=1, batch=1, threads=1)


@dataclass
class SilentRunner(FakeRunner):
    """A runner that tells how long it is overdue."""

    silent_s: float
    overdue_s: float

    def __init__(self, overdue_s: float) -> None:
        super().__init__(LOAD, FakeRunners())
        self.silent_s, self.overdue_s = overdue_s + 30.0, overdue_s


def loaded(name: str, runner: FakeRunner) -> LoadedModel:
    plan = LoadPlan(LOAD, MemoryEstimate(PartBytes()))
    return LoadedModel(RunnerSpec(name, "", LOAD, lambda _: plan), plan, runner, 1.0)


def test_only_runners_that_are_long_overdue_count() -> None:
    models = [
        loaded("quick", SilentRunner(0.0)),
        loaded("slow", SilentRunner(9.0)),
        loaded("stuck", SilentRunner(11.0)),
        loaded("mute", FakeRunner(LOAD, FakeRunners())),
    ]
    assert find_stuck(models, 10.0) == ["stuck"]
