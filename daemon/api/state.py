"""What every handler uses: the settings, the models on disk, and the loaded ones."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from ..config import Settings
from ..errors import DoesNotFit
from ..metrics import Metrics
from ..options import Options
from ..runners.machine import Machine
from ..runners.model_info import ModelIndex, ModelInfo
from ..runners.plan import plan_embedding, plan_load
from ..runners.pool import RunnerPool, RunnerSpec
from ..runners.refusal import refuse_too_large


@dataclass(frozen=True, slots=True)
class AppState:
    settings: Settings
    model_index: ModelIndex
    pool: RunnerPool
    metrics: Metrics
    machine: Machine

    def runner_spec(
        self, info: ModelInfo, options: Options, *, embedding: bool = False
    ) -> RunnerSpec:
        """How this model is loaded for a request with these options. Raises DoesNotFit."""
        make_plan = plan_embedding if embedding else plan_load
        try:
            plan = make_plan(info, options, self.settings, self.machine)
            refuse_too_large(plan, info, self.machine)
        except DoesNotFit:
            self.pool.counters.refusals[info.model.name.short] += 1
            raise
        self.model_index.log_warnings(info)
        model, need_bytes = info.model, plan.need.total_bytes
        return RunnerSpec(model.name.short, model.digest, plan.load, need_bytes, plan)


APP_STATE = web.AppKey("state", AppState)
