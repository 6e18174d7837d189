"""What every handler may use: the settings, the models on disk, and the loaded ones."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from ..config import Settings
from ..fleet import Fleet
from ..inventory import Inventory
from ..metrics import Metrics


@dataclass(frozen=True, slots=True)
class House:
    settings: Settings
    inventory: Inventory
    fleet: Fleet
    metrics: Metrics


HOUSE = web.AppKey("house", House)
