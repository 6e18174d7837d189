"""What every handler may use: the settings, the models on disk, and the loaded ones."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from ..config import Settings
from ..metrics import Metrics
from ..runners.model_info import ModelIndex
from ..runners.pool import RunnerPool


@dataclass(frozen=True, slots=True)
class AppState:
    settings: Settings
    model_index: ModelIndex
    pool: RunnerPool
    metrics: Metrics


APP_STATE = web.AppKey("house", AppState)
