"""What every handler uses: the settings, the models on disk, and the loaded ones."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from ..config import Settings
from ..metrics import Metrics
from ..options import Options
from ..runners.machine import Machine
from ..runners.model_info import ModelIndex, ModelInfo
from ..runners.plan import plan_embedding, plan_load, word_wish
from ..runners.pool import RunnerPool, RunnerSpec
from ..runners.wording import LoadRequest


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
        """What a request with these options needs, and how it is planned when it is loaded."""
        self.model_index.log_warnings(info)
        make_plan = plan_embedding if embedding else plan_load
        wish = word_wish(LoadRequest(info, options, self.settings, self.machine, embedding))
        return RunnerSpec(
            info.model.name.short,
            info.model.digest,
            wish,
            lambda machine: make_plan(info, options, self.settings, machine),
        )


APP_STATE = web.AppKey("state", AppState)
