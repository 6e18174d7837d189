"""What every handler uses: the settings, the models on disk, and the loaded ones."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from ..config import Settings
from ..metrics.exporter import Metrics
from ..options import Options
from ..protocol import Ready
from ..runners.correction_store import CorrectionStore, observe
from ..runners.loaded_model import RunnerSpec
from ..runners.machine import Machine
from ..runners.model_info import ModelIndex, ModelInfo
from ..runners.plan import LoadPlan, plan_embedding, plan_load, word_wish
from ..runners.pool import RunnerPool
from ..runners.wording import LoadRequest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AppState:
    settings: Settings
    model_index: ModelIndex
    pool: RunnerPool
    metrics: Metrics
    machine: Machine  # without its live figures, which the pool reads before a load
    corrections: CorrectionStore

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
            lambda machine: make_plan(
                *(info, options, self.settings, machine),
                estimate=self.corrections.estimate(info.header.architecture, machine),
            ),
            partial(self._learn, info),
        )

    def _learn(self, info: ModelInfo, plan: LoadPlan, ready: Ready) -> None:
        """Keep what a load has taken, beside what was predicted."""
        if seen := observe(plan, ready):
            self.corrections.add(
                info.header.architecture, (self.machine.processor, plan.gpus), seen
            )
            log.info("%s: memory predicted %+.1f %% off", info.model.name.short, 100 * seen.error)


APP_STATE = web.AppKey("state", AppState)
