"""What every handler uses: the settings, the models on disk, and the loaded ones."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from ..config import Settings
from ..metrics import Metrics
from ..options import Options
from ..runners.model_info import ModelIndex, ModelInfo, plan_embedding, plan_load
from ..runners.pool import RunnerPool, RunnerSpec


@dataclass(frozen=True, slots=True)
class AppState:
    settings: Settings
    model_index: ModelIndex
    pool: RunnerPool
    metrics: Metrics

    def runner_spec(
        self, info: ModelInfo, options: Options, *, embedding: bool = False
    ) -> RunnerSpec:
        """How this model is loaded for a request with these options."""
        plan = plan_embedding if embedding else plan_load
        load = plan(info, options, self.settings)
        return RunnerSpec(info.model.name.short, info.model.digest, load)


APP_STATE = web.AppKey("state", AppState)
