"""The fields of a request to /v1/systemone (CONTRACT 2.8)."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

from ...duration import parse_duration
from ..wire_model import WireModel

KeepAlive = Annotated[float | None, BeforeValidator(parse_duration)]


class DecisionQuestion(WireModel):
    type: str = ""
    instructions: object = None  # text, a JSON object or an array
    criteria: object = None  # what it may be depends on the type


class DecisionRequest(WireModel):
    model: str = ""
    state: object = None  # text, a JSON object or an array
    questions: dict[str, DecisionQuestion] = {}
    images: list[object] = []
    videos: list[object] = []
    keep_alive: KeepAlive = None
